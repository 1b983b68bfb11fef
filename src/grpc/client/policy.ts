import type { Metadata } from "@grpc/grpc-js";
import { type Mode, modes } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import { boundedKey } from "../../core/keyed.js";
import { InvalidOptionError, oneOf, optionalFunction, readOptions } from "../../core/options.js";
import { asking, keyText, type ReportError } from "../../core/user-code.js";
import { type CallRecord, recordKey } from "../context/call-record.js";
import { type Environment, type EnvironmentOptions, environmentOf } from "../environment.js";
import { serviceOf } from "../types.js";
import { type ClientPassage, GatedCall } from "./gated-call.js";
import type { Layer } from "./layers.js";

/** A row of client policies that each attempt has to pass, in their order. Those that are absent are left out. */
export function gatesLayer(
  environment: Environment,
  row: readonly (Gate<ClientPassage> | undefined)[],
): Layer {
  const gates = row.filter((gate) => gate !== undefined);
  return (options, nextCall) =>
    new GatedCall(options, nextCall, options[recordKey], gates, environment.pendingCalls);
}

/**
 * What a call tells a key function, and the other functions by which a policy tells calls apart. Its metadata is what
 * the attempt is sent with, from the caller and from the interceptors above: read it only.
 */
export interface KeyedCall extends Pick<CallRecord, "method" | "kind" | "target" | "priority"> {
  readonly metadata: Pick<Metadata, "get" | "getMap">;
}

/** Options that every keyed client policy has beside its own. */
export interface PolicyOptions {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /**
   * Names the state that a call belongs to. It runs for each attempt, so it should be cheap. What it throws, or answers
   * beside a string, is reported, and the call belongs where it would without the function.
   */
  readonly key?: (call: KeyedCall) => string;
}

/** Names of the options in {@link PolicyOptions}. */
export const policyOptionNames: readonly string[] = ["mode", "key"];

/** Options of a policy that is used without a weir. */
export interface StandaloneOptions extends EnvironmentOptions {
  /**
   * Names the server for policies that tell servers apart, where the interceptor is for one client only. Of the
   * interceptors of a call, the first that has it says it for all. @defaultValue what the channel, or the call below, tells
   */
  readonly target?: string;
}

/**
 * Takes out what surrounds a policy that is used without a weir, the target too.
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

/** Takes the common options out, so that the policy sees only its own and can refuse the rest. */
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

/** The key function of a policy. The user's own may throw; then the call has the key that it has without it. */
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

/** What a policy may keep its state for, by name: each always for one target only. */
export const callKeys = ["target", "service", "method"] as const;
export type CallKey = (typeof callKeys)[number];

/** Names the state that a call belongs to. */
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

/** A target and a part of the method. Most calls are like the one before, and making the key anew costs more than a decision. */
export function keyByPart(part: (method: string) => string): KeyOf {
  let last = { target: "", method: "", key: "" };
  return ({ target, method }) => {
    if (last.method !== method || last.target !== target) {
      last = { target, method, key: `${target} ${part(method)}` };
    }
    return last.key;
  };
}
