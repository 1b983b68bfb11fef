import type { Attributes, CallRow, SpanView } from "../../src/viewer/api.js";

/** The time at which the spans of the tests start, if they do not say: that of a new `VirtualClock`. */
export const epochMs = 1_750_000_000_000;

const hex = (number: number, digits: number) => number.toString(16).padStart(digits, "0");

/** The id of a trace, from 1. */
export const traceId = (number: number) => hex(number, 32);
/** The id of a span, from 1. */
export const spanId = (number: number) => hex(number, 16);

interface SpanFacts extends Partial<Omit<SpanView, "traceId" | "spanId" | "parentSpanId">> {
  readonly trace?: number;
  readonly id: number;
  readonly parent?: number;
  readonly ms?: number;
}

/** A span, by the numbers of its ids. */
export function spanOf({ trace = 1, id, parent, ms = 10, ...facts }: SpanFacts): SpanView {
  const startMs = facts.startMs ?? epochMs;
  return {
    traceId: traceId(trace),
    spanId: spanId(id),
    ...(parent === undefined ? {} : { parentSpanId: spanId(parent) }),
    name: "shop.v1.Shop/List",
    kind: "internal",
    service: "shop",
    scope: "grpc-weir",
    startMs,
    endMs: startMs + ms,
    status: "unset",
    attributes: {},
    events: [],
    ...facts,
  };
}

/** The span of a call, of a client if nothing else is said. */
export function callSpan({ attributes = {}, ...facts }: SpanFacts): SpanView {
  const usual: Attributes = { "rpc.method": "shop.v1.Shop/List", "rpc.status_code": "OK" };
  return spanOf({ kind: "client", ...facts, attributes: { ...usual, ...attributes } });
}

/** A call, by the number of its trace. */
export function rowOf({
  trace = 1,
  id = 1,
  ...facts
}: Partial<Omit<CallRow, "id">> & { readonly trace?: number; readonly id?: number }): CallRow {
  return {
    id: `${traceId(trace)}-${spanId(id)}`,
    traceId: traceId(trace),
    spanId: spanId(id),
    service: "shop",
    side: "client",
    method: "shop.v1.Shop/List",
    status: "OK",
    policies: [],
    startMs: epochMs,
    durationMs: 10,
    attempts: 1,
    ...facts,
  };
}

/** An event for a decision. */
export function decision(policy: string, verdict: string, more: Attributes = {}, atMs = epochMs) {
  const attributes: Attributes = {
    "weir.decision.policy": policy,
    "weir.decision.verdict": verdict,
    "weir.decision.enforced": true,
    ...more,
  };
  return { name: "weir.decision", atMs, attributes };
}
