import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import { isRefusal } from "../../../src/core/permit.js";
import { readBreakerSnapshot } from "../../../src/policies/breaker/snapshot.js";
import { opened, recovered, rested, setup } from "./setup.js";

const common = { forMs: 10, openedInARow: 1 };
const counts = { calls: 3, failures: 2, slow: 1, consecutiveFailures: 2 };

describe("a breaker that takes over what another knew", () => {
  it("stays open for as long as the other had left, whatever its clock says", () => {
    const { breaker, clock } = opened();
    clock.advance(2_000);
    const other = setup();
    other.clock.advance(1_234_567);
    other.breaker.restore(breaker.snapshot());
    expect(other.breaker.check()).toMatchObject({
      retryAfterMs: 3_000,
      detail: "5 failures in a row",
    });
    other.clock.advance(3_000);
    other.fail();
    expect(other.breaker.check()?.retryAfterMs).toBe(10_000);
  });

  it("stays open though its channel is connected: it was not for want of a connection that the other opened", () => {
    const { breaker } = opened();
    const other = setup();
    other.breaker.restore(breaker.snapshot());
    other.breaker.connectivity(true);
    expect(other.breaker.state).toBe("open");
  });

  it("goes on counting where the other stopped", () => {
    const { breaker, fail, succeed } = setup();
    succeed(7);
    fail(4);
    const other = setup();
    other.breaker.restore(breaker.snapshot());
    expect(other.breaker.snapshot()).toMatchObject({ calls: 11, failures: 4 });
    other.fail();
    expect(other.breaker.state).toBe("open");
  });

  it("forgets what it took over as it forgets its own", () => {
    const { breaker, clock } = setup({ consecutiveFailures: false });
    breaker.restore({ state: "closed", ...common, ...counts, rampLeftMs: 0 });
    clock.advance(10_000);
    expect(breaker.snapshot()).toMatchObject({ calls: 0 });
  });

  it("goes on with the ramp and the probes", () => {
    const { breaker, clock } = recovered();
    clock.advance(2_000);
    const other = setup();
    other.breaker.restore(breaker.snapshot());
    expect(other.breaker.snapshot()).toMatchObject({ rampLeftMs: 3_000 });
    const probing = rested();
    probing.succeed(2);
    probing.admit();
    other.breaker.restore(probing.breaker.snapshot());
    expect(other.breaker.snapshot()).toMatchObject({ probesOut: 0, succeeded: 2 });
    other.succeed();
    expect(other.breaker.state).toBe("closed");
  });

  it("knows how often probes have failed", () => {
    const { breaker, clock, fail } = opened();
    clock.advance(5_000);
    fail();
    const other = setup();
    other.breaker.restore(breaker.snapshot());
    other.clock.advance(10_000);
    other.fail();
    expect(other.breaker.check()?.retryAfterMs).toBe(20_000);
  });

  it("keeps within its own options", () => {
    const { breaker, clock, ignore, succeed } = setup({ maxOpenMs: 10_000, rampMs: 100 });
    breaker.restore({ state: "open", ...common, retryAfterMs: 3_600_000, detail: "long" });
    expect(breaker.check()?.retryAfterMs).toBe(12_000);
    breaker.restore({ state: "half-open", ...common, probesOut: 9, succeeded: 99 });
    ignore();
    expect(breaker.state).toBe("half-open");
    succeed();
    expect(breaker.state).toBe("closed");
    breaker.restore({ state: "closed", ...common, ...counts, rampLeftMs: 5_000 });
    clock.advance(100);
    expect(breaker.snapshot()).toMatchObject({ rampLeftMs: 0 });
  });

  it("lets none of its own calls count any more", () => {
    const { breaker, admit } = setup({ consecutiveFailures: 1 });
    const early = admit();
    breaker.restore({ state: "closed", ...common, ...counts, rampLeftMs: 0 });
    early.settle("failure");
    expect(breaker.snapshot()).toMatchObject({ state: "closed", calls: 3 });
  });

  it("takes the failures that it holds for independent ones, so that one more may open it", () => {
    const { breaker, fail } = setup();
    const held = { calls: 19, failures: 9, slow: 0, consecutiveFailures: 0 };
    breaker.restore({ state: "closed", ...common, rampLeftMs: 0, ...held });
    fail();
    expect(breaker.snapshot()).toMatchObject({
      state: "open",
      detail: "10 of 20 calls failed within 10000 ms",
    });
  });

  it("tells of the change", () => {
    const { breaker, events } = setup();
    breaker.restore({ state: "forced-open", ...common });
    expect(events).toMatchObject([{ from: "closed", to: "forced-open", reason: "restored" }]);
    expect(isRefusal(breaker.acquire())).toBe(true);
    breaker.restore({ state: "forced-open", ...common });
    expect(events).toHaveLength(1);
  });
});

describe("a snapshot of a breaker", () => {
  it("may be long since", () => {
    const forMs = 365 * 24 * 3_600_000;
    const told = { state: "forced-closed", forMs, openedInARow: 0, ...counts };
    expect(readBreakerSnapshot("it", told)).toEqual(told);
  });

  it("has its detail taken over up to 200 characters", () => {
    const told = { state: "open", forMs: 0, openedInARow: 1, retryAfterMs: 5 };
    const read = (detail: string) => readBreakerSnapshot("it", { ...told, detail });
    expect(read("x".repeat(200))).toEqual({ ...told, detail: "x".repeat(200) });
    expect(read("x".repeat(1_000))).toEqual({ ...told, detail: "x".repeat(200) });
  });

  it.each([
    ["it", null],
    ["it", []],
    ["it", "closed"],
    ["it.state", {}],
    ["it.state", { state: "opened" }],
    ["it.forMs", { state: "forced-open", openedInARow: 0 }],
    ["it.forMs", { state: "forced-open", forMs: -1, openedInARow: 0 }],
    ["it.forMs", { state: "forced-open", forMs: Number.POSITIVE_INFINITY, openedInARow: 0 }],
    ["it.openedInARow", { state: "forced-open", forMs: 0, openedInARow: 0.5 }],
    ["it.retryAfterMs", { state: "open", ...common, detail: "x" }],
    ["it.retryAfterMs", { state: "open", ...common, detail: "x", retryAfterMs: "5 s" }],
    ["it.retryAfterMs", { state: "open", ...common, detail: "x", retryAfterMs: 1e12 }],
    ["it.detail", { state: "open", ...common, retryAfterMs: 1 }],
    ["it.detail", { state: "open", ...common, retryAfterMs: 1, detail: {} }],
    ["it.probesOut", { state: "half-open", ...common, succeeded: 1 }],
    ["it.succeeded", { state: "half-open", ...common, probesOut: 1, succeeded: -1 }],
    ["it.rampLeftMs", { state: "closed", ...common, ...counts }],
    ["it.calls", { state: "closed", ...common, rampLeftMs: 0 }],
    ["it.failures", { state: "closed", ...common, ...counts, rampLeftMs: 0, failures: 4 }],
    ["it.slow", { state: "closed", ...common, ...counts, rampLeftMs: 0, slow: 4 }],
    [
      "it.consecutiveFailures",
      { state: "forced-closed", ...common, ...counts, consecutiveFailures: "2" },
    ],
  ])("is refused where %s makes no sense (%j)", (option, value) => {
    const read = () => readBreakerSnapshot("it", value);
    expect(read).toThrow(expect.objectContaining({ name: InvalidOptionError.name, option }));
  });
});
