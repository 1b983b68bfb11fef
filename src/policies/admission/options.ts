import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  oneOf,
  ratio,
  readOptions,
  unlessFalse,
  wholeNumber,
} from "../../core/options.js";
import { priorities } from "../../core/priority.js";
import { type LimitOptions, type MakeLimit, resolveLimit } from "../limits/options.js";
import {
  type PressureOptions,
  processSignals,
  type ResolvedPressureOptions,
  resolvePressureOptions,
} from "../pressure/options.js";
import { type OverflowPolicy, overflowPolicies, type QueueOrder, queueOrders } from "./queue.js";
import {
  type AdmissionThresholds,
  type PressureShedderOptions,
  type ResolvedThresholds,
  resolveThresholds,
} from "./shedders.js";

/**
 * A pool of slots for calls, and the queue in front of it.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/admission.md
 */
export interface PoolOptions {
  /**
   * Calls that may run at once: a whole number of at least 1, `adaptive`, an algorithm with its options, or a limit of your
   * own.
   * @defaultValue "adaptive"
   */
  readonly limit?: LimitOptions;
  /**
   * The hard cap on calls that run at once, critical ones included. A whole number of at least 1.
   * @defaultValue none: the limit and the headroom of critical calls are the bound
   */
  readonly maxConcurrent?: number;
  /**
   * Calls that may wait, a whole number; 0 for no queue.
   * @defaultValue the limit. Of a learnt limit, its present value, at least 16, and no more calls than can run in the longest
   * wait by the time for which handlers hold the event loop
   */
  readonly maxQueued?: number;
  /**
   * The longest wait in milliseconds, up to 24 days; 0 for no queue. A call's own deadline ends its wait sooner.
   * @defaultValue 1_000; 100 in a standing queue (see `queue.intervalMs`); and at most a third of the time until the deadline
   * of the call, or two thirds while it waits for the event loop alone and the queue is no standing one. Critical calls: 1_000
   * always, and at most two thirds
   */
  readonly maxWaitMs?: number;
  readonly queue?: QueueOptions;
}

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/admission.md */
export interface AdmissionOptions extends PoolOptions {
  /**
   * Loads from which priorities are refused; `false` for none.
   * @defaultValue low 0.70, normal 0.85, high 0.95 where no call may wait (`maxQueued` or `maxWaitMs` is 0), as for streams;
   *   none where calls wait, because then the queue decides who goes first
   */
  readonly thresholds?: AdmissionThresholds | false;
  /**
   * Share of the limit, from 0 to 1, by which critical calls may exceed it, rounded up to whole calls.
   * @defaultValue 0.1
   */
  readonly criticalHeadroom?: number;
  /**
   * Sheds a growing share of the calls while the process is hard pressed (short of memory, or busy and late in its event
   * loop) and calls are late: calls ran out of a time that is usually enough, or the queue is a standing one. Signals of your
   * own shed without that condition. With `{}` by the defaults of `PressureOptions` and `PressureShedderOptions`. `false`: a
   * brownout does not see the pressure either.
   * @defaultValue nothing is shed by pressure. It is measured for a brownout, for load reports and for the deadline guard
   */
  readonly pressure?: (PressureOptions & PressureShedderOptions) | false;
  /**
   * A pool of slots for calls that stream in either direction, or `together` for one pool with all others. A stream takes
   * its slot when it is opened, and keeps it. @defaultValue a pool with a limit of 1_000 and no queue
   */
  readonly streams?: StreamPoolOptions | "together";
  /**
   * Tells callers which priorities the server has no room for at present (trailer `x-weir-admission`), so that they need not
   * send them. @defaultValue false
   */
  readonly publish?: boolean;
}

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/admission.md */
export interface StreamPoolOptions extends PoolOptions {
  /**
   * Age in milliseconds at which a stream ends with UNAVAILABLE (reason `STREAM_AGED`), so that its caller opens it anew and
   * load balancing can move it. By chance up to a tenth less. 1 ms to 24 days. @defaultValue never
   */
  readonly maxAgeMs?: number;
}

/** One pool, checked and complete. */
export interface AdmissionPoolOptions {
  readonly makeLimit: MakeLimit;
  readonly maxConcurrent: number;
  /** `undefined`: as many as may run, and at least `minQueued`. */
  readonly maxQueued: number | undefined;
  readonly minQueued: number;
  /** The longest wait in a standing queue, in milliseconds. */
  readonly maxWaitMs: number;
  /** The longest wait in a burst, in milliseconds. */
  readonly burstWaitMs: number;
  /** The longest wait as a share of the time until the deadline of the call. */
  readonly maxWaitShare: number;
  readonly criticalMaxWaitMs: number;
  readonly criticalWaitShare: number;
  readonly criticalHeadroom: number;
  /** Bounds how much of one turn of the event loop calls take. */
  readonly byTurns: boolean;
  readonly queue: ResolvedQueueOptions;
}

/** Checked, complete and frozen. */
export interface ResolvedAdmissionOptions extends AdmissionPoolOptions {
  readonly thresholds: ResolvedThresholds | false;
  /** Whether they hold for pools with a queue, too. */
  readonly thresholdsWithQueue: boolean;
  /** `undefined`: measured, and nothing is shed by it. */
  readonly pressure:
    | (ResolvedPressureOptions & Required<PressureShedderOptions>)
    | false
    | undefined;
  readonly streams: (AdmissionPoolOptions & { readonly maxAgeMs: number }) | "together";
  readonly publish: boolean;
}

const poolKeys = ["limit", "maxConcurrent", "maxQueued", "maxWaitMs", "queue"];
const keys = [...poolKeys, "thresholds", "criticalHeadroom", "pressure", "streams", "publish"];

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveAdmissionOptions(
  given: AdmissionOptions = {},
  prefix = "admission",
  also: readonly string[] = [],
): ResolvedAdmissionOptions {
  const options = readOptions(prefix, given, keys, also);
  const { thresholds = {}, criticalHeadroom = 0.1, publish = false, pressure } = options;
  const { streams = {} } = options;
  if (typeof publish !== "boolean") {
    throw new InvalidOptionError(`${prefix}.publish`, "true or false", publish);
  }
  const headroom = finiteNumber(`${prefix}.criticalHeadroom`, criticalHeadroom, 0, 1);
  return Object.freeze({
    ...resolvePool(options, headroom, prefix),
    thresholds: unlessFalse(`${prefix}.thresholds`, thresholds, (option, given) =>
      resolveThresholds(given, option),
    ),
    thresholdsWithQueue: options.thresholds !== undefined,
    pressure:
      pressure === undefined
        ? undefined
        : unlessFalse(`${prefix}.pressure`, pressure, (option, given) =>
            resolvePressure(given, option),
          ),
    streams: resolveStreams(streams, headroom, `${prefix}.streams`),
    publish,
  });
}

function resolvePool(
  options: PoolOptions,
  criticalHeadroom: number,
  prefix: string,
): AdmissionPoolOptions {
  const { limit = "adaptive", maxConcurrent, maxQueued, maxWaitMs } = options;
  const ownMaxQueued =
    maxQueued === undefined ? undefined : wholeNumber(`${prefix}.maxQueued`, maxQueued, 0);
  const ownWaitMs =
    maxWaitMs === undefined ? undefined : durationMs(`${prefix}.maxWaitMs`, maxWaitMs);
  return {
    makeLimit: resolveLimit(limit, `${prefix}.limit`),
    maxConcurrent:
      maxConcurrent === undefined
        ? Number.POSITIVE_INFINITY
        : wholeNumber(`${prefix}.maxConcurrent`, maxConcurrent, 1),
    // A longest wait of 0 is no queue, and the load is then (running / limit).
    maxQueued: maxWaitMs === 0 ? 0 : ownMaxQueued,
    minQueued: typeof limit === "number" ? 0 : 16,
    // A fixed limit was chosen by somebody who knows the handlers, and without a queue calls cannot wait for the next turn.
    byTurns: typeof limit !== "number" && maxQueued !== 0 && maxWaitMs !== 0,
    maxWaitMs: ownWaitMs ?? 100,
    burstWaitMs: ownWaitMs ?? 1_000,
    maxWaitShare: maxWaitMs === undefined ? 1 / 3 : 1,
    criticalMaxWaitMs: ownWaitMs ?? 1_000,
    criticalWaitShare: maxWaitMs === undefined ? 2 / 3 : 1,
    criticalHeadroom,
    queue: resolveQueueOptions(options.queue, `${prefix}.queue`),
  };
}

const sheddingNames = ["target", "maxRefusedShare", "shedOn"];

function resolvePressure(
  given: PressureOptions & PressureShedderOptions,
  prefix: string,
): ResolvedPressureOptions & Required<PressureShedderOptions> {
  const options = readOptions(prefix, given);
  const { target = 0.5, maxRefusedShare = 0.95, shedOn, ...signals } = options;
  const resolved = resolvePressureOptions(signals, prefix, sheddingNames);
  const own = Object.keys(resolved.signals);
  const known = [...processSignals, ...own];
  if (shedOn !== undefined) {
    const unknown = Array.isArray(shedOn) ? shedOn.find((name) => !known.includes(name)) : shedOn;
    if (unknown !== undefined) {
      throw new InvalidOptionError(`${prefix}.shedOn`, `a list of ${known.join(", ")}`, unknown);
    }
  }
  const checked = ratio(`${prefix}.target`, target);
  if (checked === 1) throw new InvalidOptionError(`${prefix}.target`, "below 1", target);
  return Object.freeze({
    ...resolved,
    shedOn: Object.freeze(shedOn ?? ["memory", "loopDelayMs", ...own]),
    target: checked,
    maxRefusedShare: ratio(`${prefix}.maxRefusedShare`, maxRefusedShare),
  });
}

function resolveStreams(
  given: StreamPoolOptions | "together",
  criticalHeadroom: number,
  prefix: string,
): ResolvedAdmissionOptions["streams"] {
  if (given === "together") return given;
  if (typeof given === "string") {
    throw new InvalidOptionError(prefix, '"together" or an object of options', given);
  }
  const options = readOptions(prefix, given, [...poolKeys, "maxAgeMs"]);
  const { maxAgeMs, ...pool } = options;
  return Object.freeze({
    ...resolvePool({ limit: 1_000, maxQueued: 0, ...pool }, criticalHeadroom, prefix),
    maxAgeMs:
      maxAgeMs === undefined
        ? Number.POSITIVE_INFINITY
        : durationMs(`${prefix}.maxAgeMs`, maxAgeMs, 1),
  });
}

/**
 * In which order calls wait for a slot, and which call is refused when too many wait.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/admission.md
 */
export interface QueueOptions {
  /**
   * Calls that wait for the event loop alone are served by arrival in any order until the queue is a standing one: they all
   * are served in time, and none has to lose.
   *
   * - `priority`: the best priority first, and by arrival inside it.
   * - `fifo`: by arrival.
   * - `adaptive-lifo`: like `priority`, but in a standing queue the newest call of a priority first, and calls that have
   *   waited for longer than `targetMs` are refused.
   *
   * Critical calls are first in each. @defaultValue "priority"
   */
  readonly order?: QueueOrder;
  /**
   * Which call is refused when the queue is full:
   * - `evict-lowest`: the newest call of the lowest priority, if that is lower than the new one's, else the new call;
   * - `reject-new`: the new call;
   * - `drop-oldest`: the call that has waited longest;
   * - `drop-newest`: the waiting call that came last;
   * - `age-out`: the oldest call, if it has waited `maxAgeMs`, else the new call.
   *
   * A critical call is never evicted. @defaultValue "evict-lowest"
   */
  readonly overflow?: OverflowPolicy;
  /**
   * Share of all slots that `high`, `normal` and `low` calls are each owed, from 0 to 0.25, so that a steady load of better
   * calls does not starve them. A call that is owed a slot is refused neither by thresholds nor for a full queue, and only a
   * critical call can evict it. Critical calls give up none of their slots for it. @defaultValue 0.02
   */
  readonly minShare?: number;
  /** For `age-out`: how long a call has waited that may be evicted, in milliseconds. 0 to 24 days. @defaultValue 50 */
  readonly maxAgeMs?: number;
  /**
   * A queue that has not been empty for so long, in milliseconds, is a standing queue; where only the event loop keeps calls
   * waiting, one in which a call has waited for so long. 1 ms to 24 days.
   * @defaultValue 100 while no slot is free. While only the event loop keeps calls waiting, half of the time that callers
   *   usually give their calls, and at least 100; 500 where they give none: the queue that a pause leaves behind empties
   */
  readonly intervalMs?: number;
  /**
   * For `adaptive-lifo`: the wait in milliseconds after which calls in a standing queue are refused. 0 to 24 days.
   * @defaultValue 5
   */
  readonly targetMs?: number;
}

export type ResolvedQueueOptions = Readonly<Required<Omit<QueueOptions, "intervalMs">>> & {
  readonly intervalMs: number | undefined;
};

const names = ["order", "overflow", "minShare", "maxAgeMs", "intervalMs", "targetMs"];

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
function resolveQueueOptions(given: QueueOptions = {}, prefix = "queue"): ResolvedQueueOptions {
  const options = readOptions(prefix, given, names);
  const { order = "priority", overflow = "evict-lowest", minShare = 0.02 } = options;
  const { maxAgeMs = 50, intervalMs, targetMs = 5 } = options;
  return Object.freeze({
    order: oneOf(`${prefix}.order`, order, queueOrders),
    overflow: oneOf(`${prefix}.overflow`, overflow, overflowPolicies),
    minShare: finiteNumber(`${prefix}.minShare`, minShare, 0, 1 / priorities.length),
    maxAgeMs: durationMs(`${prefix}.maxAgeMs`, maxAgeMs),
    intervalMs:
      intervalMs === undefined ? undefined : durationMs(`${prefix}.intervalMs`, intervalMs, 1),
    targetMs: durationMs(`${prefix}.targetMs`, targetMs),
  });
}
