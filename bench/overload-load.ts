import { type Calls, deadlineMs, type Fate } from "./overload-calls.js";
import type { MethodName } from "./overload-handlers.js";
import { mixed, type PriorityName } from "./overload-mix.js";

/** A call that is so late is not made any more: made up for later, it would be a burst that nobody asked for. */
const maxLagMs = 100;

/** What became of the calls of one priority; `offered` is all of them, the demand. */
export type Fates = Record<"offered" | Fate, number>;

export interface LoadResult {
  /** Calls that were due. */
  readonly intended: number;
  readonly byPriority: Readonly<Record<PriorityName, Fates>>;
  /** How long the calls took that were served, in milliseconds. */
  readonly okMs: readonly number[];
  /** How late calls were made, the worst. */
  readonly lagMs: number;
  /** How busy the event loop of the callers was: near 1, they are late to see answers too. */
  readonly busy: number;
}

export interface RecoveryResult {
  /** From the end of the load until calls are served as ever; `undefined` if they were not while it was watched. */
  readonly recoveredMs?: number;
}

interface OpenLoad {
  readonly perSecond: number;
  readonly seconds: number;
}

/** A crowd of callers on one connection. */
export class Caller {
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
  }

  close(): void {
    this.#calls.close();
  }

  /** Takes a slot for good. */
  async hold(): Promise<void> {
    this.#calls.call("hold", undefined, () => {});
    await new Promise((resolve) => setTimeout(resolve, 300));
  }

  /** So many callers who call again as soon as they are answered. Resolves to answers per second, OK or not. */
  async closed(method: MethodName, callers: number, seconds: number): Promise<number> {
    const startedMs = performance.now();
    const untilMs = startedMs + 1_000 * seconds;
    let answered = 0;
    await Promise.all(
      Array.from({ length: callers }, async () => {
        while (performance.now() < untilMs) {
          await new Promise<void>((resolve) =>
            this.#calls.call(method, undefined, () => resolve()),
          );
          answered += 1;
        }
      }),
    );
    return (1_000 * answered) / (performance.now() - startedMs);
  }

  /** Calls that come whether others are answered or not, at random (Poisson). */
  async open(load: OpenLoad): Promise<LoadResult> {
    const result = emptyResult();
    const okMs: number[] = [];
    const loop = performance.eventLoopUtilization();
    const { due, lagMs } = await this.#arrivals(load, (priority, settled) => {
      const fates = result[priority];
      fates.offered += 1;
      this.#calls.call("work", priority, (fate, tookMs) => {
        fates[fate] += 1;
        if (fate === "ok") okMs.push(tookMs);
        settled();
      });
    });
    const busy = performance.eventLoopUtilization(loop).utilization;
    return { intended: due, byPriority: result, okMs, lagMs, busy };
  }

  /** A calm load, until half a second of it went well or its time is over. */
  async recovery(load: OpenLoad): Promise<RecoveryResult> {
    const sliceMs = 100;
    const needed = 5;
    const slices = new Map<number, { calls: number; ended: number; bad: number }>();
    const startedMs = performance.now();
    let recoveredMs: number | undefined;
    const look = () => {
      for (let first = 0; recoveredMs === undefined; first += 1) {
        let calls = 0;
        let bad = 0;
        for (let index = first; index < first + needed; index += 1) {
          const slice = slices.get(index);
          // Calls of a slice that is not over, or not answered, say nothing yet.
          const over = performance.now() - startedMs >= (index + 1) * sliceMs;
          if (!over || (slice !== undefined && slice.ended < slice.calls)) return;
          calls += slice?.calls ?? 0;
          bad += slice?.bad ?? 0;
        }
        if (calls > 0 && bad <= 0.01 * calls) recoveredMs = first * sliceMs;
      }
    };
    await this.#arrivals(
      load,
      (priority, settled) => {
        const index = Math.floor((performance.now() - startedMs) / sliceMs);
        const slice = slices.get(index) ?? { calls: 0, ended: 0, bad: 0 };
        slices.set(index, slice);
        slice.calls += 1;
        this.#calls.call("work", priority, (fate) => {
          slice.ended += 1;
          if (fate !== "ok") slice.bad += 1;
          settled();
        });
      },
      () => {
        look();
        return recoveredMs !== undefined;
      },
    );
    look();
    return recoveredMs === undefined ? {} : { recoveredMs };
  }

  /** Resolves when all calls have ended: to how many were due, and how late they were made at worst. */
  #arrivals(
    { perSecond, seconds }: OpenLoad,
    arrive: (priority: PriorityName, settled: () => void) => void,
    enough: () => boolean = () => false,
  ): Promise<{ readonly due: number; readonly lagMs: number }> {
    return new Promise((resolve) => {
      const meanMs = 1_000 / perSecond;
      const startedMs = performance.now();
      const endMs = startedMs + 1_000 * seconds;
      let dueMs = startedMs + gap(meanMs);
      let due = 0;
      let worstMs = 0;
      let open = 0;
      let over = false;
      const settled = () => {
        open -= 1;
        if (over && open === 0) resolve({ due, lagMs: worstMs });
      };
      const step = () => {
        const nowMs = performance.now();
        for (; dueMs <= nowMs && dueMs < endMs; dueMs += gap(meanMs)) {
          due += 1;
          const lagMs = nowMs - dueMs;
          if (lagMs > worstMs) worstMs = lagMs;
          if (lagMs > maxLagMs) continue;
          open += 1;
          arrive(mixed(), settled);
        }
        if (dueMs < endMs && !enough()) setTimeout(step, Math.max(0, dueMs - performance.now()));
        else {
          over = true;
          const end = () => resolve({ due, lagMs: worstMs });
          if (open === 0) end();
          // A call that is never answered, deadline or not, is not served. It must not hold up the others.
          else setTimeout(end, 10 * deadlineMs);
        }
      };
      step();
    });
  }
}

/** Of exponential length: arrivals that know nothing of each other. */
function gap(meanMs: number): number {
  return -meanMs * Math.log(1 - Math.random());
}

function emptyResult(): Record<PriorityName, Fates> {
  const fates = (): Fates => ({ offered: 0, ok: 0, refused: 0, heldBack: 0, late: 0, other: 0 });
  return { critical: fates(), high: fates(), normal: fates(), low: fates() };
}
