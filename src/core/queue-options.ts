import { durationMs, finiteNumber, oneOf, readOptions } from "./options.js";
import { priorities } from "./priority.js";
import {
  type OverflowPolicy,
  overflowPolicies,
  type QueueOrder,
  queueOrders,
} from "./waiting-line.js";

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
export function resolveQueueOptions(
  given: QueueOptions = {},
  prefix = "queue",
): ResolvedQueueOptions {
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
