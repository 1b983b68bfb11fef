import type { Interceptor } from "@grpc/grpc-js";
import {
  Bulkhead,
  type BulkheadOptions,
  type BulkheadSnapshot,
  type ResolvedBulkheadOptions,
  resolveBulkheadOptions,
} from "../core/bulkhead.js";
import type { Gate } from "../core/gates.js";
import { Keyed } from "../core/keyed.js";
import type { Mode } from "../core/mode.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import { priorityRank } from "../core/priority.js";
import type { CallRecord } from "../grpc/call-record.js";
import type { ClientPassage } from "../grpc/gated-call.js";
import type { Surroundings } from "../grpc/surroundings.js";
import { gatesInterceptor } from "./gates.js";
import {
  keyFunction,
  type PolicyOptions,
  policyOptionNames,
  type StandaloneOptions,
  splitOptions,
} from "./policy-options.js";

export type BulkheadPolicyOptions = BulkheadOptions & PolicyOptions;

/** Bulkheads by key: by target, unless the user names another key. */
export class BulkheadPolicy implements ControlledPolicy {
  mode: Mode;
  readonly #bulkheads: Keyed<Bulkhead>;
  readonly #keyOf: (record: CallRecord) => string;

  constructor(options: ResolvedBulkheadOptions, own: PolicyOptions, surroundings: Surroundings) {
    this.mode = own.mode ?? "enforce";
    const { clock, report } = surroundings;
    this.#keyOf = keyFunction(own, ({ target }) => target, report, "bulkhead.key");
    this.#bulkheads = new Keyed(() => new Bulkhead(options, clock, report));
  }

  of(record: CallRecord): Bulkhead {
    return this.#bulkheads.get(this.#keyOf(record));
  }

  snapshot(): Readonly<Record<string, BulkheadSnapshot>> {
    const entries = [...this.#bulkheads.entries()];
    return Object.fromEntries(entries.map(([key, bulkhead]) => [key, bulkhead.snapshot()]));
  }
}

/** Which bulkhead policy stands for a method; `undefined` for none. */
export type SelectBulkhead = (method: string) => BulkheadPolicy | undefined;

export function bulkheadGate(select: SelectBulkhead): Gate<ClientPassage> {
  return {
    policy: "bulkhead",
    modeFor: ({ record }) => select(record.method)?.mode ?? "off",
    enter: ({ record }, onTurn) =>
      select(record.method)
        ?.of(record)
        .enter(priorityRank[record.priority ?? "normal"], record.deadlineMs, onTurn),
  };
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function bulkheadPolicy(
  options: BulkheadPolicyOptions,
  surroundings: Surroundings,
  prefix: string,
): BulkheadPolicy {
  const { own, rest } = splitOptions(options, prefix);
  const resolved = resolveBulkheadOptions(rest, prefix, policyOptionNames);
  return new BulkheadPolicy(resolved, own, surroundings);
}

/**
 * Bounds the attempts to one target that run at once, as an interceptor of its own. What finds no room
 * waits, best priority first; the rest ends with RESOURCE_EXHAUSTED (reason `BULKHEAD_FULL`,
 * or `QUEUE_TIMEOUT` after a wait). Put it below `retry`, so that a call that backs off holds no permit.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function bulkhead(options: BulkheadPolicyOptions & StandaloneOptions = {}): Interceptor {
  const { surroundings } = splitOptions(options, "bulkhead");
  const policy = bulkheadPolicy(options, surroundings, "bulkhead");
  return gatesInterceptor(surroundings, [bulkheadGate(() => policy)]);
}
