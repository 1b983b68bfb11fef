import fc from "fast-check";
import { expect, it } from "vitest";
import { priorities } from "../../src/core/priority.js";
import type { GuardRunOptions } from "../../src/guard/options.js";
import { deferred, guarded } from "./scene.js";

/** What one attempt of a piece of work does. */
const behaviour = fc.oneof(
  fc.record({ does: fc.constantFrom("value", "throw"), ms: fc.constant(0) }),
  fc.record({
    does: fc.constantFrom("resolve", "reject", "abort-error"),
    ms: fc.integer({ min: 0, max: 90 }),
  }),
  // `hang` ignores its signal and settles only when the test ends; `heed` settles when it is aborted.
  fc.record({ does: fc.constantFrom("hang", "heed"), ms: fc.constant(0) }),
);

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant("run" as const),
      behaviours: fc.array(behaviour, { minLength: 1, maxLength: 4 }),
      priority: fc.constantFrom(undefined, ...priorities),
      weight: fc.constantFrom(undefined, undefined, 2),
      key: fc.constantFrom(undefined, "a"),
      signalled: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant("pass" as const),
      ms: fc.constantFrom(0, 1, 7, 30, 80),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("call-off" as const), pick: fc.nat() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant("mode" as const),
      policy: fc.constantFrom("bulkhead", "breaker", "retry", "fallback" as const),
      mode: fc.constantFrom("enforce", "observe", "off"),
    }),
  },
);

const options = fc.record(
  {
    timeouts: fc.record(
      { totalMs: fc.constantFrom(40, 100), attemptMs: fc.constantFrom(20, 40) },
      { requiredKeys: [] },
    ),
    bulkhead: fc.record({
      maxConcurrent: fc.integer({ min: 1, max: 3 }),
      maxQueued: fc.integer({ min: 0, max: 3 }),
      maxWaitMs: fc.constantFrom(0, 25, 200),
    }),
    breaker: fc.record({
      consecutiveFailures: fc.integer({ min: 1, max: 4 }),
      openMs: fc.constantFrom(10, 50),
    }),
    retry: fc.record({
      maxAttempts: fc.integer({ min: 1, max: 3 }),
      backoff: fc.record({ baseMs: fc.constantFrom(0, 10) }),
    }),
    fallback: fc.record({ value: fc.constant("fallback"), timeoutMs: fc.constant(10) }),
  },
  { requiredKeys: [] },
);

interface Bulkheads {
  readonly bulkheads: Readonly<Record<string, Numbers>>;
}

interface Numbers {
  readonly running: number;
  readonly queued: number;
}

it("settles each run once and in time, holds what runs and no more, and comes back to zero", async () => {
  await fc.assert(
    fc.asyncProperty(
      options,
      fc.array(step, { maxLength: 40 }),
      fc.boolean(),
      async (chosen, script, closes) => {
        const { clock, guard, policies, environment, errors, expectQuiet } = guarded(chosen);
        const hung: (() => void)[] = [];
        const aborts: AbortController[] = [];
        let begun = 0;
        let ended = 0;
        let underWay = 0;
        let observed = false;
        const broken: string[] = [];
        // An error that is thrown into a run would be taken for one of the work.
        const check = (holds: boolean, what: string) => {
          if (!holds) broken.push(what);
        };

        const attempt = (does: string, ms: number, signal: AbortSignal | undefined): unknown => {
          if (does === "value") return "value";
          if (does === "throw") throw new Error("thrown");
          const { promise, resolve, reject } = deferred();
          underWay += 1;
          let open = true;
          const settle = (how: () => void) => () => {
            if (!open) return;
            open = false;
            underWay -= 1;
            how();
          };
          const failed = settle(() =>
            reject(Object.assign(new Error(does), does === "reject" ? {} : { name: "AbortError" })),
          );
          if (does === "resolve")
            clock.schedule(
              ms,
              settle(() => resolve("resolved")),
            );
          else if (does === "reject" || does === "abort-error") clock.schedule(ms, failed);
          else hung.push(failed);
          if (does === "heed") signal?.addEventListener("abort", failed);
          return promise;
        };

        const start = (one: Extract<(typeof script)[number], { op: "run" }>) => {
          const abort = new AbortController();
          const { priority, weight, key } = one;
          const asked: GuardRunOptions = {
            ...(one.signalled ? { signal: abort.signal } : {}),
            ...(priority === undefined ? {} : { priority }),
            ...(weight === undefined ? {} : { weight }),
            ...(key === undefined ? {} : { key }),
          };
          aborts.push(abort);
          const startedMs = clock.now();
          let attempts = 0;
          let settled = false;
          begun += 1;
          const end = () => {
            check(!settled, "settled twice");
            settled = true;
            ended += 1;
            const { totalMs = Number.POSITIVE_INFINITY } = chosen.timeouts ?? {};
            // The fallback has a time of its own.
            const mostMs = totalMs + (chosen.fallback === undefined ? 0 : 10);
            check(clock.now() - startedMs <= mostMs, "ended too late");
          };
          const work = (signal?: AbortSignal) => {
            const { does, ms } = one.behaviours[attempts % one.behaviours.length] ?? {
              does: "value",
              ms: 0,
            };
            attempts += 1;
            check(!settled, "begun after the end");
            check(attempts <= (chosen.retry?.maxAttempts ?? 1), "too many attempts");
            return attempt(does, ms, signal);
          };
          // Half of the work declares a signal.
          guard.run(one.signalled ? (signal) => work(signal) : () => work(), asked).then(end, end);
        };

        const held = () => {
          const shown = policies.get("bulkhead")?.snapshot() as Bulkheads | undefined;
          const all = Object.values(shown?.bulkheads ?? {});
          return {
            running: all.reduce((sum, { running }) => sum + running, 0),
            queued: all.reduce((sum, { queued }) => sum + queued, 0),
            most: Math.max(0, ...all.map(({ running }) => running)),
          };
        };

        for (const one of script) {
          if (one.op === "run") start(one);
          else if (one.op === "pass") await clock.pass(one.ms);
          else if (one.op === "call-off") aborts[one.pick % aborts.length]?.abort();
          else {
            const policy = policies.get(one.policy);
            if (policy !== undefined) policy.mode = one.mode;
            if (one.policy === "bulkhead") observed = true;
          }
          if (chosen.bulkhead !== undefined) {
            expect(held().most).toBeLessThanOrEqual(chosen.bulkhead.maxConcurrent);
          }
          // What hangs keeps its place, so that whatever is under way is held.
          if (chosen.bulkhead !== undefined && !observed) {
            await clock.pass(0);
            expect(held().running).toBeGreaterThanOrEqual(underWay);
          }
        }

        if (closes) environment.pendingCalls.close();
        // Long enough for every attempt to wait in the queue as long as it may.
        await clock.pass(1_500);
        expect(held().queued).toBe(0);
        if (chosen.timeouts?.totalMs !== undefined) expect(ended).toBe(begun);
        for (const settle of hung) settle();
        await clock.pass(1_000);
        for (const settle of hung) settle();
        await clock.pass(1_000);
        for (const settle of hung) settle();
        await clock.pass(1_000);

        expect(ended).toBe(begun);
        expect(underWay).toBe(0);
        expect(held()).toMatchObject({ running: 0, queued: 0 });
        const { succeeded, failed, rejected, abandoned } = guard.snapshot();
        expect(abandoned).toBe(0);
        expect(succeeded + failed + rejected).toBe(begun);
        expect(JSON.stringify(policies.get("breaker")?.snapshot() ?? {})).not.toMatch(
          /"probesOut":[1-9]/,
        );
        expect(errors).toEqual([]);
        expect(broken).toEqual([]);
        await expectQuiet();
      },
    ),
    { numRuns: 120 },
  );
});
