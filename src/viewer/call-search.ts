import type { CallRow, CallsView } from "./api.js";
import type { TraceStore } from "./trace-store.js";

/** What is asked for; each part that is given has to fit. */
export interface CallSearch {
  /** A part of the method's name, in any case. */
  readonly method?: string;
  readonly status?: string;
  readonly priority?: string;
  /** A policy that decided something about the call. */
  readonly policy?: string;
  readonly reason?: string;
  readonly service?: string;
  readonly minMs?: number;
  /** A part of the method, service, reason or id of the trace, in any case. */
  readonly q?: string;
  /** The calls before this one, by its id. */
  readonly before?: string;
  readonly limit: number;
}

/** How many calls one answer has if nothing is said, and at most. */
const usualLimit = 100;
const maxLimit = 1_000;

/** @throws RangeError that says which parameter is wrong. */
export function callSearchOf(parameters: URLSearchParams): CallSearch {
  const texts: Record<string, string> = {};
  for (const name of [
    "method",
    "status",
    "priority",
    "policy",
    "reason",
    "service",
    "q",
    "before",
  ]) {
    const value = parameters.get(name);
    if (value !== null && value !== "") texts[name] = value;
  }
  const minMs = numberOf(parameters, "minMs", 0, Number.MAX_VALUE);
  const limit = numberOf(parameters, "limit", 1, maxLimit) ?? usualLimit;
  return { ...texts, ...(minMs === undefined ? {} : { minMs }), limit: Math.floor(limit) };
}

function numberOf(
  parameters: URLSearchParams,
  name: string,
  min: number,
  max: number,
): number | undefined {
  const text = parameters.get(name);
  if (text === null || text === "") return undefined;
  const number = Number(text);
  if (number >= min && number <= max) return number;
  const range = max === Number.MAX_VALUE ? `of at least ${min}` : `from ${min} to ${max}`;
  throw new RangeError(`${name} is a number ${range}, not ${JSON.stringify(text.slice(0, 40))}`);
}

/** The calls that fit, the newest first. */
export function searchCalls(store: TraceStore, search: CallSearch): CallsView {
  const { method, q, before, limit } = search;
  const inMethod = method?.toLowerCase();
  const anywhere = q?.toLowerCase();
  const found: CallRow[] = [];
  // Where the found calls end that are older than `before`; a call that is not kept has none before it.
  let end = before === undefined ? undefined : 0;
  for (const call of store.calls.values()) {
    if (call.id === before) end = found.length;
    if (fits(call, search, inMethod, anywhere)) found.push(call);
  }
  const until = end ?? found.length;
  return {
    calls: found.slice(Math.max(0, until - limit), until).reverse(),
    total: found.length,
    kept: store.calls.size,
    dropped: store.droppedCalls,
  };
}

function fits(
  call: CallRow,
  { status, priority, policy, reason, service, minMs }: CallSearch,
  inMethod: string | undefined,
  anywhere: string | undefined,
): boolean {
  return (
    (status === undefined || call.status === status) &&
    (priority === undefined || call.priority === priority) &&
    (policy === undefined || call.policies.includes(policy)) &&
    (reason === undefined || call.reason === reason) &&
    (service === undefined || call.service === service) &&
    (minMs === undefined || call.durationMs >= minMs) &&
    (inMethod === undefined || call.method.toLowerCase().includes(inMethod)) &&
    (anywhere === undefined ||
      [call.method, call.service, call.reason ?? "", call.traceId].some((text) =>
        text.toLowerCase().includes(anywhere),
      ))
  );
}
