import { describe, expect, it } from "vitest";
import {
  type HedgeFailure,
  hedgeAfterFailure,
  hedgeDelayMs,
  mayHedge,
  withoutHedge,
} from "../../../src/policies/retry/hedging.js";
import { resolveHedgeOptions } from "../../../src/policies/retry/options.js";

/** The first of two attempts has failed, while the other one runs. */
const oneOfTwo: HedgeFailure = {
  fatal: false,
  pushback: undefined,
  started: 2,
  inFlight: 1,
  maxAttempts: 2,
  stopped: false,
};
/** The only attempt so far has failed, and three are allowed. */
const firstOfThree: HedgeFailure = { ...oneOfTwo, started: 1, inFlight: 0, maxAttempts: 3 };

describe("after one attempt of a hedged call has failed", () => {
  it("a fatal status ends the call, whatever else is in flight or allowed", () => {
    const fail = { kind: "fail", reason: "RETRY_NOT_ELIGIBLE" };
    expect(hedgeAfterFailure({ ...oneOfTwo, fatal: true })).toEqual(fail);
    expect(hedgeAfterFailure({ ...firstOfThree, fatal: true })).toEqual(fail);
  });

  it.each([0, 5, "stop"] as const)(
    "a pushback of %s does not make a fatal status less so",
    (pushback) => {
      expect(hedgeAfterFailure({ ...firstOfThree, fatal: true, pushback })).toEqual({
        kind: "fail",
        reason: "RETRY_NOT_ELIGIBLE",
      });
    },
  );

  it("the next attempt is sent at once", () => {
    expect(hedgeAfterFailure(firstOfThree)).toEqual({ kind: "launch", inMs: 0 });
    expect(hedgeAfterFailure({ ...oneOfTwo, maxAttempts: 3 })).toEqual({ kind: "launch", inMs: 0 });
  });

  it.each([0, 1, 250])(
    "the next attempt is sent in the %i ms that the server names",
    (pushback) => {
      expect(hedgeAfterFailure({ ...firstOfThree, pushback })).toEqual({
        kind: "launch",
        inMs: pushback,
      });
    },
  );

  it("a server that says stop ends the hedging, while those in flight may still answer", () => {
    expect(hedgeAfterFailure({ ...oneOfTwo, maxAttempts: 3, pushback: "stop" })).toEqual({
      kind: "wait",
      reason: "RETRY_PUSHBACK_STOP",
      stop: true,
    });
  });

  it("a server that says stop ends the call when nothing else is in flight", () => {
    expect(hedgeAfterFailure({ ...firstOfThree, pushback: "stop" })).toEqual({
      kind: "fail",
      reason: "RETRY_PUSHBACK_STOP",
    });
  });

  it.each([undefined, 0, 250])(
    "a later pushback of %s does not undo an earlier stop",
    (pushback) => {
      const stopped = { ...firstOfThree, stopped: true, pushback };
      expect(hedgeAfterFailure({ ...stopped, inFlight: 1 })).toEqual({
        kind: "wait",
        reason: "RETRY_PUSHBACK_STOP",
      });
      expect(hedgeAfterFailure(stopped)).toEqual({ kind: "fail", reason: "RETRY_PUSHBACK_STOP" });
    },
  );

  it.each([undefined, 250])("the most attempts win over a pushback of %s", (pushback) => {
    expect(hedgeAfterFailure({ ...oneOfTwo, pushback })).toEqual({
      kind: "wait",
      reason: "RETRY_ATTEMPTS_SPENT",
    });
    expect(hedgeAfterFailure({ ...oneOfTwo, inFlight: 0, pushback })).toEqual({
      kind: "fail",
      reason: "RETRY_ATTEMPTS_SPENT",
    });
  });
});

describe("a hedge that may not start", () => {
  it("is dropped while another attempt may answer", () => {
    expect(withoutHedge(1, "RETRY_BUDGET")).toEqual({ kind: "wait", reason: "RETRY_BUDGET" });
  });

  it("ends the call when none may", () => {
    expect(withoutHedge(0, "RETRY_BUDGET")).toEqual({ kind: "fail", reason: "RETRY_BUDGET" });
  });
});

describe("the timer of a hedged call", () => {
  it("may start attempts up to the most, until a server says stop", () => {
    const progress = { started: 1, inFlight: 1, maxAttempts: 2, stopped: false };
    expect(mayHedge(progress)).toBe(true);
    expect(mayHedge({ ...progress, started: 2 })).toBe(false);
    expect(mayHedge({ ...progress, stopped: true })).toBe(false);
  });

  it("waits as long as a fixed wait says, however short", () => {
    const options = resolveHedgeOptions({ delayMs: 0 });
    expect(hedgeDelayMs(options, undefined)).toBe(0);
    expect(hedgeDelayMs(options, 80)).toBe(0);
  });

  it("waits for the learned quantile, but not less than the least wait", () => {
    const options = resolveHedgeOptions({ quantile: 0.95, minDelayMs: 10 });
    expect(hedgeDelayMs(options, 80)).toBe(80);
    expect(hedgeDelayMs(options, 0.3)).toBe(10);
  });

  it("does not run while too little is known to call an attempt slow", () => {
    expect(hedgeDelayMs(resolveHedgeOptions({ quantile: 0.95 }), undefined)).toBeUndefined();
  });
});
