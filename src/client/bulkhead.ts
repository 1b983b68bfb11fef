import type { Interceptor } from "@grpc/grpc-js";
import { Bulkhead, type BulkheadSnapshot } from "../core/bulkhead.js";
import { partitionOf, weightOf } from "../core/bulkhead-hooks.js";
import type { Gate } from "../core/gates.js";
import { Keyed } from "../core/keyed.js";
import type { Mode } from "../core/mode.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import { priorityRank } from "../core/priority.js";
import type { Entry, OnTurn } from "../core/turn.js";
import type { ReportError } from "../core/user-code.js";
import type { CallRecord } from "../grpc/call-record.js";
import type { ClientPassage } from "../grpc/gated-call.js";
import type { Surroundings } from "../grpc/surroundings.js";
import {
  type BulkheadPolicyOptions,
  type ResolvedBulkheadPolicyOptions,
  resolveBulkheadPolicyOptions,
} from "./bulkhead-options.js";
import { keyBy } from "./call-key.js";
import { gatesInterceptor } from "./gates.js";
import { keyFunction, type StandaloneOptions, takeStandalone } from "./policy-options.js";

/** Numbers of the bulkhead of one key. */
export interface BulkheadPolicySnapshot extends BulkheadSnapshot {
  /** Of streams, where they are counted apart. */
  readonly streams?: BulkheadSnapshot;
}

/** The state of one key. */
interface Bulkheads {
  readonly calls: Bulkhead;
  /** Absent when streams are counted with the other calls. */
  readonly streams: Bulkhead | undefined;
}

/** Bulkheads by key: by target, unless the user names another key. */
export class BulkheadPolicy implements ControlledPolicy {
  mode: Mode;
  readonly #bulkheads: Keyed<Bulkheads>;
  readonly #keyOf: (record: CallRecord) => string;
  readonly #hooks: ResolvedBulkheadPolicyOptions["hooks"];
  readonly #report: ReportError;

  constructor(options: ResolvedBulkheadPolicyOptions, { clock, report }: Surroundings) {
    const { own, by, maxKeys, limits, streams, shares, hooks } = options;
    this.mode = own.mode ?? "enforce";
    this.#hooks = hooks;
    this.#report = report;
    this.#keyOf = keyFunction(own, keyBy(by), report, "bulkhead.key");
    const make = (): Bulkheads => ({
      calls: new Bulkhead(limits, clock, report, shares),
      streams: streams && new Bulkhead(streams, clock, report, shares, "streams"),
    });
    const inUse = ({ calls, streams }: Bulkheads) => calls.inUse || streams?.inUse === true;
    this.#bulkheads = new Keyed(make, maxKeys, inUse);
  }

  enter(record: CallRecord, onTurn: OnTurn): Entry {
    const { calls, streams } = this.#bulkheads.get(this.#keyOf(record));
    const bulkhead = streams === undefined || record.kind === "unary" ? calls : streams;
    const { weight, partition } = this.#hooks;
    return bulkhead.enter(
      priorityRank[record.priority ?? "normal"],
      record.deadlineMs,
      onTurn,
      weightOf(weight, record, this.#report, "bulkhead.weight"),
      partitionOf(partition, record, this.#report, "bulkhead.partition"),
    );
  }

  snapshot(): Readonly<Record<string, BulkheadPolicySnapshot>> {
    const entries: [string, BulkheadPolicySnapshot][] = [];
    for (const [key, { calls, streams }] of this.#bulkheads.entries()) {
      const numbers = calls.snapshot();
      entries.push([
        key,
        streams === undefined ? numbers : { ...numbers, streams: streams.snapshot() },
      ]);
    }
    return Object.fromEntries(entries);
  }
}

/** Which bulkhead policy stands for a method; `undefined` for none. */
export type SelectBulkhead = (method: string) => BulkheadPolicy | undefined;

export function bulkheadGate(select: SelectBulkhead): Gate<ClientPassage> {
  return {
    policy: "bulkhead",
    modeFor: ({ record }) => select(record.method)?.mode ?? "off",
    enter: ({ record }, onTurn) => select(record.method)?.enter(record, onTurn),
  };
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function bulkheadPolicy(
  options: BulkheadPolicyOptions & StandaloneOptions,
  surroundings: Surroundings,
  prefix: string,
): BulkheadPolicy {
  return new BulkheadPolicy(resolveBulkheadPolicyOptions(options, prefix), surroundings);
}

/**
 * Bounds the attempts to one target that run at once, as an interceptor of its own. What finds no room
 * waits, best priority first; the rest ends with RESOURCE_EXHAUSTED (reason `BULKHEAD_FULL`,
 * or `QUEUE_TIMEOUT` after a wait). Put it below `retry`, so that a call that backs off holds no permit.
 *
 * With `partitions`, kinds of calls have shares of it that they can count on, and borrow what others do not use.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function bulkhead(options: BulkheadPolicyOptions & StandaloneOptions = {}): Interceptor {
  const { surroundings } = takeStandalone(options, "bulkhead");
  const policy = bulkheadPolicy(options, surroundings, "bulkhead");
  return gatesInterceptor(surroundings, [bulkheadGate(() => policy)]);
}
