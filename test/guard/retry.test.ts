import { AsyncLocalStorage } from "node:async_hooks";
import { describe, expect, it } from "vitest";
import { GuardRejectedError } from "../../src/grpc/status/guard-rejected-error.js";
import { deferred, guarded, rejected } from "./scene.js";

const never = () => new Promise<never>(() => {});
const backoff = { baseMs: 100, jitter: "none" } as const;

/** Work that fails so many times. */
function failing(times: number, error: unknown = new Error("down")) {
  const state = { calls: 0 };
  const work = () => {
    state.calls += 1;
    return state.calls <= times ? Promise.reject(error) : Promise.resolve(state.calls);
  };
  return { state, work, error };
}

describe("retries of a guard", () => {
  it("are off unless asked for", async () => {
    const { guard } = guarded({ breaker: {} });
    const { work, state, error } = failing(1);
    expect(await rejected(guard.run(work))).toBe(error);
    expect(state.calls).toBe(1);
  });

  it("try again after a backoff, and give what the last attempt gave", async () => {
    const { clock, guard, decisions, expectQuiet } = guarded({ retry: { backoff } });
    const { work } = failing(2);
    const startedMs = clock.now();
    expect(await clock.until(guard.run(work))).toBe(3);
    expect(clock.now() - startedMs).toBe(300);
    expect(decisions).toMatchObject([
      { policy: "retry", verdict: "retry", waitMs: 100 },
      { policy: "retry", verdict: "retry", waitMs: 200 },
    ]);
    await expectQuiet();
  });

  it("end with the error of the last attempt when none is left", async () => {
    const { clock, guard, decisions, numbers } = guarded({ retry: { maxAttempts: 2, backoff } });
    const { work, state, error } = failing(9);
    expect(await clock.until(rejected(guard.run(work)))).toBe(error);
    expect(state.calls).toBe(2);
    expect(decisions.at(-1)).toMatchObject({ verdict: "stop", reason: "RETRY_ATTEMPTS_SPENT" });
    expect(numbers("retry")).toMatchObject({ retried: 1, stopped: 1 });
  });

  it("leave aborts alone, and what retryError does not want", async () => {
    const abort = Object.assign(new Error("left"), { name: "AbortError" });
    const aborted = failing(1, abort);
    expect(await rejected(guarded({ retry: { backoff } }).guard.run(aborted.work))).toBe(abort);
    const { guard, errors } = guarded({
      retry: {
        backoff,
        retryError(error) {
          if (error === 1) return false;
          throw new Error("a broken hook");
        },
      },
    });
    expect(await rejected(guard.run(failing(1, 1).work))).toBe(1);
    expect(errors).toEqual([]);
    expect(await rejected(guard.run(failing(1, 2).work))).toBe(2);
    expect(errors).toHaveLength(1);
  });

  it("stop at once where the backoff does not fit into the time that is left", async () => {
    const { clock, guard, decisions, expectQuiet } = guarded({
      timeouts: { totalMs: 250 },
      retry: { backoff },
    });
    const { work, state, error } = failing(9);
    const startedMs = clock.now();
    expect(await clock.until(rejected(guard.run(work)))).toBe(error);
    expect(clock.now() - startedMs).toBe(100);
    expect(state.calls).toBe(2);
    expect(decisions.at(-1)).toMatchObject({ verdict: "stop", reason: "RETRY_PAST_DEADLINE" });
    await expectQuiet();
  });

  it("stay within the budget, which gets back what was not used", async () => {
    const { clock, guard, decisions, numbers } = guarded({
      retry: { maxAttempts: 2, backoff, budget: { ratio: 0.5, minPerSecond: 0, maxTokens: false } },
    });
    const ends = [1, 2, 3, 4].map(() => rejected(guard.run(failing(9).work)));
    await clock.until(Promise.all(ends));
    const budgeted = decisions.filter(({ reason }) => reason === "RETRY_BUDGET");
    expect(budgeted).toHaveLength(2);
    const abort = new AbortController();
    for (let n = 0; n < 2; n++) await guard.run(() => n);
    const left = rejected(guard.run(failing(9).work, { signal: abort.signal }));
    await clock.pass(0);
    expect(numbers("retry")).toMatchObject({ retried: 3 });
    abort.abort();
    await left;
    expect(JSON.stringify(numbers("retry"))).toContain('"extras":2');
  });

  it("cost the budget nothing when the run ends while the attempt that follows stands in the queue", async () => {
    const { clock, guard, numbers, expectQuiet } = guarded({
      bulkhead: { maxConcurrent: 1, maxWaitMs: 10_000 },
      retry: { backoff },
    });
    const abort = new AbortController();
    const { work, state } = failing(9);
    const left = rejected(guard.run(work, { signal: abort.signal }));
    await clock.pass(50);
    const slot = deferred();
    const other = guard.run(() => slot.promise);
    await clock.pass(100);
    expect(numbers("bulkhead")).toMatchObject({ running: 1, queued: 1 });
    expect(JSON.stringify(numbers("retry"))).toContain('"extras":1');
    abort.abort();
    await left;
    expect(JSON.stringify(numbers("retry"))).toContain('"extras":0');
    expect(state.calls).toBe(1);
    slot.resolve("done");
    await other;
    await expectQuiet();
  });

  it("tell the token bucket of failures and successes", async () => {
    const { clock, guard, numbers } = guarded({
      retry: { maxAttempts: 1, budget: { ratio: false, maxTokens: 10, tokenRatio: 0.5 } },
    });
    await rejected(guard.run(failing(9).work));
    await clock.until(guard.run(failing(0).work));
    expect(JSON.stringify(numbers("retry"))).toContain('"left":9.5');
  });

  it("hold no place of the bulkhead while they wait, and take a new one", async () => {
    const { clock, guard, numbers } = guarded({
      bulkhead: { maxConcurrent: 1, maxQueued: 0 },
      retry: { backoff },
    });
    const { work } = failing(1);
    const run = guard.run(work);
    await clock.pass(50);
    expect(numbers("bulkhead")).toMatchObject({ running: 0 });
    expect(await clock.until(run)).toBe(2);
    expect(numbers("bulkhead")).toMatchObject({ admitted: 2, running: 0 });
  });

  it("end with the error of the work when a policy refuses the attempt that follows", async () => {
    const { clock, guard, decisions, numbers } = guarded({
      breaker: { consecutiveFailures: 1 },
      retry: { backoff },
    });
    const { work, state, error } = failing(9);
    expect(await clock.until(rejected(guard.run(work)))).toBe(error);
    expect(state.calls).toBe(1);
    // It cost the budget nothing: nothing was sent.
    expect(JSON.stringify(numbers("retry"))).toContain('"extras":0');
    expect(decisions.map(({ verdict, reason }) => [verdict, reason])).toEqual([
      ["retry", undefined],
      ["reject", "BREAKER_OPEN"],
      ["stop", "BREAKER_OPEN"],
    ]);
  });

  it("do not try again what a guard inside refused", async () => {
    const inner = guarded({ bulkhead: { maxConcurrent: 1, maxQueued: 0 } });
    void inner.guard.run(never);
    const { guard, decisions } = guarded({ retry: { backoff } });
    expect(await rejected(guard.run(() => inner.guard.run(never)))).toMatchObject({
      reason: "BULKHEAD_FULL",
    });
    expect(decisions).toEqual([]);
  });
});

describe("the time of an attempt", () => {
  it("ends the attempt and not the run: its signal is aborted, and the next attempt has a new one", async () => {
    const { clock, guard, decisions, expectQuiet } = guarded({
      timeouts: { totalMs: 1_000, attemptMs: 50 },
      retry: { backoff },
    });
    const signals: AbortSignal[] = [];
    const run = guard.run((signal) => {
      signals.push(signal);
      return signals.length < 3 ? never() : "third time lucky";
    });
    expect(await clock.until(run)).toBe("third time lucky");
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true, false]);
    expect(signals[0]?.reason).toMatchObject({
      reason: "WORK_TIMEOUT",
      details: "db: no result of attempt 1 within 50 ms [WORK_TIMEOUT]",
    });
    expect(decisions.map(({ policy, verdict }) => [policy, verdict])).toEqual([
      ["timeouts", "expire"],
      ["retry", "retry"],
      ["timeouts", "expire"],
      ["retry", "retry"],
    ]);
    expect(guard.snapshot()).toMatchObject({ succeeded: 1, abandoned: 2 });
    await expectQuiet();
  });

  it("rejects with WORK_TIMEOUT when none follows, and counts for the breaker", async () => {
    const { clock, guard, numbers, expectQuiet } = guarded({
      timeouts: { attemptMs: 50 },
      breaker: {},
    });
    const error = await clock.until(rejected(guard.run(never)));
    expect(error).toBeInstanceOf(GuardRejectedError);
    expect(error).toMatchObject({ reason: "WORK_TIMEOUT" });
    expect(numbers("breaker")).toMatchObject({ consecutiveFailures: 1 });
    expect(guard.snapshot()).toMatchObject({ rejected: 1, failed: 0, abandoned: 1 });
    await expectQuiet();
  });

  it("begins behind the queue", async () => {
    const { clock, guard } = guarded({
      timeouts: { attemptMs: 50 },
      bulkhead: { maxConcurrent: 1, maxWaitMs: 1_000 },
    });
    const slow = () => new Promise((resolve) => clock.schedule(40, () => resolve("done")));
    const runs = [1, 2, 3].map(() => guard.run(slow));
    expect(await clock.until(Promise.all(runs))).toEqual(["done", "done", "done"]);
  });

  it("begins the next attempt in the async context of its run", async () => {
    const storage = new AsyncLocalStorage<string>();
    const { clock, guard } = guarded({ timeouts: { attemptMs: 50 }, retry: { backoff } });
    const seen: (string | undefined)[] = [];
    const start = (name: string) =>
      storage.run(name, () => {
        let calls = 0;
        return guard.run(() => {
          calls += 1;
          seen.push(storage.getStore());
          return calls === 1 ? never() : name;
        });
      });
    expect(await clock.until(Promise.all([start("a"), start("b")]))).toEqual(["a", "b"]);
    expect(seen).toEqual(["a", "b", "a", "b"]);
  });
});

describe("the fallback of a guard", () => {
  it("answers to errors, refusals and time-outs, with a value or a function that sees the error", async () => {
    const value = guarded({ timeouts: { totalMs: 50 }, fallback: { value: "stale" } });
    expect(await value.clock.until(value.guard.run(never))).toBe("stale");
    expect(await value.guard.run(() => Promise.reject(new Error("down")))).toBe("stale");
    expect(value.numbers("fallback")).toEqual({ answered: 2, unanswered: 0, providers: {} });
    expect(value.decisions.map(({ policy }) => policy)).toEqual([
      "timeouts",
      "fallback",
      "fallback",
    ]);
    const { clock, guard } = guarded({
      bulkhead: { maxConcurrent: 1, maxQueued: 0 },
      fallback: {
        answer: async (error) => (error instanceof GuardRejectedError ? error.reason : "?"),
      },
    });
    void guard.run(never);
    expect(await clock.until(guard.run(never))).toBe("BULKHEAD_FULL");
    expect(await guard.run(async () => 5).catch(() => 0)).toBe("BULKHEAD_FULL");
    await value.expectQuiet();
  });

  it("has a time of its own, and where it has no answer the run rejects as without it", async () => {
    let signal: AbortSignal | undefined;
    const { clock, guard, decisions, numbers, expectQuiet } = guarded({
      fallback: {
        timeoutMs: 70,
        answer(_error, given): Promise<string> {
          signal = given;
          return never();
        },
      },
    });
    const error = new Error("down");
    const startedMs = clock.now();
    expect(await clock.until(rejected(guard.run(() => Promise.reject(error))))).toBe(error);
    expect(clock.now() - startedMs).toBe(70);
    expect(signal?.aborted).toBe(true);
    expect(decisions.map(({ verdict, reason }) => [verdict, reason])).toEqual([
      ["fallback", undefined],
      ["stop", "FALLBACK_UNANSWERED"],
    ]);
    expect(numbers("fallback")).toEqual({ answered: 0, unanswered: 1, providers: {} });
    await expectQuiet();
  });

  it("is asked for the errors that it wants, and not by those who have left", async () => {
    const asked: unknown[] = [];
    const { guard, environment, errors, decisions } = guarded({
      fallback: {
        when(error) {
          if (error === "hook") throw new Error("a broken hook");
          return error !== "mine";
        },
        answer: (error) => asked.push(error),
      },
    });
    expect(await rejected(guard.run(() => Promise.reject("mine")))).toBe("mine");
    expect(await rejected(guard.run(() => Promise.reject("hook")))).toBe("hook");
    expect(errors).toHaveLength(1);
    const abort = new AbortController();
    const left = rejected(guard.run(never, { signal: abort.signal }));
    abort.abort("left");
    expect(await left).toBe("left");
    environment.pendingCalls.close();
    expect(await rejected(guard.run(never))).toMatchObject({ reason: "CLOSED" });
    expect(asked).toEqual([]);
    expect(decisions.filter(({ policy }) => policy === "fallback")).toEqual([]);
  });

  it("observes, or is off", async () => {
    const { guard, policies, decisions } = guarded({
      fallback: { value: 1, mode: "observe" },
    });
    expect(await rejected(guard.run(() => Promise.reject("down")))).toBe("down");
    expect(decisions).toMatchObject([{ policy: "fallback", enforced: false }]);
    for (const policy of policies.values()) policy.mode = "off";
    expect(await rejected(guard.run(() => Promise.reject("down")))).toBe("down");
    expect(decisions).toHaveLength(1);
  });
});
