import { createHash, type Hash } from "node:crypto";
import type { Metadata } from "@grpc/grpc-js";
import { InvalidOptionError } from "../core/options.js";
import { ask, keyText, type ReportError } from "../core/user-code.js";
import type { CallRecord, OptionsWithOwn } from "../grpc/call-record.js";
import type { KeyedCall } from "./policy-options.js";

/** What a function that tells callers apart is told. */
export interface VaryingCall extends KeyedCall {
  /** What the call is sent with. Not to be changed. */
  readonly metadata: Metadata;
}

/** Names the caller, as far as answers depend on it. `undefined`: do not store this call's answer. */
export type VaryFunction = (call: VaryingCall) => string | undefined;

/** How callers are told apart. `shared`: answers are the same for all of them. */
export type Vary = readonly string[] | VaryFunction | "shared";

/**
 * There is no default: an answer that was meant for one caller and given to another is worse than none.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function resolveVary(vary: unknown, shared: unknown, prefix: string): Vary {
  if (shared !== undefined && shared !== true) {
    throw new InvalidOptionError(`${prefix}.shared`, "true, or absent", shared);
  }
  if ((vary === undefined) === (shared === undefined)) {
    const rule =
      'one of two: the metadata keys (or a function) by which answers differ from caller to caller, such as ["authorization"], or shared: true';
    throw new InvalidOptionError(`${prefix}.vary`, rule, vary);
  }
  if (shared === true) return "shared";
  if (typeof vary === "function") return vary as VaryFunction;
  if (!Array.isArray(vary) || vary.length === 0 || !vary.every(isMetadataKey)) {
    throw new InvalidOptionError(`${prefix}.vary`, "metadata keys, or a function", vary);
  }
  return Object.freeze(vary.map((key) => key.toLowerCase()));
}

function isMetadataKey(key: unknown): key is string {
  return typeof key === "string" && /^[0-9a-z_.-]+$/i.test(key);
}

/** A call whose answer may be stored. */
export interface CacheableCall {
  readonly record: CallRecord;
  readonly options: OptionsWithOwn;
  readonly metadata: Metadata;
}

/**
 * The key of a call: its target, its method, its request and its caller, as a digest. `undefined` where the caller
 * cannot be told.
 */
export function cacheKey(
  vary: Vary,
  { record, options, metadata }: CacheableCall,
  request: Uint8Array,
  report: ReportError,
): string | undefined {
  const hash = createHash("sha256");
  for (const part of [record.target, record.method, options.host ?? ""]) add(hash, part);
  if (typeof vary === "function") {
    const { method, kind, target, priority } = record;
    const call = { method, kind, target, priority, metadata };
    const caller = ask(() => vary(call), keyText, undefined, report, "staleCache.vary");
    if (caller === undefined) return undefined;
    add(hash, caller);
  } else if (vary !== "shared") {
    // Credentials of a single call put their metadata in below: keys cannot tell such callers apart.
    if (options.credentials !== undefined) return undefined;
    for (const key of vary) {
      const values = metadata.get(key);
      add(hash, String(values.length));
      for (const value of values) add(hash, value);
    }
  }
  add(hash, request);
  return hash.digest("base64url");
}

/** With its length before it, so that no two lists of parts look alike. */
function add(hash: Hash, part: string | Uint8Array): void {
  const bytes = typeof part === "string" ? Buffer.from(part) : part;
  hash.update(`${bytes.length}:`).update(bytes);
}
