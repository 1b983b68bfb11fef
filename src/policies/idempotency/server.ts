import { createHash, randomUUID } from "node:crypto";
import { Metadata, type ServerInterceptor } from "@grpc/grpc-js";
import type { ControlledPolicy, Mode } from "../../core/control.js";
import type { OnPassed } from "../../core/gate.js";
import type { Gauges } from "../../core/gauges.js";
import { type Answered, type GateAnswer, type Refusal, refusal } from "../../core/permit.js";
import { ask, keyText, reportSafely, yesOrNo } from "../../core/user-code.js";
import { outsideClock } from "../../grpc/context/async-context.js";
import {
  type AnswerKeeper,
  type CompleteAnswer,
  type InboundCall,
  type InboundRequest,
  runInbound,
} from "../../grpc/context/inbound-call.js";
import type { Environment, EnvironmentOptions } from "../../grpc/environment.js";
import { keyMarkName, readIdempotencyKey, replayedName } from "../../grpc/metadata.js";
import { type ServerGate, serverPipeline } from "../../grpc/server/pipeline-call.js";
import {
  callSeen,
  type QuotaCall,
  type ServerPolicyOptions,
  splitServerOptions,
} from "../../grpc/server/policy.js";
import type { ServerMethod } from "../../grpc/server/record.js";
import type { PartialStatus } from "../../grpc/types.js";
import {
  IdempotencyKeys,
  type IdempotencyKeysSnapshot,
  KeyHolder,
  type KeyResult,
} from "./keys.js";
import { isIdempotencyKey } from "./levels.js";
import { MemoryIdempotencyStore, type MemoryStoreSnapshot } from "./memory-store.js";
import { decodeAnswer, encodeAnswer, encodeTooLarge } from "./server-answer.js";
import {
  type MethodRules,
  type ResolvedServerIdempotencyOptions,
  resolveServerIdempotencyOptions,
  type ServerIdempotencyOptions,
} from "./server-options.js";

/**
 * The options of the policy of a server.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export interface IdempotencyPolicyOptions<Service = unknown>
  extends ServerIdempotencyOptions<Service> {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
}

/**
 * Numbers of the idempotency of a server.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export interface IdempotencySnapshot extends IdempotencyKeysSnapshot {
  /** What is kept in the memory of this process. Absent where there is another store. */
  readonly memory?: MemoryStoreSnapshot;
}

/** How a call is known to the store. */
interface NamedCall {
  /** As the caller knows it. */
  readonly key: string;
  /** As the store knows it. */
  readonly storeKey: string;
  readonly fingerprint: string;
}

const policy = "idempotency";

/** A user's function has failed, and that has been reported. */
const failed = Symbol("failed");

const keyMissing = refusal(
  "IDEMPOTENCY_KEY_MISSING",
  "the method needs an idempotency key in the metadata of the call",
);
const misconfigured = refusal(
  "IDEMPOTENCY_MISCONFIGURED",
  "the server could not tell the idempotency key, the caller or the request of the call",
);
const taken = refusal(
  "IDEMPOTENCY_ANSWER_NOT_STORED",
  "another call has taken over the idempotency key",
);

/**
 * The idempotency of one server: calls of its methods run once for each key.
 *
 * It stands before the policies that give out slots, and is asked when the request is there: a call that is answered by an
 * earlier one takes no slot, and neither does one that waits for it. The first call with a key runs; its answer is stored, and
 * only then sent. Calls of other kinds than unary pass.
 *
 * It refuses with
 * - INVALID_ARGUMENT (`IDEMPOTENCY_KEY_MISSING`, `IDEMPOTENCY_KEY_INVALID`, `IDEMPOTENCY_KEY_REUSED`),
 * - ABORTED (`IDEMPOTENCY_IN_PROGRESS`) and pushback,
 * - UNAVAILABLE (`IDEMPOTENCY_STORE_FAILED`, `IDEMPOTENCY_ANSWER_NOT_STORED`) and pushback, or (`DRAINING`),
 * - FAILED_PRECONDITION (`IDEMPOTENCY_ANSWER_NOT_KEPT`),
 * - INTERNAL (`IDEMPOTENCY_MISCONFIGURED`).
 */
export class IdempotencyPolicy implements ControlledPolicy<IdempotencySnapshot>, ServerGate {
  readonly policy = policy;
  readonly readsRequest = true;
  /** Where it observes, the message of an answer is sent before its trailers are known. */
  readonly untilEnd = true;
  mode: Mode;
  #options: ResolvedServerIdempotencyOptions;
  readonly #environment: Environment;
  readonly #where: string;
  readonly #memory: MemoryIdempotencyStore | undefined;
  readonly #keys: IdempotencyKeys;
  /** What has been reported, once for each method. */
  readonly #reported = new Set<string>();

  constructor(
    options: ResolvedServerIdempotencyOptions,
    environment: Environment,
    where: string,
    mode: Mode = "enforce",
  ) {
    const { random, report } = environment;
    // Its timers are for many calls.
    const clock = outsideClock(environment.clock);
    this.mode = mode;
    this.#options = options;
    this.#environment = environment;
    this.#where = where;
    const store = options.store ?? new MemoryIdempotencyStore(clock, options.memory);
    this.#memory = store instanceof MemoryIdempotencyStore ? store : undefined;
    this.#keys = new IdempotencyKeys(
      store,
      options,
      { clock, random, report },
      // Not from the chance that was handed in: two processes with the same seed must differ.
      randomUUID(),
      `${where}.store`,
    );
  }

  /** The store stays, with all that it keeps. Calls that run keep the rules under which they began. */
  reconfigure(fresh: IdempotencyPolicy): void {
    this.#options = fresh.#options;
    this.#keys.bounds = fresh.#options;
    if (this.#memory !== undefined) this.#memory.bounds = fresh.#options.memory;
  }

  needsBytes({ path, requestStream, responseStream }: ServerMethod): boolean {
    return !requestStream && !responseStream && this.#options.methods.has(path);
  }

  modeFor(inbound: InboundCall): Mode {
    const { mode } = this;
    const { method, kind, metadata } = inbound;
    const rules = mode === "off" ? undefined : this.#options.methods.get(method);
    if (rules === undefined) return "off";
    if (kind !== "unary") {
      const why = "streams, and the messages of a stream are not kept: it runs without the policy";
      this.#reportOnce(method, `${method} ${why}`);
      return "off";
    }
    if (rules.key === "optional" && metadata !== undefined) {
      return readIdempotencyKey(metadata).kind === "absent" ? "off" : mode;
    }
    return mode;
  }

  enter(inbound: InboundCall, onGranted: OnPassed): GateAnswer | Answered | undefined {
    const { request, deadlineMs } = inbound;
    const rules = this.#options.methods.get(inbound.method);
    // Without a whole request the call fails behind the gates.
    if (rules === undefined || request === undefined) return undefined;
    const named = this.#nameOf(inbound, request, rules);
    if (named === undefined || "kind" in named) return named;
    const enforced = this.mode === "enforce";
    const { storeKey: key, fingerprint } = named;
    const result = this.#keys.enter({
      key,
      fingerprint,
      rules,
      deadlineMs,
      onGranted: (granted, waitedMs) =>
        onGranted(this.#passage(granted, inbound, named, rules, enforced), waitedMs),
    });
    if (!(result instanceof KeyHolder) && result.kind === "queued") return result;
    return this.#passage(result, inbound, named, rules, enforced);
  }

  /** Refuses the calls that wait. */
  drain(): void {
    this.#keys.drain();
  }

  measure(gauges: Gauges): void {
    const { waiting } = this.#keys.snapshot();
    gauges.note("queue", waiting, { policy, side: "server" });
    if (this.#memory !== undefined) return;
    gauges.note("storeAway", this.#keys.storeAway ? 1 : 0, { policy, side: "server" });
  }

  snapshot(): IdempotencySnapshot {
    const memory = this.#memory?.snapshot();
    return { ...this.#keys.snapshot(), ...(memory === undefined ? {} : { memory }) };
  }

  // ---- Whose key, and which request.

  #nameOf(
    inbound: InboundCall,
    request: InboundRequest,
    rules: MethodRules,
  ): NamedCall | Refusal | undefined {
    const call = callSeen(inbound);
    const key = this.#keyOf(inbound, request, rules, call);
    if (key === undefined || typeof key !== "string") return key;
    const { scope } = this.#options;
    const caller = scope === "shared" ? "" : this.#asked(inbound, () => scope(call), text, "scope");
    const fingerprint = this.#fingerprintOf(inbound, request, rules, call);
    if (caller === failed || fingerprint === undefined) return misconfigured;
    const { method } = inbound;
    // The length of the caller's name tells where it ends.
    const storeKey = `${method.slice(1)}:${hashOf(`${caller.length}:${caller}:${key}`)}`;
    return { key, storeKey, fingerprint };
  }

  #keyOf(
    inbound: InboundCall,
    request: InboundRequest,
    rules: MethodRules,
    call: QuotaCall,
  ): string | Refusal | undefined {
    const { key: source, maxKeyLength } = rules;
    if (typeof source === "function") {
      const key = this.#asked(inbound, () => source(request.message, call), keyOrNone, "key");
      if (key === failed) return misconfigured;
      return key === undefined || key.length <= maxKeyLength ? key : invalidKey(maxKeyLength);
    }
    const given = readIdempotencyKey(call.metadata);
    if (given.kind === "absent") return keyMissing;
    if (given.kind === "invalid" || given.key.length > maxKeyLength)
      return invalidKey(maxKeyLength);
    return given.key;
  }

  #fingerprintOf(
    inbound: InboundCall,
    { message, bytes }: InboundRequest,
    { fingerprint }: MethodRules,
    call: QuotaCall,
  ): string | undefined {
    if (fingerprint !== undefined) {
      const own = this.#asked(inbound, () => fingerprint(message, call), text, "fingerprint");
      return own === failed ? undefined : hashOf(own);
    }
    if (bytes !== undefined) return hashOf(bytes);
    const why = "an interceptor before the policy hides the bytes of requests: set `fingerprint`";
    this.#reportOnce(inbound.method, `${inbound.method}: ${why}`);
    return undefined;
  }

  /** Asks a function of the user's, which finds the call in AsyncLocalStorage. */
  #asked<T>(
    inbound: InboundCall,
    question: () => unknown,
    read: (answer: unknown) => T,
    option: string,
  ): T | typeof failed {
    const { report } = this.#environment;
    return runInbound(inbound, () =>
      ask(question, read, failed, report, `${this.#where}.${option}`),
    );
  }

  #reportOnce(what: string, message: string): void {
    if (this.#reported.has(what)) return;
    this.#reported.add(what);
    reportSafely(this.#environment.report, new Error(message), this.#where);
  }

  // ---- What becomes of the call.

  #passage(
    result: KeyResult,
    inbound: InboundCall,
    { key }: NamedCall,
    rules: MethodRules,
    enforced: boolean,
  ): KeyHolder | Refusal | Answered {
    if (!(result instanceof KeyHolder)) {
      return result.kind === "replay"
        ? this.#replay(result.answer, result.stored, inbound)
        : result;
    }
    const environment = this.#environment;
    inbound.keeper = new Keeper(inbound, result, rules, enforced, environment, this.#where);
    if (enforced) inbound.idempotency = { key, fencingToken: result.token };
    result.onLost = () => {
      const { row } = inbound;
      if (row !== undefined) row.stop(taken, policy, enforced);
      // The caller has left, and the handler works on.
      else if (enforced) inbound.finish("cancelled");
    };
    return result;
  }

  #replay(bytes: Uint8Array, stored: boolean, inbound: InboundCall): Answered | Refusal {
    try {
      const answer = decodeAnswer(bytes);
      if (answer === "too large") {
        const detail = "the call has run before, and its answer was too large to be kept";
        return refusal("IDEMPOTENCY_ANSWER_NOT_KEPT", detail);
      }
      const replayed = asReplayed(answer, stored);
      const detail = stored ? "from the store" : "of a call that ran without the store";
      return { kind: "answered", detail, send: () => inbound.row?.replay(replayed) };
    } catch (error) {
      reportSafely(this.#environment.report, error, `${this.#where}.store`);
      return refusal("IDEMPOTENCY_STORE_FAILED", "the stored answer cannot be read");
    }
  }
}

/** Stores the answer of one call. */
class Keeper implements AnswerKeeper {
  readonly inbound: InboundCall;
  readonly enforced: boolean;
  readonly #holder: KeyHolder;
  readonly #rules: MethodRules;
  readonly #environment: Environment;
  readonly #where: string;

  constructor(
    inbound: InboundCall,
    holder: KeyHolder,
    rules: MethodRules,
    enforced: boolean,
    environment: Environment,
    where: string,
  ) {
    this.inbound = inbound;
    this.#holder = holder;
    this.#rules = rules;
    this.enforced = enforced;
    this.#environment = environment;
    this.#where = where;
  }

  keep(answer: CompleteAnswer, ran: boolean, send: (sent: CompleteAnswer | Refusal) => void): void {
    const holder = this.#holder;
    if (!ran) {
      holder.keep(undefined, () => send(answer));
      return;
    }
    holder.keep(this.#stores(answer.status) ? this.#kept(answer) : undefined, (kept) => {
      if (typeof kept !== "string") send(kept);
      else send(marked(answer, kept !== "unprotected" && holder.token !== undefined));
    });
  }

  #stores({ code, details }: PartialStatus): boolean {
    const { stores } = this.#rules;
    if (typeof stores !== "function") return stores.has(code);
    const { report } = this.#environment;
    const status = { code, details: details ?? "" };
    // If it fails, the answer is stored: nothing runs twice.
    return ask(() => stores(status), yesOrNo, true, report, `${this.#where}.stores`);
  }

  #kept(answer: CompleteAnswer): { readonly stored: Uint8Array; readonly shared: Uint8Array } {
    const shared = encodeAnswer(answer);
    const { maxResponseBytes } = this.#rules;
    if (shared.byteLength <= maxResponseBytes) return { stored: shared, shared };
    const text = `an answer of ${shared.byteLength} bytes is larger than maxResponseBytes, ${maxResponseBytes}`;
    reportSafely(this.#environment.report, new RangeError(text), this.#where);
    return { stored: encodeTooLarge(answer), shared };
  }
}

function hashOf(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("base64url");
}

function invalidKey(maxLength: number): Refusal {
  const detail = `the idempotency key must be one value of 1 to ${maxLength} printable ASCII characters`;
  return refusal("IDEMPOTENCY_KEY_INVALID", detail);
}

/** The answer with the mark that tells the client what its key is worth. */
function marked(answer: CompleteAnswer, honoured: boolean): CompleteAnswer {
  const metadata = answer.status.metadata?.clone() ?? new Metadata();
  metadata.set(keyMarkName, honoured ? "honoured" : "unprotected");
  return { ...answer, status: { ...answer.status, metadata } };
}

function asReplayed(answer: CompleteAnswer, stored: boolean): CompleteAnswer {
  const { headers, message, status } = marked(answer, stored);
  status.metadata?.set(replayedName, "true");
  if (message === undefined) return { headers, message, status };
  const own = headers?.clone() ?? new Metadata();
  own.set(replayedName, "true");
  return { headers: own, message, status };
}

/** Reads a key. @throws TypeError for anything but a key and `undefined`. */
function keyOrNone(answer: unknown): string | undefined {
  if (answer === undefined || isIdempotencyKey(answer)) return answer;
  throw new TypeError("it must return 1 to 255 printable ASCII characters, or undefined");
}

/** Reads a text that is not empty. */
function text(answer: unknown): string {
  const given = keyText(answer);
  if (given !== undefined && given !== "") return given;
  throw new TypeError("it must return a text that is not empty");
}

/**
 * Idempotency as an interceptor of its own. Put it before what gives out slots, and nothing before it that replaces the call
 * of grpc-js by an object of its own.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export function idempotency(
  options: IdempotencyPolicyOptions & Pick<ServerPolicyOptions, "priority"> & EnvironmentOptions,
): ServerInterceptor {
  const { mode, environment, priority, rest } = splitServerOptions(options, "idempotency");
  const resolved = resolveServerIdempotencyOptions(rest, "idempotency", ["mode", "priority"]);
  const gate = new IdempotencyPolicy(resolved, environment, "idempotency", mode);
  return serverPipeline(environment, { priority, gates: [gate] });
}
