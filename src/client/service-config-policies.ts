import { status as Status } from "@grpc/grpc-js";
import type { JsonFields } from "../core/json-fields.js";
import { InvalidOptionError, maxDurationMs } from "../core/options.js";
import { protoDurationMs } from "../core/proto-duration.js";

// The parts of a gRPC service config that are policies, each as options of ours. The rules are those of gRFC A6,
// "Validation of retryPolicy" and "… hedgingPolicy"; grpc-js checks by the same.

/** Told of what is taken otherwise than it is written. */
export type Warn = (path: string, warning: string) => void;

/** What a `retryPolicy` says, as retry options. */
export interface ConfiguredRetry {
  readonly maxAttempts: number;
  readonly codes: readonly number[];
  readonly backoff: {
    readonly baseMs: number;
    readonly maxMs: number;
    readonly multiplier: number;
    readonly jitter: "proportional";
  };
}

/** What a `hedgingPolicy` says, as hedge options. */
export interface ConfiguredHedge {
  readonly maxAttempts: number;
  readonly delayMs: number;
  readonly nonFatalCodes: readonly number[];
}

/** What `retryThrottling` says, as options of a retry budget: its tokens, and no ratio. */
export interface ConfiguredBudget {
  readonly maxTokens: number;
  readonly tokenRatio: number;
  readonly ratio: false;
}

/** A config cannot say what running a method twice does, and gRPC takes it for harmless. */
const knownIdempotentOnly =
  "methods known to be idempotent: by their schema, by retry.idempotent, or by a key that the server honours";

/** gRFC A6 takes more as so many. */
const attemptsLimit = 5;

export function retryOf(policy: JsonFields, warn: Warn): ConfiguredRetry {
  warnOfUnknown(policy, retryFields, warn);
  const maxAttempts = attempts(policy, warn);
  const wantedBaseMs = delayMs(policy, "initialBackoff", warn);
  const maxMs = delayMs(policy, "maxBackoff", warn);
  const multiplier = positive(policy, "backoffMultiplier");
  if (wantedBaseMs > maxMs) {
    // Which is what gRPC waits then: the maximum, from the first retry on.
    warn(policy.at("initialBackoff"), `is above maxBackoff, taken as ${maxMs} ms`);
  }
  const codes = statusCodes(policy, "retryableStatusCodes");
  if (codes.length === 0) {
    throw new InvalidOptionError(policy.at("retryableStatusCodes"), "a list of codes", codes);
  }
  if (codes.some((code) => code !== Status.UNAVAILABLE)) {
    warn(
      policy.at("retryableStatusCodes"),
      `other codes than UNAVAILABLE are retried only for ${knownIdempotentOnly}`,
    );
  }
  if (codes.includes(Status.RESOURCE_EXHAUSTED)) {
    const when = "is retried only where the server says when, by pushback or RetryInfo";
    warn(policy.at("retryableStatusCodes"), `RESOURCE_EXHAUSTED ${when}`);
  }
  return {
    maxAttempts,
    codes,
    backoff: {
      baseMs: Math.min(wantedBaseMs, maxMs),
      maxMs,
      multiplier: clamped(policy.at("backoffMultiplier"), multiplier, 1, 100, "", warn),
      jitter: "proportional",
    },
  };
}

export function hedgeOf(policy: JsonFields, warn: Warn): ConfiguredHedge {
  warnOfUnknown(policy, hedgeFields, warn);
  warn(policy.path, `is followed only for ${knownIdempotentOnly}`);
  const path = policy.at("hedgingDelay");
  const wantedMs = policy.has("hedgingDelay")
    ? protoDurationMs(path, policy.get("hedgingDelay"))
    : 0;
  return {
    maxAttempts: attempts(policy, warn),
    delayMs: clamped(path, wantedMs, 0, maxDurationMs, " ms", warn),
    nonFatalCodes: statusCodes(policy, "nonFatalStatusCodes"),
  };
}

export function budgetOf(throttling: JsonFields, warn: Warn): ConfiguredBudget {
  warnOfUnknown(throttling, throttlingFields, warn);
  const maxTokens = positive(throttling, "maxTokens");
  if (maxTokens > 1_000) {
    const rule = "a number above 0 and up to 1000";
    throw new InvalidOptionError(throttling.at("maxTokens"), rule, maxTokens);
  }
  const tokenRatio = positive(throttling, "tokenRatio");
  // Thousandths are the smallest there is of a token.
  return {
    maxTokens: clamped(throttling.at("maxTokens"), maxTokens, 0.001, 1_000, "", warn),
    tokenRatio: clamped(throttling.at("tokenRatio"), tokenRatio, 0.001, 1_000, "", warn),
    ratio: false,
  };
}

/** A timeout of at least a millisecond: less than that is no time to answer in, and none is sent as 0. */
export function timeoutOf(method: JsonFields, warn: Warn): number | undefined {
  if (!method.has("timeout")) return undefined;
  const path = method.at("timeout");
  const wantedMs = protoDurationMs(path, method.get("timeout"));
  return clamped(path, wantedMs, 1, maxDurationMs, " ms", warn);
}

/** A misspelt field would otherwise be a default that nobody asked for; a new one is no reason to fail. */
export function warnOfUnknown(fields: JsonFields, known: readonly string[], warn: Warn): void {
  for (const name of fields.names) {
    if (!known.includes(name)) warn(fields.at(name), "is not known, and ignored");
  }
}

const retryFields = [
  "maxAttempts",
  "initialBackoff",
  "maxBackoff",
  "backoffMultiplier",
  "retryableStatusCodes",
];
const hedgeFields = ["maxAttempts", "hedgingDelay", "nonFatalStatusCodes"];
const throttlingFields = ["maxTokens", "tokenRatio"];

function attempts(policy: JsonFields, warn: Warn): number {
  const path = policy.at("maxAttempts");
  const wanted = policy.get("maxAttempts");
  if (typeof wanted !== "number" || !Number.isInteger(wanted) || wanted < 2) {
    throw new InvalidOptionError(path, "a whole number of at least 2", wanted);
  }
  if (wanted > attemptsLimit) warn(path, `is ${wanted}, taken as ${attemptsLimit}`);
  return Math.min(wanted, attemptsLimit);
}

function delayMs(policy: JsonFields, name: string, warn: Warn): number {
  const path = policy.at(name);
  const wantedMs = protoDurationMs(path, policy.get(name));
  if (wantedMs === 0) throw new InvalidOptionError(path, "longer than 0s", policy.get(name));
  return clamped(path, wantedMs, 0, maxDurationMs, " ms", warn);
}

function positive(fields: JsonFields, name: string): number {
  const value = fields.get(name);
  if (typeof value !== "number" || !(value > 0) || !Number.isFinite(value)) {
    throw new InvalidOptionError(fields.at(name), "a number above 0", value);
  }
  return value;
}

function statusCodes(policy: JsonFields, name: string): readonly number[] {
  return (policy.list(name) ?? []).map((value, index) => {
    const code = typeof value === "string" ? codesByName.get(value.toUpperCase()) : value;
    if (typeof code !== "number" || !Number.isInteger(code) || code < 1 || code > 16) {
      const rule = "the name or number of a status code other than OK";
      throw new InvalidOptionError(`${policy.at(name)}[${index}]`, rule, value);
    }
    return code;
  });
}

const codesByName: ReadonlyMap<string, number> = new Map(
  // The enum maps back as well, from numbers to names.
  Object.entries(Status).filter((entry): entry is [string, Status] => typeof entry[1] === "number"),
);

function clamped(
  path: string,
  wanted: number,
  min: number,
  max: number,
  unit: string,
  warn: Warn,
): number {
  const taken = Math.min(max, Math.max(min, wanted));
  if (taken !== wanted) warn(path, `is ${wanted}${unit}, taken as ${taken}${unit}`);
  return taken;
}
