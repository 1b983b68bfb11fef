import { getEventListeners } from "node:events";
import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../src/core/options.js";
import { GuardRejectedError } from "../../src/grpc/status/guard-rejected-error.js";
import { rejectionOf } from "../../src/grpc/status/rejection.js";
import { deferred, guarded, rejected } from "./scene.js";

/** What a query builder is: no promise, but something to wait for. */
class QueryBuilder<T> implements PromiseLike<T> {
  readonly #promise: Promise<T>;

  constructor(value: T) {
    this.#promise = Promise.resolve(value);
  }

  // oxlint-disable unicorn/no-thenable
  // biome-ignore lint/suspicious/noThenProperty: that is what it is
  then: Promise<T>["then"] = (...listeners) => this.#promise.then(...listeners);
}

const never = () => new Promise<never>(() => {});

describe("a guard without policies", () => {
  it("gives what the work gives, promise or not, and starts no timer", async () => {
    const { guard, expectQuiet } = guarded();
    expect(await guard.run(async () => 1)).toBe(1);
    expect(await guard.run(() => 2)).toBe(2);
    expect(await guard.run(() => new QueryBuilder(3))).toBe(3);
    expect(guard.snapshot()).toMatchObject({ name: "db", succeeded: 3, failed: 0, rejected: 0 });
    await expectQuiet();
  });

  it("rejects with the very error of the work, thrown or rejected, whatever it is", async () => {
    const { guard } = guarded();
    const error = new Error("no");
    expect(await rejected(guard.run(() => Promise.reject(error)))).toBe(error);
    const thrown = guard.run(() => {
      throw error;
    });
    expect(await rejected(thrown)).toBe(error);
    expect(await rejected(guard.run(() => Promise.reject(undefined)))).toBe(undefined);
    expect(guard.snapshot().failed).toBe(3);
  });

  it.each(["metadata", "name"])("bears an error whose %s cannot be read", async (property) => {
    const failure = Object.defineProperty(new Error("down"), property, {
      get() {
        throw new Error("not to be read");
      },
    });
    for (const retry of [false, { maxAttempts: 2 }] as const) {
      const { clock, guard, numbers } = guarded({ bulkhead: {}, breaker: {}, retry });
      const run = rejected(guard.run(() => Promise.reject(failure)));
      await clock.pass(1_000);
      expect(guard.snapshot().failed).toBe(1);
      expect(await run).toBe(failure);
      expect(numbers("bulkhead")).toMatchObject({ running: 0 });
    }
  });

  it("gives work that declares a parameter a signal that keeps no listener, and other work none", async () => {
    const { guard } = guarded();
    const signals = new Set<AbortSignal>();
    await guard.run((signal) => signals.add(signal));
    await guard.run((signal) => signals.add(signal));
    const [signal] = signals;
    expect(signals.size).toBe(1);
    expect(signal).toBeInstanceOf(AbortSignal);
    expect(signal?.aborted).toBe(false);
    if (signal === undefined) throw new Error("no signal");
    signal.addEventListener("abort", () => {});
    expect(getEventListeners(signal, "abort")).toEqual([]);
    expect(await guard.run((...given: unknown[]) => given.length)).toBe(0);
  });

  it("leaves no listener on the caller's signal when it has ended", async () => {
    const { guard } = guarded();
    const abort = new AbortController();
    const work = deferred();
    const run = guard.run(() => work.promise, { signal: abort.signal });
    expect(getEventListeners(abort.signal, "abort")).toHaveLength(1);
    work.resolve("done");
    await run;
    expect(getEventListeners(abort.signal, "abort")).toHaveLength(0);
  });

  it("hands the caller's signal through, and rejects with its reason at once", async () => {
    const { guard, decisions } = guarded();
    const abort = new AbortController();
    let given: AbortSignal | undefined;
    const run = guard.run(
      (signal) => {
        given = signal;
        return never();
      },
      { signal: abort.signal },
    );
    const reason = new Error("the user left");
    abort.abort(reason);
    expect(await rejected(run)).toBe(reason);
    expect(given).toBe(abort.signal);
    expect(guard.snapshot()).toMatchObject({ rejected: 1, abandoned: 1 });
    expect(await rejected(guard.run(() => 1, { signal: abort.signal }))).toBe(reason);
    expect(decisions.map(({ verdict }) => verdict)).toEqual(["cancel", "cancel"]);
  });

  it.each([
    [{ priority: "urgent" }, "run.priority"],
    [{ weight: 0 }, "run.weight"],
    [{ key: 3 }, "run.key"],
    [{ signal: {} }, "run.signal"],
    [{ timeoutMs: 5 }, "run.timeoutMs"],
  ])("rejects a run with the options %j, and does not start the work", async (options, path) => {
    const { guard } = guarded();
    let started = false;
    const run = guard.run(() => {
      started = true;
    }, options as object);
    expect(await rejected(run)).toMatchObject({ name: "InvalidOptionError", option: path });
    expect(await rejected(guard.run(7 as never))).toBeInstanceOf(TypeError);
    expect(started).toBe(false);
  });
});

describe("the time of a guard", () => {
  it("ends a run at timeouts.totalMs, aborts its signal, and rejects though the work does not heed it", async () => {
    const { clock, guard, decisions, expectQuiet } = guarded({ timeouts: { totalMs: 100 } });
    const startedMs = clock.now();
    let signal: AbortSignal | undefined;
    const error = await clock.until(
      rejected(
        guard.run((given) => {
          signal = given;
          return never();
        }),
      ),
    );
    expect(clock.now() - startedMs).toBe(100);
    expect(error).toBeInstanceOf(GuardRejectedError);
    expect(error).toMatchObject({
      name: "GuardRejectedError",
      guard: "db",
      reason: "WORK_TIMEOUT",
      code: Status.DEADLINE_EXCEEDED,
      details: "db: no result within 100 ms [WORK_TIMEOUT]",
      message: "db: no result within 100 ms [WORK_TIMEOUT]",
    });
    expect(signal?.aborted).toBe(true);
    expect(signal?.reason).toBe(error);
    expect(decisions).toMatchObject([
      { policy: "timeouts", verdict: "expire", side: "guard", method: "db", target: "" },
    ]);
    expect(guard.snapshot()).toMatchObject({ rejected: 1, abandoned: 1 });
    await expectQuiet();
  });

  it("takes the timer down when the work is in time, and never aborts the signal", async () => {
    const { clock, guard, expectQuiet } = guarded({ timeouts: { totalMs: 100 } });
    let signal: AbortSignal | undefined;
    const work = deferred();
    const run = guard.run((given) => {
      signal = given;
      return work.promise;
    });
    expect(clock.pending.refs).toBe(1);
    clock.schedule(99, () => work.resolve("in time"));
    expect(await clock.until(run)).toBe("in time");
    await expectQuiet();
    await clock.pass(1_000);
    expect(signal?.aborted).toBe(false);
  });

  it("bears many runs with one timer, each ending at its own time", async () => {
    const { clock, guard, expectQuiet } = guarded({ timeouts: { totalMs: 100 } });
    const startedMs = clock.now();
    const ended: number[] = [];
    for (let n = 0; n < 5; n++) {
      void rejected(guard.run(never)).then(() => ended.push(clock.now() - startedMs));
      await clock.pass(10);
    }
    expect(clock.pending.refs).toBe(1);
    await clock.pass(1_000);
    expect(ended).toEqual([100, 110, 120, 130, 140]);
    await expectQuiet();
  });

  it("counts the late end of abandoned work, and swallows its error", async () => {
    const { clock, guard } = guarded({ timeouts: { totalMs: 100 } });
    const work = deferred();
    await clock.until(rejected(guard.run(() => work.promise)));
    expect(guard.snapshot().abandoned).toBe(1);
    work.reject(new Error("too late"));
    await clock.pass(0);
    expect(guard.snapshot()).toMatchObject({ abandoned: 0, failed: 0, rejected: 1 });
  });

  it("runs abort listeners in the async context of the run whose time is up", async () => {
    const { AsyncLocalStorage } = await import("node:async_hooks");
    const storage = new AsyncLocalStorage<string>();
    const { clock, guard } = guarded({ timeouts: { totalMs: 100 } });
    const seen: (string | undefined)[] = [];
    const runs = ["first", "second"].map((name) =>
      storage.run(name, () =>
        rejected(
          guard.run((signal) => {
            signal.addEventListener("abort", () => seen.push(storage.getStore()));
            return never();
          }),
        ),
      ),
    );
    await clock.until(Promise.all(runs));
    expect(seen).toEqual(["first", "second"]);
  });
});

describe("the error of a guard", () => {
  it("is what a handler's callback takes, and rejectionOf reads it", async () => {
    const { guard } = guarded({ bulkhead: { maxConcurrent: 1, maxQueued: 0 } });
    void guard.run(never);
    const error = await rejected(guard.run(never));
    expect(error).toMatchObject({
      reason: "BULKHEAD_FULL",
      code: Status.RESOURCE_EXHAUSTED,
      details: "Bulkhead full: db: running 1 of 1, queued 0 of 0 [BULKHEAD_FULL]",
    });
    expect(rejectionOf(error)).toMatchObject({
      reason: "BULKHEAD_FULL",
      local: true,
      hops: 0,
      metadata: { guard: "db", scope: "client" },
    });
    if (!(error instanceof Error)) throw new Error("no error");
    expect(error.stack).toBe(`GuardRejectedError: ${error.message}`);
    expect(Error.stackTraceLimit).toBeGreaterThan(0);
  });
});

describe("a guard's name", () => {
  it("stands for one guard, found again without options or with the same", () => {
    const options = { timeouts: { totalMs: 100 } };
    const { guards } = guarded();
    const built = guards.get("other", options);
    expect(guards.get("other", undefined)).toBe(built);
    expect(guards.get("other", options)).toBe(built);
    expect(() => guards.get("other", { timeouts: { totalMs: 100 } })).toThrow(
      'guard("other") must be called with the options that built it, or with none',
    );
    expect(() => guards.get("nobody", undefined)).toThrow('guard("nobody")');
    expect(() => guards.get("", {})).toThrow("guard.name");
  });
});

describe("options that make no sense", () => {
  it.each([
    [{ timeouts: { totalMs: 0 } }, "timeouts.totalMs"],
    [{ timeouts: { totalMs: Number.NaN } }, "timeouts.totalMs"],
    [{ timeouts: { totalMs: 10, attemptMs: 20 } }, "timeouts.attemptMs"],
    [{ timeouts: { totalMs: 50 }, retry: {} }, "timeouts.totalMs"],
    [{ timeouts: 50 }, "timeouts"],
    [{ timeoutMs: 50 }, "timeoutMs"],
    [{ timeout: 50 }, "timeout"],
    [{ bulkhead: { maxConcurrent: 0 } }, "bulkhead.maxConcurrent"],
    [{ bulkhead: { mode: "on" } }, "bulkhead.mode"],
    [{ bulkhead: true }, "bulkhead"],
    [{ breaker: { openMs: -1 } }, "breaker.openMs"],
    [{ breaker: { countError: 1 } }, "breaker.countError"],
    [{ breaker: { openMS: 1 } }, "breaker.openMS"],
    [{ retry: { maxAttempts: 0 } }, "retry.maxAttempts"],
    [{ retry: { codes: [14] } }, "retry.codes"],
    [{ retry: { retryError: "all" } }, "retry.retryError"],
    [{ fallback: {} }, "fallback"],
    [{ fallback: { answer: 5 } }, "fallback.answer"],
    [{ fallback: { answer: () => 1, value: 1 } }, "fallback"],
    [{ fallback: { value: 1, timeoutMs: 0 } }, "fallback.timeoutMs"],
    [null, ""],
  ])("%j is refused while building", (options, path) => {
    const { guards } = guarded();
    const expected = `guard("bad")${path === "" ? "" : `.${path}`}`;
    let thrown: unknown;
    try {
      guards.get("bad", options as never);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(InvalidOptionError);
    expect(thrown).toMatchObject({ option: expected });
    expect(() => guards.get("bad", undefined)).toThrow();
  });
});
