import { describe, expect, it } from "vitest";
import {
  type BreakerOptions,
  resolveBreakerOptions,
} from "../../../src/policies/breaker/options.js";
import { opened, rested, setup } from "./setup.js";

const plain = { openMs: 5_000, openFactor: 2, maxOpenMs: 60_000 };
const other = (options: BreakerOptions) => resolveBreakerOptions({ ...plain, ...options });

describe("a breaker whose options change", () => {
  it("stays open for as long as it would have, and rests by the new numbers after that", () => {
    const { breaker, clock, fail } = opened();
    breaker.reconfigure(other({ openMs: 20_000, maxOpenMs: 20_000 }));
    expect(breaker.snapshot()).toMatchObject({ state: "open", retryAfterMs: 5_000 });
    clock.advance(5_000);
    expect(breaker.state).toBe("half-open");
    fail();
    expect(breaker.snapshot()).toMatchObject({ state: "open", retryAfterMs: 20_000 });
  });

  it("keeps the failures in a row, and judges them by the new number at the next one", () => {
    const { breaker, fail } = setup({ consecutiveFailures: 5 });
    fail(3);
    breaker.reconfigure(other({ consecutiveFailures: 4 }));
    expect(breaker.state).toBe("closed");
    fail();
    expect(breaker.state).toBe("open");
  });

  it.each<[string, BreakerOptions]>([
    ["of another length", { windowMs: 60_000 }],
    ["of calls in place of time", { windowCalls: 50 }],
  ])("keeps what it has counted in a window %s", (_what, window) => {
    const rates = { consecutiveFailures: false, failureRate: 0.5, minCalls: 10 } as const;
    const { breaker, fail, succeed } = setup({ ...rates, windowMs: 10_000 });
    succeed(5);
    fail(4);
    breaker.reconfigure(other({ ...rates, ...window }));
    expect(breaker.snapshot()).toMatchObject({ calls: 9, failures: 4 });
    fail();
    expect(breaker.state).toBe("open");
  });

  it("counts calls under way once, whether or not it looked for hanging ones when they began", () => {
    const { breaker, clock, admit } = setup({ consecutiveFailures: false });
    const before = admit();
    breaker.reconfigure(other({ consecutiveFailures: false, inFlightMs: 1_000 }));
    const [hangs, ends] = [admit(), admit()];
    clock.advance(1_000);
    expect(breaker.snapshot()).toMatchObject({ calls: 2, failures: 2 });
    before.settle("success");
    hangs.settle("failure");
    expect(breaker.snapshot()).toMatchObject({ calls: 3, failures: 2 });
    breaker.reconfigure(other({ consecutiveFailures: false }));
    const after = admit();
    clock.advance(10_000);
    ends.settle("success");
    after.settle("success");
    expect(breaker.snapshot()).toMatchObject({ failures: 0, calls: 1 });
  });

  it("gives probes the new number of slots", () => {
    const { breaker, admit } = rested({ probes: 3 });
    admit();
    breaker.reconfigure(other({ probes: 1 }));
    expect(breaker.check()?.reason).toBe("BREAKER_PROBING");
    breaker.reconfigure(other({ probes: 2 }));
    expect(breaker.check()).toBeUndefined();
  });

  it("stays forced", () => {
    const { breaker } = setup();
    breaker.force("open");
    breaker.reconfigure(other({ openMs: 1 }));
    expect(breaker.state).toBe("forced-open");
  });
});
