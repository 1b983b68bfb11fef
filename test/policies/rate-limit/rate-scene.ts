import type { Clock, Random } from "../../../src/core/clock.js";
import { abandon, type GateAnswer, type WaitResult } from "../../../src/core/permit.js";
import {
  type RateLimitOptions,
  resolveRateLimitOptions,
} from "../../../src/policies/rate-limit/options.js";
import { RateLimit } from "../../../src/policies/rate-limit/rate-limit.js";
import type { QuotaAnswer, QuotaStore } from "../../../src/policies/rate-limit/store.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { fateOf, permitOf } from "../../core/turns.js";

export interface Asked {
  readonly key?: string;
  readonly cost?: number;
  readonly rank?: number;
  /** @defaultValue no deadline */
  readonly withinMs?: number;
}

/** A call that asked a rate, and what it was told since. */
export interface Asking {
  readonly entry: GateAnswer;
  readonly turns: WaitResult[];
  readonly waits: number[];
  /** What has become of it, in a word. */
  readonly fate: () => string;
  /** It was let through and does not go on after all: it left, or was refused by something behind the rate. */
  readonly abandon: (refused?: boolean) => void;
}

/** A rate of ten per second under a virtual clock, and calls that ask it. Chance is 0 unless told otherwise. */
export function rateScene(options: Partial<RateLimitOptions> = {}, random: Random = () => 0) {
  return rateSceneUnder(new VirtualClock(), options, random);
}

export function rateSceneUnder<C extends Clock>(
  clock: C,
  options: Partial<RateLimitOptions> = {},
  random: Random = () => 0,
) {
  const errors: { error: unknown; where: string }[] = [];
  const limit = new RateLimit(
    resolveRateLimitOptions({ ratePerSecond: 10, burst: 1, ...options }),
    { clock, random, report: (error, where) => errors.push({ error, where }) },
    "rate",
  );
  const enter = (
    { key = "a", cost = 1, rank = 2, withinMs = Infinity }: Asked = {},
    told: () => void = () => {},
  ): Asking => {
    const turns: WaitResult[] = [];
    const waits: number[] = [];
    const entry = limit.enter({
      key,
      cost,
      rank,
      deadlineMs: clock.now() + withinMs,
      onGranted: (turn, waitedMs) => {
        turns.push(turn);
        waits.push(waitedMs);
        told();
      },
    });
    return {
      entry,
      turns,
      waits,
      fate: () => fateOf(turns[0] ?? entry),
      abandon: (refused = false) => abandon(permitOf(turns[0] ?? entry), refused),
    };
  };
  return { clock, errors, limit, enter };
}

/** A store whose answers are given by hand. */
export class ManualStore implements QuotaStore {
  readonly asked: {
    readonly key: string;
    readonly cost: number;
    readonly answer: (said: QuotaAnswer) => void;
    readonly fail: (error: unknown) => void;
  }[] = [];
  readonly givenBack: { readonly key: string; readonly cost: number }[] = [];

  take(key: string, cost: number): Promise<QuotaAnswer> {
    return new Promise((answer, fail) => {
      this.asked.push({ key, cost, answer, fail });
    });
  }

  giveBack(key: string, cost: number): void {
    this.givenBack.push({ key, cost });
  }
}
