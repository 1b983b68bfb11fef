import type { Mode } from "../../src/core/control.js";
import type { QuotaStore } from "../../src/policies/rate-limit/store.js";
import { seededRandom } from "../../src/testing/clock/seeded-random.js";
import type { VirtualClock } from "../../src/testing/clock/virtual-clock.js";

/** What a user's function throws on purpose: the only error that a world may report. */
export const thrownByUser = "thrown by a drawn hook";

/** Chance, in the shapes in which a world needs it. */
export class Dice {
  readonly random: () => number;

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  pick<const T extends readonly unknown[]>(...values: T): T[number] {
    return values[Math.floor(this.random() * values.length)];
  }

  chance(share: number): boolean {
    return this.random() < share;
  }

  /** Most policies enforce. */
  mode(): Mode {
    return this.pick("enforce", "enforce", "enforce", "enforce", "observe", "off");
  }

  /** A function of the user, which now and then throws or answers nonsense. */
  hook<T>(answer: () => T, throws = this.chance(0.1)): () => T {
    return () => {
      if (throws && this.chance(0.3)) throw new Error(thrownByUser);
      return answer();
    };
  }

  /** A store of tokens that is slow, short or broken. */
  store(clock: VirtualClock): QuotaStore {
    const kind = this.pick("soon", "slow", "silent", "fails", "throws");
    const answer = () =>
      this.chance(0.7) ? { granted: true as const } : { granted: false as const, retryAfterMs: 10 };
    return {
      giveBack: () => {},
      take: () => {
        switch (kind) {
          case "soon":
            return Promise.resolve(answer());
          case "slow":
            return new Promise((resolve) => {
              clock.schedule(this.random() * 60, () => resolve(answer()));
            });
          case "silent":
            return new Promise(() => {});
          case "fails":
            return Promise.reject(new Error(thrownByUser));
          case "throws":
            throw new Error(thrownByUser);
        }
      },
    };
  }
}
