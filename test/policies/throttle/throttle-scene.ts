import { isRefusal, type Permit } from "../../../src/core/permit.js";
import { type Priority, priorities, priorityRank } from "../../../src/core/priority.js";
import {
  resolveThrottleOptions,
  type ThrottleOptions,
} from "../../../src/policies/throttle/options.js";
import { Throttle } from "../../../src/policies/throttle/throttle.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";

export const shed = { unserved: "shed" } as const;

export function throttleScene(options: ThrottleOptions = {}, random = seededRandom(1)) {
  const clock = new VirtualClock();
  const throttle = new Throttle(resolveThrottleOptions(options), clock, random);
  const acquire = (priority: Priority = "normal"): Permit | "THROTTLED" => {
    const entry = throttle.acquire(priorityRank[priority]);
    return isRefusal(entry) ? "THROTTLED" : entry;
  };
  /** So many calls of which the target serves so many, all without being held back. */
  const history = (priority: Priority, requests: number, accepts: number) => {
    for (let n = 0; n < requests; n += 1) {
      const permit = throttle.pass(priorityRank[priority]);
      if (n < accepts) permit.settle("success");
      else permit.settle("ignored", shed);
    }
  };
  return { clock, throttle, acquire, history };
}

/** What a simulated second came to, by priority. */
export type Second = Record<Priority, { asked: number; sent: number; served: number }>;

/**
 * A client that wants `asks` calls of each priority a second, evenly, from a target that serves `capacity` of them a
 * second: the best first if it knows priorities, whoever comes otherwise.
 */
export function simulate(
  options: ThrottleOptions,
  asks: Readonly<Partial<Record<Priority, number>>>,
  seconds: number,
  world: { capacity: (second: number) => number; byPriority?: boolean; seed?: number },
): Second[] {
  const random = seededRandom(world.seed ?? 7);
  const { clock, throttle } = throttleScene(options, random);
  const slots = 20;
  const results: Second[] = [];
  for (let second = 0; second < seconds; second += 1) {
    const result = emptySecond();
    const room = { left: 0 };
    for (let slot = 0; slot < slots; slot += 1) {
      room.left = Math.min(room.left, 1) + world.capacity(second) / slots;
      const sent: { priority: Priority; permit: Permit; order: number }[] = [];
      for (const priority of priorities) {
        const ask = asks[priority] ?? 0;
        const count = Math.floor((ask * (slot + 1)) / slots) - Math.floor((ask * slot) / slots);
        for (let n = 0; n < count; n += 1) {
          result[priority].asked += 1;
          const entry = throttle.acquire(priorityRank[priority]);
          if (isRefusal(entry)) continue;
          result[priority].sent += 1;
          const order = world.byPriority === true ? priorityRank[priority] : random();
          sent.push({ priority, permit: entry, order });
        }
      }
      clock.advance(1_000 / slots);
      for (const { priority, permit } of sent.toSorted((a, b) => a.order - b.order)) {
        if (room.left < 1) permit.settle("ignored", shed);
        else {
          room.left -= 1;
          result[priority].served += 1;
          permit.settle("success");
        }
      }
    }
    results.push(result);
  }
  return results;
}

function emptySecond(): Second {
  const none = () => ({ asked: 0, sent: 0, served: 0 });
  return { critical: none(), high: none(), normal: none(), low: none() };
}

/** The mean of so many seconds. */
export function mean(results: readonly Second[], from: number, to: number) {
  const all = { asked: 0, sent: 0, served: 0 };
  const by = emptySecond();
  for (const second of results.slice(from, to)) {
    for (const priority of priorities) {
      for (const key of ["asked", "sent", "served"] as const) {
        by[priority][key] += second[priority][key] / (to - from);
        all[key] += second[priority][key] / (to - from);
      }
    }
  }
  return { all, by };
}
