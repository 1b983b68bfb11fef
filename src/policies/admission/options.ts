import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  oneOf,
  ratio,
  readOptions,
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

/** The slots that calls run in, and the queue in front of them. */
export interface PoolOptions {
  /**
   * Calls that may run at once: a whole number, `adaptive`, an algorithm with its options, or a limit of one's own.
   * @defaultValue "adaptive"
   */
  readonly limit?: LimitOptions;
  /**
   * The hard cap, for critical calls with their headroom too. A whole number of at least 1.
   * @defaultValue none beside the limit and the headroom
   */
  readonly maxConcurrent?: number;
  /**
   * Calls that may wait, a whole number; 0 for no queue.
   * @defaultValue the limit; of one that is learnt, as it stands, but no more than handlers get through in the longest
   * wait, by how long they hold the event loop, and at least 16
   */
  readonly maxQueued?: number;
  /**
   * The longest wait in milliseconds, up to 24 days; 0 for no queue. A call's own deadline ends its wait sooner.
   * @defaultValue 1_000, and for a call with a deadline no more than a third of the time that it comes with; but 100 for those
   * who come to a queue that has not been empty for `queue.intervalMs`. For critical calls always 1_000, and two thirds
   */
  readonly maxWaitMs?: number;
  readonly queue?: QueueOptions;
}

export interface AdmissionOptions extends PoolOptions {
  /** Loads from which priorities are refused; `false` for none. */
  readonly thresholds?: AdmissionThresholds | false;
  /**
   * Share of the limit, from 0 to 1, by which critical calls may exceed it; rounded up to whole calls.
   * @defaultValue 0.1
   */
  readonly criticalHeadroom?: number;
  /**
   * Refuses a growing share of the calls while the process is hard pressed (short of memory, or busy and late in its event
   * loop) and calls are late for it: some that would usually have been served in time ran out of it, or the queue has stood
   * for too long to be a burst. A signal of one's own needs no such proof. `false` for never. What is read for it also
   * tells limits that learn when the process is saturated.
   */
  readonly pressure?: (PressureOptions & PressureShedderOptions) | false;
  /**
   * Slots of their own for calls that stream, either way, or `together` with the others. A stream is admitted once,
   * when it is opened. @defaultValue a limit of 1_000 and no queue
   */
  readonly streams?: StreamPoolOptions | "together";
  /**
   * Whether callers are told which priorities have no prospect at present (trailer `x-weir-admission`), so that they
   * need not send them. @defaultValue true
   */
  readonly publish?: boolean;
}

export interface StreamPoolOptions extends PoolOptions {
  /**
   * Streams that are older end with UNAVAILABLE (reason `STREAM_AGED`), so that callers open them anew, elsewhere if
   * balancing says so. Each ages up to a tenth sooner by chance. 1 ms to 24 days. @defaultValue never
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
  /** In a queue that stands, and in a burst. */
  readonly maxWaitMs: number;
  readonly burstWaitMs: number;
  readonly maxWaitShare: number;
  /** The same of critical calls. */
  readonly criticalMaxWaitMs: number;
  readonly criticalWaitShare: number;
  readonly criticalHeadroom: number;
  /** Calls also wait for the next turn of the event loop while the handlers of this one hold it. */
  readonly byTurns: boolean;
  readonly queue: ResolvedQueueOptions;
}

/** Checked, complete and frozen. */
export interface ResolvedAdmissionOptions extends AdmissionPoolOptions {
  readonly thresholds: ResolvedThresholds | false;
  readonly pressure: (ResolvedPressureOptions & Required<PressureShedderOptions>) | false;
  readonly streams: (AdmissionPoolOptions & { readonly maxAgeMs: number }) | "together";
  readonly publish: boolean;
}

const poolKeys = ["limit", "maxConcurrent", "maxQueued", "maxWaitMs", "queue"];
const keys = [...poolKeys, "thresholds", "criticalHeadroom", "pressure", "streams", "publish"];

/** Fills in the defaults. Throws `InvalidOptionError` for a value out of range or an unknown option. */
export function resolveAdmissionOptions(
  given: AdmissionOptions = {},
  prefix = "admission",

  also: readonly string[] = [],
): ResolvedAdmissionOptions {
  const options = readOptions(prefix, given, keys, also);
  const { thresholds = {}, criticalHeadroom = 0.1, publish = true, pressure = {} } = options;
  const { streams = {} } = options;
  if (typeof publish !== "boolean") {
    throw new InvalidOptionError(`${prefix}.publish`, "true or false", publish);
  }
  const headroom = finiteNumber(`${prefix}.criticalHeadroom`, criticalHeadroom, 0, 1);
  return Object.freeze({
    ...resolvePool(options, headroom, prefix),
    thresholds: thresholds !== false && resolveThresholds(thresholds, `${prefix}.thresholds`),
    pressure: pressure !== false && resolvePressure(pressure, `${prefix}.pressure`),
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
  const places =
    maxQueued === undefined ? undefined : wholeNumber(`${prefix}.maxQueued`, maxQueued, 0);
  const ownWaitMs =
    maxWaitMs === undefined ? undefined : durationMs(`${prefix}.maxWaitMs`, maxWaitMs);
  return {
    makeLimit: resolveLimit(limit, `${prefix}.limit`),
    maxConcurrent:
      maxConcurrent === undefined
        ? Number.POSITIVE_INFINITY
        : wholeNumber(`${prefix}.maxConcurrent`, maxConcurrent, 1),
    // Without a wait there is no place to wait in, and load is what runs.
    maxQueued: maxWaitMs === 0 ? 0 : places,
    minQueued: typeof limit === "number" ? 0 : 16,
    // A number is the word of somebody who knows the handlers, and without a queue there is nowhere to wait.
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

function resolvePressure(
  given: PressureOptions & PressureShedderOptions,
  prefix: string,
): ResolvedPressureOptions & Required<PressureShedderOptions> {
  const options = readOptions(prefix, given);
  const { target = 0.5, maxShare = 0.95, shedOn, ...signals } = options;
  const resolved = resolvePressureOptions(signals, prefix);
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
    maxShare: ratio(`${prefix}.maxShare`, maxShare),
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

/** In which order calls wait for a slot, and who has to go when there are too many. */
export interface QueueOptions {
  /**
   * `priority`: the best first, by arrival inside a priority. `fifo`: by arrival. `adaptive-lifo`: like `priority`, but
   * in a standing queue the newest of a priority first, and who has waited longer than `targetMs` is refused.
   * Critical calls are first in each. @defaultValue "priority"
   */
  readonly order?: QueueOrder;
  /**
   * Who goes when the queue is full: `evict-lowest` the newest call of the lowest priority, if that is lower than the
   * newcomer's; `reject-new` the newcomer; `drop-oldest` who has waited longest; `drop-newest` who came last;
   * `age-out` who has waited `maxAgeMs`, and the newcomer while nobody has. No critical call goes for another.
   * @defaultValue "evict-lowest"
   */
  readonly overflow?: OverflowPolicy;
  /**
   * Share of the turns that `high`, `normal` and `low` calls are each owed, from 0 to 0.25, so that a steady load of better
   * calls does not starve them: neither thresholds nor a full queue refuse a call that is owed a turn, and no other call
   * puts it out. Critical calls give none of their turns, and may put it out. @defaultValue 0.02
   */
  readonly minShare?: number;
  /** For `age-out`: a call that has waited so long may be put out. 0 to 24 days. @defaultValue 50 */
  readonly maxAgeMs?: number;
  /** For `adaptive-lifo`: a queue that has not been empty for so long is a standing one. 1 ms to 24 days. @defaultValue 100 */
  readonly intervalMs?: number;
  /** For `adaptive-lifo`: in a standing queue, calls that waited longer are refused. 0 to 24 days. @defaultValue 5 */
  readonly targetMs?: number;
}

export type ResolvedQueueOptions = Readonly<Required<QueueOptions>>;

const names = ["order", "overflow", "minShare", "maxAgeMs", "intervalMs", "targetMs"];

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
function resolveQueueOptions(given: QueueOptions = {}, prefix = "queue"): ResolvedQueueOptions {
  const options = readOptions(prefix, given, names);
  const { order = "priority", overflow = "evict-lowest", minShare = 0.02 } = options;
  const { maxAgeMs = 50, intervalMs = 100, targetMs = 5 } = options;
  return Object.freeze({
    order: oneOf(`${prefix}.order`, order, queueOrders),
    overflow: oneOf(`${prefix}.overflow`, overflow, overflowPolicies),
    minShare: finiteNumber(`${prefix}.minShare`, minShare, 0, 1 / priorities.length),
    maxAgeMs: durationMs(`${prefix}.maxAgeMs`, maxAgeMs),
    intervalMs: durationMs(`${prefix}.intervalMs`, intervalMs, 1),
    targetMs: durationMs(`${prefix}.targetMs`, targetMs),
  });
}
