import type { Interceptor } from "@grpc/grpc-js";
import type { Clock } from "../../core/clock.js";
import type { ControlledPolicy, Mode } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import type { Gauges } from "../../core/gauges.js";
import { Keyed } from "../../core/keyed.js";
import { InvalidOptionError, oneOf, readOptions, wholeNumber } from "../../core/options.js";
import type { GateAnswer, OnGranted } from "../../core/permit.js";
import { priorityRank } from "../../core/priority.js";
import type { ReportError } from "../../core/user-code.js";
import type { ClientPassage } from "../../grpc/client/attempt.js";
import { interceptorOf } from "../../grpc/client/parts.js";
import {
  type CallKey,
  callKeys,
  gatesPart,
  type KeyedCall,
  keyBy,
  keyFunction,
  type PolicyOptions,
  policyOptionNames,
  type StandaloneOptions,
  splitOptions,
  takeStandalone,
} from "../../grpc/client/policy.js";
import type { CallRecord } from "../../grpc/context/call-record.js";
import type { Environment } from "../../grpc/environment.js";
import {
  Bulkhead,
  type BulkheadOptions,
  type BulkheadPolicySnapshot,
  type BulkheadsSnapshot,
  partitionOf,
  type ResolvedBulkheadOptions,
  type ResolvedSharing,
  resolveBulkheadOptions,
  resolveSharing,
  type SharingOptions,
  weightOf,
} from "./bulkhead.js";
import { requirePermits } from "./partition-options.js";

/**
 * What one bulkhead is for. It never spans two targets.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/bulkhead.md
 */
export type BulkheadKey = CallKey;

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/bulkhead.md */
export interface BulkheadPolicyOptions
  extends BulkheadOptions,
    SharingOptions<KeyedCall>,
    Pick<PolicyOptions, "mode"> {
  /**
   * Which attempts share a bulkhead: those to one target, or to one service or method of it, or those for which a function
   * returns the same text. A function runs for each attempt, so it should be cheap. @defaultValue `target`
   */
  readonly key?: BulkheadKey | ((call: KeyedCall) => string);
  /**
   * How many keys have a bulkhead, a whole number from 1 to 1,000,000. Beyond that, the one that was idle longest is
   * forgotten and starts anew. @defaultValue 1,000
   */
  readonly maxKeys?: number;
  /**
   * Options of a separate bulkhead for calls that stream in either direction, because a stream holds its permit for long.
   * An option that is left out is as for the other calls. `together`: streams share the bulkhead of the other calls.
   * @defaultValue `together`
   */
  readonly streams?: BulkheadOptions | "together";
}

/** The bulkheads of one key. */
interface Bulkheads {
  readonly calls: Bulkhead;
  /** Absent when streams share the bulkhead of the other calls. */
  streams: Bulkhead | undefined;
}

/** The bulkheads of a client by key: one for each target, unless the user chooses another key. */
export class BulkheadPolicy implements ControlledPolicy, Gate<ClientPassage> {
  readonly policy = "bulkhead";
  mode: Mode;
  readonly #bulkheads: Keyed<Bulkheads>;
  #options: ResolvedBulkheadPolicyOptions;
  #keyOf: (record: CallRecord) => string;
  readonly #clock: Clock;
  readonly #report: ReportError;

  constructor(options: ResolvedBulkheadPolicyOptions, { clock, report }: Environment) {
    const { own, by, maxKeys } = options;
    this.mode = own.mode ?? "enforce";
    this.#options = options;
    this.#clock = clock;
    this.#report = report;
    this.#keyOf = keyFunction(own, keyBy(by), report, "bulkhead.key");
    const make = (): Bulkheads => {
      const { limits, shares } = this.#options;
      return { calls: new Bulkhead(limits, clock, report, shares), streams: this.#newStreams() };
    };
    const inUse = ({ calls, streams }: Bulkheads) => calls.inUse || streams?.inUse === true;
    this.#bulkheads = new Keyed(make, maxKeys, inUse);
  }

  /** Streams that run in a bulkhead of their own, which streams have no longer, hold its permits to their end. */
  reconfigure(fresh: BulkheadPolicy): void {
    this.#options = fresh.#options;
    this.#keyOf = fresh.#keyOf;
    const { limits, streams, shares, maxKeys } = this.#options;
    for (const [, each] of this.#bulkheads.entries()) {
      each.calls.reconfigure(limits, shares);
      if (streams === undefined) each.streams = undefined;
      else if (each.streams === undefined) each.streams = this.#newStreams();
      else each.streams.reconfigure(streams, shares);
    }
    this.#bulkheads.resize(maxKeys);
  }

  #newStreams(): Bulkhead | undefined {
    const { streams, shares } = this.#options;
    return streams && new Bulkhead(streams, this.#clock, this.#report, shares, "streams");
  }

  modeFor(): Mode {
    return this.mode;
  }

  enter(passage: ClientPassage, onGranted: OnGranted): GateAnswer {
    const { record } = passage;
    const { calls, streams } = this.#bulkheads.get(this.#keyOf(record));
    const bulkhead = streams === undefined || record.kind === "unary" ? calls : streams;
    const { weight, partition } = this.#options.hooks;
    return bulkhead.enter(
      priorityRank[record.priority ?? "normal"],
      record.deadlineMs,
      onGranted,
      weightOf(weight, record, this.#report, "bulkhead.weight"),
      partitionOf(partition, record, this.#report, "bulkhead.partition"),
      passage.nowMs,
    );
  }

  measure(gauges: Gauges): void {
    for (const [key, { calls, streams }] of this.#bulkheads.entries()) {
      calls.measure(gauges, "client", { key, pool: "calls" });
      streams?.measure(gauges, "client", { key, pool: "streams" });
    }
  }

  snapshot(): BulkheadsSnapshot {
    const entries: [string, BulkheadPolicySnapshot][] = [];
    for (const [key, { calls, streams }] of this.#bulkheads.entries()) {
      const numbers = calls.snapshot();
      entries.push([
        key,
        streams === undefined ? numbers : { ...numbers, streams: streams.snapshot() },
      ]);
    }
    return { bulkheads: Object.fromEntries(entries) };
  }
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function bulkheadPolicy(
  options: BulkheadPolicyOptions & StandaloneOptions,
  environment: Environment,
  prefix: string,
): BulkheadPolicy {
  return new BulkheadPolicy(resolveBulkheadPolicyOptions(options, prefix), environment);
}

/**
 * Bounds how many attempts to one target run at once, as an interceptor of its own. When all permits are out, attempts wait
 * in a queue, best priority first; the rest ends with RESOURCE_EXHAUSTED (reason `BULKHEAD_FULL`, or `QUEUE_TIMEOUT` after
 * a wait). Put it below `retry`, so that a call holds no permit while it backs off.
 *
 * With `partitions`, each kind of call has a guaranteed share, and may borrow what the others do not use.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/bulkhead.md
 */
export function bulkhead(options: BulkheadPolicyOptions & StandaloneOptions = {}): Interceptor {
  const { environment } = takeStandalone(options, "bulkhead");
  const policy = bulkheadPolicy(options, environment, "bulkhead");
  return interceptorOf(environment, gatesPart([policy]));
}

const ownNames = ["maxKeys", "partitions", "partition", "weight", "streams"];

/** The checked options of a bulkhead policy. */
export interface ResolvedBulkheadPolicyOptions extends ResolvedSharing<KeyedCall> {
  readonly own: PolicyOptions;
  readonly by: BulkheadKey;
  readonly maxKeys: number;
  readonly limits: ResolvedBulkheadOptions;
  /** Absent when streams share the bulkhead of the other calls. */
  readonly streams: ResolvedBulkheadOptions | undefined;
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
function resolveBulkheadPolicyOptions(
  given: BulkheadPolicyOptions & StandaloneOptions,
  prefix: string,
): ResolvedBulkheadPolicyOptions {
  // Refuses what is no object. Unknown options are refused by `resolveBulkheadOptions` below.
  const options = readOptions(prefix, given);
  const { key = "target", ...others } = options;
  const by = typeof key === "function" ? "target" : oneOf(`${prefix}.key`, key, callKeys);
  const common = typeof key === "function" ? { ...others, key } : others;
  const { own, rest } = splitOptions(common, prefix);
  const { maxKeys = 1_000, partitions, partition, weight, streams = "together", ...numbers } = rest;
  const limits = resolveBulkheadOptions(numbers, prefix, [...ownNames, ...policyOptionNames]);
  const sharing = resolveSharing({ partitions, partition, weight }, limits.maxConcurrent, prefix);
  const apart = streams === "together" ? undefined : resolveStreams(streams, numbers, prefix);
  if (apart !== undefined)
    requirePermits(sharing.shares, apart.maxConcurrent, `${prefix}.partitions`);
  return {
    own,
    by,
    maxKeys: wholeNumber(`${prefix}.maxKeys`, maxKeys, 1, 1_000_000),
    limits,
    streams: apart,
    ...sharing,
  };
}

function resolveStreams(
  given: BulkheadOptions,
  numbers: BulkheadOptions,
  prefix: string,
): ResolvedBulkheadOptions {
  const option = `${prefix}.streams`;
  if (typeof given === "string") {
    throw new InvalidOptionError(option, '"together" or an object of options', given);
  }
  // Refuses what is no object: spread over the others it would look like no options at all.
  const streams = readOptions(option, given);
  return resolveBulkheadOptions({ ...numbers, ...streams }, option);
}
