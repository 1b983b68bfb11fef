import {
  type Interceptor,
  Metadata,
  type MetadataValue,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import { InvalidOptionError, nameText, readOptions, shown } from "../../core/options.js";
import type { StatusOrigin } from "../../core/status.js";
import { ask, callSafely, type ReportError } from "../../core/user-code.js";
import type { AttemptRecord, CallRecord } from "../context/call-record.js";
import { receivedStatus } from "../status/foreign-status.js";
import type { Rejection } from "../status/rejection.js";
import { rejectionOf } from "../status/rejection.js";
import type { PartialStatus } from "../types.js";
import type { AttemptPart } from "./attempt.js";
import { copyMetadata } from "./kept-metadata.js";
import { interceptorOf } from "./parts.js";
import type { CallPart } from "./pipeline-call.js";
import { type KeyedCall, type StandaloneOptions, takeStandalone } from "./policy.js";

/**
 * A call that starts, for a policy of your own.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/own-policy.md
 */
export interface StartingCall extends KeyedCall {
  /** Milliseconds until the deadline of the call; `Infinity` without one. */
  readonly remainingMs: () => number;
  /**
   * Sets a value in the metadata of all attempts of the call. Throws for a key or value that metadata cannot carry, and
   * when `onCall` has returned.
   */
  readonly setMetadata: (key: string, value: MetadataValue) => void;
  /**
   * Ends the call with this status, at any time: inside `onCall` it is not sent, later its attempts are cancelled. A call that
   * has ended is not changed. A status with a code that is none of gRPC, and OK where the caller waits for a response, which
   * the status does not have, are reported, and the call ends with INTERNAL.
   */
  readonly end: (status: PartialStatus) => void;
}

/**
 * An attempt that has passed all gates and is about to be sent, for a policy of your own.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/own-policy.md
 */
export interface StartingAttempt extends Pick<AttemptRecord, "number" | "cause"> {
  /** Sets a value in the metadata of this attempt. Throws for a key or value that metadata cannot carry. */
  readonly setMetadata: (key: string, value: MetadataValue) => void;
}

/**
 * How an attempt, or a call, has ended, for a policy of your own.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/own-policy.md
 */
export interface OwnPartEnd extends Pick<StatusObject, "code" | "details"> {
  /** The metadata of the status: the trailers, where the server sent it. Do not change them. */
  readonly metadata: Pick<Metadata, "get" | "getMap">;
  /** How long it took, in milliseconds. */
  readonly durationMs: number;
  /** The refusal behind the status, if a policy of this process or of a server with the toolkit refused. */
  readonly rejection: Rejection | undefined;
}

/**
 * How an attempt has ended.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/own-policy.md
 */
export interface AttemptEnd extends OwnPartEnd, Pick<AttemptRecord, "number" | "cause"> {
  /** Where the status came from. `remote` for OK. */
  readonly origin: StatusOrigin;
}

/**
 * How a call has ended.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/own-policy.md
 */
export interface CallEnd extends OwnPartEnd {
  /** How many attempts it had. 0 where it was not sent. */
  readonly attempts: number;
}

/**
 * What a policy of your own is told of one call. All methods are optional; what they throw is reported.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/own-policy.md
 */
export interface OwnPartOfCall {
  /** An attempt has passed all gates, and is about to be sent. Not called for an attempt that a gate refuses. */
  beforeAttempt?(attempt: StartingAttempt): void;
  /** An attempt that was announced has ended. */
  afterAttempt?(ended: AttemptEnd): void;
  /** The call has ended. Called once, however it ended, before the caller gets the status. */
  onEnd?(ended: CallEnd): void;
}

/**
 * A policy of your own: a part of the client pipeline, run by the call object that runs the toolkit's own parts. It
 * costs a call one function, and what it returns.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/own-policy.md
 */
export interface OwnPart {
  /** For reports of errors. */
  readonly name: string;
  /**
   * A call starts. It has its deadline and priority; no attempt has been made.
   *
   * @returns What is told of the rest of the call. `undefined` for nothing.
   */
  onCall(call: StartingCall): OwnPartOfCall | undefined;
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveOwnParts(given: unknown, prefix: string): readonly OwnPart[] {
  if (!Array.isArray(given)) throw new InvalidOptionError(prefix, "an array of parts", given);
  return given.map((one: unknown, index) => {
    requireOwnPart(one, `${prefix}[${index}]`);
    return one;
  });
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
function requireOwnPart(given: unknown, prefix: string): asserts given is OwnPart {
  if (typeof given !== "object" || given === null) {
    throw new InvalidOptionError(prefix, "an object with name and onCall", given);
  }
  const onCall: unknown = Reflect.get(given, "onCall");
  nameText(`${prefix}.name`, Reflect.get(given, "name"));
  if (typeof onCall !== "function") {
    throw new InvalidOptionError(`${prefix}.onCall`, "a function", onCall);
  }
  const misspelt = misspeltHook(given);
  if (misspelt === undefined) return;
  const text = `is not a hook; a part has onCall, which returns ${hookNames.join(", ")}`;
  throw new InvalidOptionError(
    `${prefix}.${misspelt}`,
    "absent",
    Reflect.get(given, misspelt),
    text,
  );
}

const hookNames = ["beforeAttempt", "afterAttempt", "onEnd"] as const;

/**
 * A function of a part, or of what it returns, whose name looks like that of a hook and is none. One object may be both, so
 * that each has the names of the other. Other functions are the user's own.
 */
function misspeltHook(given: object): string | undefined {
  const known: readonly string[] = ["onCall", ...hookNames];
  for (let from: unknown = given; isObject(from); from = Object.getPrototypeOf(from)) {
    for (const name of Object.getOwnPropertyNames(from)) {
      const looks = /^(on|before|after)[A-Z]/.test(name) && !known.includes(name);
      if (looks && typeof Reflect.get(given, name) === "function") return name;
    }
  }
  return undefined;
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

/** The two parts of a pipeline that a policy of the user's is: one above the attempts, and one below the gates. */
export function ownParts(
  policy: OwnPart,
  report: ReportError,
): { readonly call: CallPart; readonly attempt: AttemptPart } {
  /**
   * What the user wants to be told of calls that run. By record too: behind a fallback, attempts belong to another call
   * object with the same record.
   */
  const told = new WeakMap<object, OwnPartOfCall | undefined>();
  const where = (hook: string) => `${policy.name}.${hook}`;
  /** Whether hooks of this policy have been looked through for misspelt ones, which is done once. */
  let checked = false;
  const readHooks = (answer: unknown) => {
    const hooks = hooksOrNone(answer);
    if (hooks !== undefined && !checked) refuseMisspelt(hooks);
    checked ||= hooks !== undefined;
    return hooks;
  };
  const call: CallPart = {
    at: "call",
    begin(started) {
      const { record } = started;
      let begins = true;
      const view: StartingCall = {
        method: record.method,
        kind: record.kind,
        target: record.target,
        priority: record.priority,
        metadata: started.metadata,
        remainingMs: () => record.deadlineMs - record.clock.now(),
        setMetadata: (key, value) => {
          if (!begins) throw new TypeError("the metadata of the call have been sent");
          started.writableMetadata().set(key, value);
        },
        end: (status) => {
          const { responseStream } = started.options.method_definition;
          started.finish(
            ask(() => status, endingOf(responseStream), invalidEnd(), report, where("end")),
          );
        },
      };
      const question = () => policy.onCall(view);
      const hooks = ask(question, readHooks, undefined, report, where("onCall"));
      begins = false;
      told.set(started, hooks).set(record, hooks);
      if (hooks?.onEnd === undefined) return undefined;
      return {
        ended(status) {
          const ended: CallEnd = {
            ...endOf(status, record, record),
            attempts: record.attemptCount,
          };
          callSafely(() => hooks.onEnd?.(ended), report, where("onEnd"));
        },
      };
    },
  };
  const attempt: AttemptPart = {
    at: "attempt",
    begin(starting) {
      const { record, call: owner } = starting;
      const hooks = told.get(owner !== undefined && told.has(owner) ? owner : record);
      if (hooks === undefined) return undefined;
      const { number, cause } = starting.attempt;
      if (hooks.beforeAttempt !== undefined) {
        let copied = false;
        const setMetadata: StartingAttempt["setMetadata"] = (key, value) => {
          if (!copied) starting.metadata = copyMetadata(starting.metadata);
          copied = true;
          starting.metadata.set(key, value);
        };
        const about = { number, cause, setMetadata };
        callSafely(() => hooks.beforeAttempt?.(about), report, where("beforeAttempt"));
      }
      if (hooks.afterAttempt === undefined) return undefined;
      return {
        ended(status, failure) {
          const origin = failure?.origin ?? "remote";
          const common = endOf(status, starting.attempt, record);
          const ended: AttemptEnd = { ...common, number, cause, origin };
          callSafely(() => hooks.afterAttempt?.(ended), report, where("afterAttempt"));
          return undefined;
        },
      };
    },
  };
  return { call, attempt };
}

function endOf(
  status: StatusObject,
  { startedAtMs }: { readonly startedAtMs: number },
  { clock }: CallRecord,
): OwnPartEnd {
  const { code, details, metadata } = status;
  const durationMs = clock.now() - startedAtMs;
  return { code, details, metadata, durationMs, rejection: rejectionOf(status) };
}

/** Reads the status that a part ends a call with. Throws where no caller could make sense of it. */
function endingOf(responseStream: boolean): (given: unknown) => StatusObject {
  return (given) => {
    const code: unknown = isObject(given) ? Reflect.get(given, "code") : undefined;
    if (typeof code !== "number" || Status[code] === undefined) {
      throw new TypeError(`the code of the status must be one of gRPC, and not ${shown(code)}`);
    }
    if (code === Status.OK && !responseStream) {
      throw new TypeError("a call with a single response cannot end with OK: it has no response");
    }
    return receivedStatus(given);
  };
}

function invalidEnd(): StatusObject {
  return {
    code: Status.INTERNAL,
    details: "A policy ended the call with a status that makes no sense",
    metadata: new Metadata(),
  };
}

function refuseMisspelt(hooks: OwnPartOfCall): void {
  const name = misspeltHook(hooks);
  if (name === undefined) return;
  throw new TypeError(`${name} is not a hook; the hooks of a call are ${hookNames.join(", ")}`);
}

function hooksOrNone(answer: unknown): OwnPartOfCall | undefined {
  if (answer === undefined) return undefined;
  if (typeof answer !== "object" || answer === null) {
    throw new TypeError(
      `it must return an object of hooks, or undefined, and not ${shown(answer)}`,
    );
  }
  for (const hook of hookNames) {
    const given: unknown = Reflect.get(answer, hook);
    if (given !== undefined && typeof given !== "function") {
      throw new TypeError(`${hook} must be a function, and not ${shown(given)}`);
    }
  }
  return answer;
}

/**
 * A policy of your own as an interceptor of its own. With a weir, give it to `weir.client({ parts: [...] })`.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/own-policy.md
 */
export function part(policy: OwnPart, options: StandaloneOptions = {}): Interceptor {
  const { environment, rest } = takeStandalone(options, "part");
  readOptions("part", rest, []);
  requireOwnPart(policy, "part");
  const { call, attempt } = ownParts(policy, environment.report);
  return interceptorOf(environment, call, attempt);
}
