import { JsonFields } from "../../core/json-fields.js";
import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  oneOf,
  wholeNumber,
} from "../../core/options.js";
import {
  type BreakerCounts,
  type BreakerKnowledge,
  type BreakerState,
  Closed,
  HalfOpen,
} from "./states.js";

/**
 * The state of a breaker at one moment, for people, reports and other processes. It is plain data, and its times are
 * durations instead of readings of a clock.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/breaker.md
 */
export type BreakerSnapshot = {
  /** How long the present state has lasted, in milliseconds. */
  readonly forMs: number;
  /** How often it has opened since it was closed last. Each open period is longer than the one before. */
  readonly openedInARow: number;
} & (
  | ({
      readonly state: "closed";
      /** What is left of the ramp, in milliseconds; 0 when all calls pass. */
      readonly rampLeftMs: number;
    } & BreakerCounts)
  | ({ readonly state: "forced-closed" } & BreakerCounts)
  | { readonly state: "open"; readonly retryAfterMs: number; readonly detail: string }
  | { readonly state: "half-open"; readonly probesOut: number; readonly succeeded: number }
  | { readonly state: "forced-open" }
);

const states = ["closed", "forced-closed", "open", "half-open", "forced-open"] as const;

/** How much of `detail` is taken over, in characters. */
const maxDetail = 200;

/**
 * Checks a snapshot that may come from JSON, a file or another version.
 *
 * @param path Where it stands, for error messages.
 * @throws InvalidOptionError naming the field, its rule and what stands there.
 */
export function readBreakerSnapshot(path: string, value: unknown): BreakerSnapshot {
  const fields = new JsonFields(path, value);
  const state = oneOf(fields.at("state"), fields.get("state"), states);
  const common = { forMs: elapsed(fields, "forMs"), openedInARow: count(fields, "openedInARow") };
  switch (state) {
    case "closed":
      return { ...common, state, rampLeftMs: duration(fields, "rampLeftMs"), ...counts(fields) };
    case "forced-closed":
      return { ...common, state, ...counts(fields) };
    case "open":
      return { ...common, state, retryAfterMs: duration(fields, "retryAfterMs"), ...text(fields) };
    case "half-open":
      return {
        ...common,
        state,
        probesOut: count(fields, "probesOut"),
        succeeded: count(fields, "succeeded"),
      };
    case "forced-open":
      return { ...common, state };
  }
}

/** The state of a snapshot, continued from `nowMs` on, within the bounds of the present options. */
export function stateOf(
  snapshot: BreakerSnapshot,
  known: BreakerKnowledge,
  nowMs: number,
): BreakerState {
  const { options } = known;
  switch (snapshot.state) {
    case "closed": {
      const state = Closed.afterProbes(known, nowMs, snapshot.rampLeftMs);
      state.restore(snapshot, nowMs);
      return state;
    }
    case "forced-closed": {
      const state = new Closed(known, "forced-closed");
      state.restore(snapshot, nowMs);
      return state;
    }
    case "open": {
      const longestMs = options.maxOpenMs * (1 + options.openJitter);
      const untilMs = nowMs + Math.min(snapshot.retryAfterMs, longestMs);
      return { kind: "open", untilMs, detail: snapshot.detail, unconnected: false };
    }
    case "half-open":
      // One success is left to be seen here: only the end of a probe closes a breaker.
      return new HalfOpen(known, Math.min(snapshot.succeeded, options.successesToClose - 1));
    case "forced-open":
      return { kind: "forced-open" };
  }
}

function counts(fields: JsonFields): BreakerCounts {
  const calls = count(fields, "calls");
  return {
    calls,
    failures: count(fields, "failures", calls),
    slow: count(fields, "slow", calls),
    consecutiveFailures: count(fields, "consecutiveFailures"),
  };
}

function count(fields: JsonFields, name: string, most?: number): number {
  return wholeNumber(fields.at(name), fields.get(name), 0, most);
}

function duration(fields: JsonFields, name: string): number {
  return durationMs(fields.at(name), fields.get(name));
}

/** A time that has passed. It may be longer than any option. */
function elapsed(fields: JsonFields, name: string): number {
  return finiteNumber(fields.at(name), fields.get(name), 0, Number.MAX_SAFE_INTEGER);
}

function text(fields: JsonFields): { readonly detail: string } {
  const detail = fields.get("detail");
  if (typeof detail !== "string") {
    throw new InvalidOptionError(fields.at("detail"), "a text", detail);
  }
  return { detail: detail.slice(0, maxDetail) };
}
