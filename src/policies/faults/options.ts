import type { Random } from "../../core/clock.js";
import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  maxDurationMs,
  oneOf,
  readOptions,
  wholeNumber,
} from "../../core/options.js";
import { codeNumber, type StatusCodeOption, statusCode } from "../../core/status.js";

/**
 * How often a fault is injected.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/faults.md
 */
export interface FaultRate {
  /** The share of the calls that get it, 0 to 1. @defaultValue 0.001 */
  readonly rate?: number;
}

/**
 * The call is delayed before it goes on.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/faults.md
 */
export interface LatencyFault extends FaultRate {
  /**
   * How long, in milliseconds, up to 24 days: a number, a range with a uniform distribution, or a function that returns a
   * number and is given a source of chance.
   */
  readonly ms: number | readonly [minMs: number, maxMs: number] | ((random: Random) => number);
}

/**
 * The call is not sent on, and ends with a status.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/faults.md
 */
export interface StatusFault extends FaultRate {
  /** The name of a status code other than OK, or its number in `grpc.status`, 1 to 16. @defaultValue UNAVAILABLE */
  readonly code?: StatusCodeOption;
  /** @defaultValue `Fault injected` */
  readonly details?: string;
  /** `grpc-retry-pushback-ms` in the trailers: milliseconds, or `stop` for no retries. @defaultValue none */
  readonly pushbackMs?: number | "stop";
}

/**
 * The call gets no answer: it lasts until its deadline, or until the caller cancels it.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/faults.md
 */
export interface DropFault extends FaultRate {}

/**
 * The call ends as if its connection had broken.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/faults.md
 */
export interface ResetFault extends FaultRate {
  /**
   * `request`: before the request is sent. `response`: when the response begins, so that the server has done the work and
   * the caller does not know. @defaultValue `request`
   */
  readonly at?: "request" | "response";
}

/**
 * The response begins, and then ends early with a status. A single response ends before its message.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/faults.md
 */
export interface MidStreamFault extends FaultRate {
  /** How many messages get through, a whole number of at least 0. @defaultValue 1 */
  readonly afterMessages?: number;
  /**
   * In place of `afterMessages`, on servers only: how many bytes get through, rounded up to whole messages. A whole number
   * of at least 0. @defaultValue none
   */
  readonly afterBytes?: number;
  /** The name of a status code other than OK, or its number in `grpc.status`, 1 to 16. @defaultValue UNAVAILABLE */
  readonly code?: StatusCodeOption;
  /** @defaultValue `Fault injected` */
  readonly details?: string;
}

/**
 * Which faults are injected, and how often. Latency is drawn by itself. The others share one draw, because a call ends in
 * one way: their rates add up to 1 at most.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/faults.md
 */
export interface FaultOptions {
  /** @defaultValue none */
  readonly latency?: LatencyFault;
  /** @defaultValue none */
  readonly status?: StatusFault;
  /** @defaultValue none */
  readonly drop?: DropFault;
  /** On clients only: an interceptor of a grpc-js server cannot break a connection. @defaultValue none */
  readonly reset?: ResetFault;
  /** @defaultValue none */
  readonly midStream?: MidStreamFault;
  /**
   * How many calls may be delayed or left without an answer at once, a whole number of at least 1. While there are so
   * many, no further fault is injected. @defaultValue 100
   */
  readonly maxActive?: number;
}

export type FaultSide = "client" | "server";

/** How a call with a fault ends. */
export type FaultEnd =
  | {
      readonly kind: "status";
      readonly code: number;
      readonly details: string;
      readonly pushbackMs: number | "stop" | undefined;
    }
  | { readonly kind: "drop" }
  | { readonly kind: "reset"; readonly at: "request" | "response" }
  | {
      readonly kind: "midStream";
      /** How much gets through; the other of the two is `Infinity`. */
      readonly afterMessages: number;
      readonly afterBytes: number;
      readonly code: number;
      readonly details: string;
    };

export interface ResolvedFaultOptions {
  readonly latency: { readonly rate: number; readonly ms: (random: Random) => number } | undefined;
  readonly ends: readonly { readonly rate: number; readonly end: FaultEnd }[];
  readonly maxActive: number;
}

const defaultRate = 0.001;
const defaultDetails = "Fault injected";
const known = ["latency", "status", "drop", "reset", "midStream", "maxActive"] as const;

/**
 * Fills in the defaults and refuses nonsense, once, before the first call.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function resolveFaultOptions(
  given: FaultOptions,
  side: FaultSide,
  prefix = "faults",
  also: readonly string[] = [],
): ResolvedFaultOptions {
  const options = readOptions(prefix, given, known, also);
  const { latency, status, drop, reset, midStream, maxActive = 100 } = options;
  if (side === "server" && reset !== undefined) {
    const rule = "absent on a server: an interceptor of grpc-js cannot break a connection";
    throw new InvalidOptionError(`${prefix}.reset`, rule, reset);
  }
  const ends = [
    ...(status === undefined ? [] : [statusEnd(status, `${prefix}.status`)]),
    ...(drop === undefined ? [] : [dropEnd(drop, `${prefix}.drop`)]),
    ...(reset === undefined ? [] : [resetEnd(reset, `${prefix}.reset`)]),
    ...(midStream === undefined ? [] : [midStreamEnd(midStream, side, `${prefix}.midStream`)]),
  ];
  const total = ends.reduce((sum, { rate }) => sum + rate, 0);
  // In binary, 0.1 + 0.2 + 0.7 is slightly above 1.
  if (total > 1 + 1e-9) {
    const rule = "given rates of status, drop, reset and midStream that add up to 1 at most";
    throw new InvalidOptionError(prefix, rule, total);
  }
  return Object.freeze({
    latency: latency === undefined ? undefined : latencyOf(latency, `${prefix}.latency`),
    ends,
    maxActive: wholeNumber(`${prefix}.maxActive`, maxActive, 1),
  });
}

function rateOf({ rate = defaultRate }: FaultRate, prefix: string): number {
  return finiteNumber(`${prefix}.rate`, rate, 0, 1);
}

function latencyOf(given: LatencyFault, prefix: string): ResolvedFaultOptions["latency"] {
  const fault = readOptions(prefix, given, ["rate", "ms"]);
  return { rate: rateOf(fault, prefix), ms: lengthOf(fault.ms, `${prefix}.ms`) };
}

function lengthOf(ms: LatencyFault["ms"], option: string): (random: Random) => number {
  if (typeof ms === "number") {
    durationMs(option, ms);
    return () => ms;
  }
  if (typeof ms === "function") return ms;
  if (!Array.isArray(ms) || ms.length !== 2) {
    throw new InvalidOptionError(option, "milliseconds, [from, to] or a function", ms);
  }
  const minMs = durationMs(`${option}[0]`, ms[0]);
  const maxMs = durationMs(`${option}[1]`, ms[1], minMs);
  return (random) => minMs + random() * (maxMs - minMs);
}

function statusEnd(given: StatusFault, prefix: string): ResolvedFaultOptions["ends"][number] {
  const fault = readOptions(prefix, given, ["rate", "code", "details", "pushbackMs"]);
  const { pushbackMs } = fault;
  if (pushbackMs !== undefined && pushbackMs !== "stop") {
    // gRFC A6 sends it as an int32, which holds every duration.
    wholeNumber(`${prefix}.pushbackMs`, pushbackMs, 0, maxDurationMs);
  }
  return {
    rate: rateOf(fault, prefix),
    end: { kind: "status", ...codeAndDetails(fault, prefix), pushbackMs },
  };
}

function dropEnd(given: DropFault, prefix: string): ResolvedFaultOptions["ends"][number] {
  const fault = readOptions(prefix, given, ["rate"]);
  return { rate: rateOf(fault, prefix), end: { kind: "drop" } };
}

function resetEnd(given: ResetFault, prefix: string): ResolvedFaultOptions["ends"][number] {
  const fault = readOptions(prefix, given, ["rate", "at"]);
  const { at = "request" } = fault;
  const end = oneOf(`${prefix}.at`, at, ["request", "response"]);
  return { rate: rateOf(fault, prefix), end: { kind: "reset", at: end } };
}

function midStreamEnd(
  given: MidStreamFault,
  side: FaultSide,
  prefix: string,
): ResolvedFaultOptions["ends"][number] {
  const fault = readOptions(prefix, given, [
    "rate",
    "afterMessages",
    "afterBytes",
    "code",
    "details",
  ]);
  const { afterMessages, afterBytes } = fault;
  if (afterBytes !== undefined && side === "client") {
    const rule = "absent on a client: its interceptors see messages, and never their bytes";
    throw new InvalidOptionError(`${prefix}.afterBytes`, rule, afterBytes);
  }
  if (afterBytes !== undefined && afterMessages !== undefined) {
    const rule = "absent where afterMessages is given";
    throw new InvalidOptionError(`${prefix}.afterBytes`, rule, afterBytes);
  }
  const bytes = afterBytes !== undefined;
  return {
    rate: rateOf(fault, prefix),
    end: {
      kind: "midStream",
      afterMessages: bytes
        ? Infinity
        : wholeNumber(`${prefix}.afterMessages`, afterMessages ?? 1, 0),
      afterBytes: bytes ? wholeNumber(`${prefix}.afterBytes`, afterBytes, 0) : Infinity,
      ...codeAndDetails(fault, prefix),
    },
  };
}

function codeAndDetails(
  { code = statusCode.unavailable, details = defaultDetails }: StatusFault,
  prefix: string,
): { readonly code: number; readonly details: string } {
  if (typeof details !== "string") {
    throw new InvalidOptionError(`${prefix}.details`, "a string", details);
  }
  // 0 is OK, which is no fault.
  return { code: codeNumber(`${prefix}.code`, code, 1), details };
}
