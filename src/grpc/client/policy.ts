import type { Metadata } from "@grpc/grpc-js";
import { type Mode, modes } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import { boundedKey } from "../../core/keyed.js";
import { InvalidOptionError, oneOf, optionalFunction, readOptions } from "../../core/options.js";
import { asking, keyText, type ReportError } from "../../core/user-code.js";
import type { CallRecord } from "../context/call-record.js";
import { type Environment, type EnvironmentOptions, environmentOf } from "../environment.js";
import { serviceOf } from "../types.js";
import type { ClientPassage } from "./attempt.js";
import type { GatesPart } from "./parts.js";

/** The policies that each attempt must pass before it is sent, in this order. Absent ones are left out. */
export function gatesPart(row: readonly (Gate<ClientPassage> | undefined)[]): GatesPart {
  return { at: "gates", gates: row.filter((gate) => gate !== undefined) };
}

/**
 * What a function of yours sees of a call: a `key` function, or another by which a policy tells calls apart. The
 * metadata are those that the attempt is sent with, from the caller and the interceptors above. Do not change them.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export interface KeyedCall extends Pick<CallRecord, "method" | "kind" | "target" | "priority"> {
  readonly metadata: Pick<Metadata, "get" | "getMap">;
}

/**
 * Options of all client policies that keep state by key.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export interface PolicyOptions {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /**
   * Returns the key of a call: calls with the same key share state. It runs for each attempt, so it should be cheap. If
   * it throws or returns no string, that is reported, and the call has the key that it has without the function.
   */
  readonly key?: (call: KeyedCall) => string;
}

/** The names of the options in {@link PolicyOptions}. */
export const policyOptionNames: readonly string[] = ["mode", "key"];

/**
 * Options of an interceptor that is used without a weir.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export interface StandaloneOptions extends EnvironmentOptions {
  /**
   * The name of the target, for policies that keep state by target. Use it if the interceptor serves one client only.
   * The first interceptor of a call that has this option sets it for all.
   * @defaultValue the target of the channel, as far as the call below knows it
   */
  readonly target?: string;
}

/**
 * Takes the options of the environment, and the target, out of those of an interceptor that is used without a weir.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function takeStandalone<O extends StandaloneOptions>(
  given: O,
  prefix: string,
): { readonly environment: Environment; readonly rest: Omit<O, keyof StandaloneOptions> } {
  const { clock, random, onDecision, onError, target, ...rest } = readOptions(prefix, given);
  const environment = environmentOf({ clock, random, onDecision, onError }, prefix);
  if (target === undefined) return { environment, rest };
  if (typeof target !== "string" || target === "") {
    throw new InvalidOptionError(`${prefix}.target`, "the name of a target", target);
  }
  return { environment: { ...environment, target }, rest };
}

/** Takes the common options out. The policy refuses the names that it does not know in the rest. */
export function splitOptions<O extends PolicyOptions & StandaloneOptions>(
  options: O,
  prefix: string,
): {
  readonly own: PolicyOptions;
  readonly environment: Environment;
  readonly rest: Omit<Omit<O, keyof StandaloneOptions>, keyof PolicyOptions>;
} {
  const { environment, rest: own } = takeStandalone(options, prefix);
  const { mode, key, ...rest } = own;
  return {
    own: policyOptions(
      { ...(mode === undefined ? {} : { mode }), ...(key === undefined ? {} : { key }) },
      prefix,
    ),
    environment,
    rest,
  };
}

/** The key function of a policy: the user's, or `fallback` where there is none or it fails. */
export function keyFunction(
  own: PolicyOptions,
  fallback: (record: CallRecord) => string,
  report: ReportError,
  where: string,
): (record: CallRecord) => string {
  const { key } = own;
  if (key === undefined) return fallback;
  const asked = asking(key, keyText, fallback, report, where);
  return (record) => {
    const name = asked(record);
    return name === undefined ? fallback(record) : boundedKey(name);
  };
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
function policyOptions(options: PolicyOptions, prefix: string): PolicyOptions {
  if (options.mode !== undefined) oneOf(`${prefix}.mode`, options.mode, modes);
  optionalFunction(`${prefix}.key`, options.key);
  return options;
}

/** What a policy can keep state by. State is always of one target only. */
export const callKeys = ["target", "service", "method"] as const;
export type CallKey = (typeof callKeys)[number];

/** The key of a call. */
type KeyOf = (record: Pick<CallRecord, "target" | "method">) => string;

export function keyBy(key: CallKey): KeyOf {
  switch (key) {
    case "target":
      return ({ target }) => target;
    case "service":
      return keyByPart(serviceOf);
    case "method":
      return keyByPart((method) => method.slice(1));
  }
}

/**
 * A key of the target and a part of the method. The last key is remembered, because most calls have the same method as
 * the one before, and making a key costs more than a decision.
 */
export function keyByPart(part: (method: string) => string): KeyOf {
  let last = { target: "", method: "", key: "" };
  return ({ target, method }) => {
    if (last.method !== method || last.target !== target) {
      last = { target, method, key: `${target} ${part(method)}` };
    }
    return last.key;
  };
}
