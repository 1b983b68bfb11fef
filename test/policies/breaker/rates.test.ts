import { describe, expect, it } from "vitest";
import { setup, stream } from "./setup.js";

const rateOnly = { consecutiveFailures: false } as const;

describe("a breaker with a window by count", () => {
  const options = { ...rateOnly, windowCalls: 4, minCalls: 4 } as const;

  it("looks at the last calls, however old, and says so", () => {
    const { breaker, clock, fail, succeed } = setup(options);
    fail();
    clock.advance(3_600_000);
    succeed(2);
    clock.advance(3_600_000);
    fail();
    expect(breaker.check()?.detail).toBe("2 of the last 4 calls failed");
  });

  it("forgets what more calls have come after", () => {
    const { breaker, fail, succeed } = setup(options);
    fail();
    succeed(4);
    fail();
    expect(breaker.state).toBe("closed");
    expect(breaker.snapshot()).toMatchObject({ calls: 4, failures: 1 });
  });

  it("needs its least number of calls", () => {
    const { breaker, fail } = setup(options);
    fail(3);
    expect(breaker.state).toBe("closed");
    fail();
    expect(breaker.state).toBe("open");
  });
});

describe("a breaker that counts slow calls", () => {
  const slowOnly = { ...rateOnly, failureRate: false, slowMs: 100, minCalls: 5 } as const;

  it("opens when four of five calls take longer than they may, though they succeed", () => {
    const { breaker, take } = setup(slowOnly);
    take(100);
    for (let call = 0; call < 3; call += 1) take(101);
    expect(breaker.state).toBe("closed");
    take(101);
    expect(breaker.check()?.detail).toBe("4 of 5 calls took longer than 100 ms within 10000 ms");
  });

  it("does not open at a quick call that completes the least number of calls", () => {
    const { breaker, take } = setup(slowOnly);
    for (let call = 0; call < 4; call += 1) take(101);
    take(1);
    expect(breaker.state).toBe("closed");
    take(101);
    expect(breaker.state).toBe("open");
  });

  it("counts slow failures too, and each rule by itself", () => {
    const { breaker, take } = setup({ slowMs: 100, minCalls: 2, slowRate: 1 });
    take(101);
    take(50, "failure");
    // Half of the calls failed.
    expect(breaker.check()?.detail).toBe("1 of 2 calls failed within 10000 ms");
    const other = setup({ ...slowOnly, minCalls: 2 });
    other.take(101, "failure");
    other.take(101, "failure");
    expect(other.breaker.check()?.detail).toContain("took longer");
  });

  it("never takes a stream for slow", () => {
    const { breaker, take } = setup({ ...slowOnly, minCalls: 1 });
    take(3_600_000, "success", stream);
    expect(breaker.snapshot()).toMatchObject({ state: "closed", calls: 1, slow: 0 });
  });

  it("takes no call for slow that ended in nothing", () => {
    const { breaker, take } = setup({ ...slowOnly, minCalls: 1 });
    take(101, "ignored");
    expect(breaker.snapshot()).toMatchObject({ state: "closed", calls: 0 });
  });
});

describe("a call that the other side sheds", () => {
  const shed = { unserved: "shed" } as const;

  it("counts to the rate, and not to the failures in a row", () => {
    const { breaker, fail } = setup({ failureRate: 1, minCalls: 20 });
    fail(19, shed);
    expect(breaker.snapshot()).toMatchObject({ failures: 19, consecutiveFailures: 0 });
    fail(1, shed);
    expect(breaker.check()?.detail).toBe("20 of 20 calls failed within 10000 ms");
  });

  it("does not end a row of failures either", () => {
    const { breaker, fail } = setup();
    fail(4);
    fail(1, shed);
    expect(breaker.state).toBe("closed");
    fail();
    expect(breaker.check()?.detail).toBe("5 failures in a row");
  });

  it("never opens a breaker without a rate", () => {
    const { breaker, fail } = setup({ failureRate: false, consecutiveFailures: 1 });
    fail(100, shed);
    expect(breaker.state).toBe("closed");
  });
});
