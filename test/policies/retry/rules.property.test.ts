import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type StatusOrigin, statusCode } from "../../../src/core/status.js";
import { resolveRetryOptions } from "../../../src/policies/retry/options.js";
import { type FailedAttempt, RetryRules } from "../../../src/policies/retry/rules.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";

const origins: readonly StatusOrigin[] = [
  "local-policy",
  "local-limit",
  "never-sent",
  "refused",
  "transport",
  "remote",
  "caller",
  "attempt-timeout",
  "deadline",
];
const never: ReadonlySet<StatusOrigin> = new Set([
  "local-policy",
  "local-limit",
  "caller",
  "deadline",
]);

const failedAttempt: fc.Arbitrary<Omit<FailedAttempt, "attempts">> = fc.record({
  code: fc.integer({ min: 1, max: 16 }),
  origin: fc.constantFrom(...origins),
  trailersOnly: fc.boolean(),
  pushback: fc.oneof(
    { weight: 3, arbitrary: fc.constant(undefined) },
    fc.nat(5_000),
    fc.constant("stop" as const),
  ),
  retryInfoMs: fc.option(fc.nat(5_000), { nil: undefined }),
  handlerNotRun: fc.boolean(),
  remainingMs: fc.oneof(
    fc.constant(Number.POSITIVE_INFINITY),
    fc.integer({ min: -10, max: 9_000 }),
  ),
  wanted: fc.constantFrom(undefined, undefined, true, false),
  relayed: fc.constantFrom(false, false, false, true),
  depth: fc.constantFrom(0, 0, 0, 1, 2),
  replayable: fc.boolean(),
});

const options = fc.record({
  maxAttempts: fc.integer({ min: 1, max: 100 }),
  codes: fc.uniqueArray(fc.integer({ min: 1, max: 16 }), { maxLength: 16 }),
  idempotent: fc.constantFrom(true, false, undefined),
  backoff: fc.record({
    baseMs: fc.nat(500),
    maxMs: fc.integer({ min: 500, max: 3_000 }),
    multiplier: fc.integer({ min: 1, max: 10 }),
    jitter: fc.constantFrom("none", "full", "equal", "decorrelated", "proportional"),
  }),
});

/** Up to 40 failures of one call, in a row. */
const failures = fc.array(failedAttempt, { minLength: 1, maxLength: 40, size: "max" });

function check(
  each: (
    failed: FailedAttempt,
    decision: ReturnType<RetryRules["decide"]>,
    given: { idempotent: boolean | undefined; codes: readonly number[]; maxAttempts: number },
  ) => void,
): void {
  fc.assert(
    fc.property(options, failures, fc.integer(), (given, sequence, seed) => {
      const { idempotent, ...rest } = given;
      const resolved = resolveRetryOptions(
        idempotent === undefined ? rest : { ...rest, idempotent },
      );
      const rules = new RetryRules(resolved, seededRandom(seed));
      for (const [index, failed] of sequence.entries()) {
        const attempt = { ...failed, attempts: index + 1 };
        each(attempt, rules.decide(attempt), given);
      }
    }),
    { numRuns: 500 },
  );
}

describe("the rules of retries, for any failures in any order", () => {
  it("never retry what forbids it", () => {
    check((failed, { kind }, { maxAttempts }) => {
      if (kind !== "retry") return;
      expect(never.has(failed.origin)).toBe(false);
      expect(failed.replayable).toBe(true);
      expect(failed.relayed).toBe(false);
      expect(failed.depth).toBeLessThan(1);
      expect(failed.pushback).not.toBe("stop");
      expect(failed.attempts).toBeLessThan(maxAttempts);
    });
  });

  it("never run a method twice that may have run and is not known to be idempotent", () => {
    check((failed, { kind }, { idempotent }) => {
      if (kind !== "retry" || idempotent === true) return;
      const cannotHaveRun =
        failed.origin === "never-sent" ||
        failed.origin === "refused" ||
        (failed.origin === "remote" && failed.handlerNotRun);
      const saidSoItself =
        idempotent === undefined &&
        failed.origin === "remote" &&
        failed.trailersOnly &&
        failed.code === statusCode.unavailable;
      expect(cannotHaveRun || saidSoItself).toBe(true);
    });
  });

  it("wait a finite time that ends before the deadline, and exactly as long as the server asks", () => {
    check((failed, decision) => {
      if (decision.kind !== "retry") return;
      expect(decision.delayMs).toBeGreaterThanOrEqual(0);
      expect(decision.delayMs).toBeLessThan(failed.remainingMs);
      if (typeof failed.pushback === "number") {
        // "At once" is taken at its word once; see the pause behind it.
        if (failed.pushback >= 10) expect(decision.delayMs).toBe(failed.pushback);
        else expect(decision.delayMs).toBeLessThanOrEqual(250);
        expect(decision.delayMs).toBeGreaterThanOrEqual(failed.pushback);
      } else expect(decision.delayMs).toBeGreaterThanOrEqual(failed.retryInfoMs ?? 0);
    });
  });

  it("retry an answer only by a code of the set, or because the server said when or that nothing ran", () => {
    check((failed, { kind }, { codes }) => {
      if (kind !== "retry" || failed.origin !== "remote") return;
      const named = failed.pushback !== undefined || failed.retryInfoMs !== undefined;
      const exhausted = failed.code === statusCode.resourceExhausted;
      const wanted = failed.wanted ?? (exhausted || codes.includes(failed.code));
      const allowed = wanted && (named || !exhausted);
      expect(failed.handlerNotRun || allowed).toBe(true);
    });
  });

  it("decide the same again for the same sequence and the same chance", () => {
    fc.assert(
      fc.property(failures, fc.integer(), (sequence, seed) => {
        const run = () => {
          const rules = new RetryRules(resolveRetryOptions(), seededRandom(seed));
          return sequence.map((failed, index) => rules.decide({ ...failed, attempts: index + 1 }));
        };
        expect(run()).toEqual(run());
      }),
      { numRuns: 100 },
    );
  });
});
