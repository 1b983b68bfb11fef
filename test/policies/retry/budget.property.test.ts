import fc from "fast-check";
import { expect, it } from "vitest";
import { RetryBudget, resolveRetryBudgetOptions } from "../../../src/policies/retry/budget.js";
import { fakeClock } from "../../core/fake-clock.js";

const steps = fc.array(
  fc.record({
    what: fc.constantFrom(
      "call",
      "call",
      "call",
      "success",
      "failure",
      "withdraw",
      "withdraw",
      "give back",
    ),
    passMs: fc.oneof(
      { weight: 6, arbitrary: fc.nat(300) },
      { weight: 2, arbitrary: fc.nat(4_000) },
      { weight: 1, arbitrary: fc.nat(1_000_000_000) },
    ),
    pick: fc.nat(1_000),
  }),
  { minLength: 20, maxLength: 120, size: "max" },
);

const settings = fc.record({
  startMs: fc.integer({ min: -1_000_000, max: 1_000_000_000 }),
  windowMs: fc.integer({ min: 1_000, max: 20_000 }),
  /** In percent and in hundredths of tokens, so that the model can count in whole numbers. */
  percent: fc.integer({ min: 1, max: 100 }),
  reserve: fc.nat(3),
  maxTokens: fc.integer({ min: 1, max: 6 }),
  tokenPercent: fc.integer({ min: 1, max: 100 }),
});

it("a budget equals lists of all calls, attempts and outcomes, looked through each time", () => {
  fc.assert(
    fc.property(settings, steps, (given, taken) => {
      const { startMs, windowMs, percent, reserve, maxTokens, tokenPercent } = given;
      const clock = fakeClock(startMs);
      const options = resolveRetryBudgetOptions({
        windowMs,
        ratio: percent / 100,
        minPerSecond: (reserve * 1_000) / windowMs,
        maxTokens,
        tokenRatio: tokenPercent / 100,
      });
      const budget = new RetryBudget(options, clock);

      const sliceOf = (ms: number) => Math.floor(ms / (windowMs / 10));
      const inWindow = (ms: number) => sliceOf(clock.now()) - sliceOf(ms) < 10;
      const calls: number[] = [];
      const extras: number[] = [];
      let hundredths = maxTokens * 100;

      for (const { what, passMs, pick } of taken) {
        clock.advance(passMs);
        switch (what) {
          case "call":
            budget.call();
            calls.push(clock.now());
            break;
          case "success":
            budget.success();
            hundredths = Math.min(maxTokens * 100, hundredths + tokenPercent);
            break;
          case "failure":
            budget.failure();
            hundredths = Math.max(0, hundredths - 100);
            break;
          case "withdraw": {
            const paid = calls.filter(inWindow).length * percent + reserve * 100;
            const spent = extras.filter(inWindow).length * 100;
            const refused =
              hundredths * 2 <= maxTokens * 100
                ? "tokens"
                : paid - spent < 100
                  ? "ratio"
                  : undefined;
            expect(budget.tryWithdraw()?.budget).toBe(refused);
            if (refused === undefined) extras.push(clock.now());
            break;
          }
          case "give back":
            // An attempt may wait long before it is given up: any of those out, old ones too.
            if (extras.length > 0) {
              for (const takenMs of extras.splice(pick % extras.length, 1))
                budget.giveBack(takenMs);
            }
            break;
          default:
            what satisfies never;
        }
        const { ratio, tokens } = budget.snapshot();
        expect(ratio).toMatchObject({
          calls: calls.filter(inWindow).length,
          extras: extras.filter(inWindow).length,
        });
        expect(tokens?.left).toBe(hundredths / 100);
      }
    }),
  );
});

it("in no window do extra attempts pass the reserve and the share of that window's calls", () => {
  fc.assert(
    fc.property(settings, steps, (given, taken) => {
      const { startMs, windowMs, percent, reserve } = given;
      const clock = fakeClock(startMs);
      const budget = new RetryBudget(
        resolveRetryBudgetOptions({
          windowMs,
          ratio: percent / 100,
          minPerSecond: (reserve * 1_000) / windowMs,
          maxTokens: false,
        }),
        clock,
      );
      const calls: number[] = [];
      const extras: number[] = [];
      for (const { what, passMs } of taken) {
        clock.advance(passMs);
        if (what === "call") {
          budget.call();
          calls.push(clock.now());
        } else if (budget.tryWithdraw() === undefined) {
          extras.push(clock.now());
          // Attempts are held against a little less than the window, calls counted over all of it.
          const extrasSince = clock.now() - windowMs * 0.9;
          const callsSince = clock.now() - windowMs;
          const allowed = reserve + (calls.filter((ms) => ms > callsSince).length * percent) / 100;
          expect(extras.filter((ms) => ms > extrasSince).length).toBeLessThanOrEqual(
            allowed + 1e-6,
          );
        }
      }
    }),
  );
});
