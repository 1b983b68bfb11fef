import { describe, expect, it } from "vitest";
import { type Ending, isRefusal, type Outcome } from "../../../src/core/permit.js";
import type { BreakerPermit } from "../../../src/policies/breaker/breaker.js";
import { opened, setup } from "./setup.js";

const lost: Ending = { unserved: "unavailable", connectionLost: true };
const notConnected = (event: string): Ending => ({ unserved: "unavailable", event });

type Parts = ReturnType<typeof setup>;

function many({ admit }: Parts, count: number) {
  return Array.from({ length: count }, () => admit());
}

/** A call to one of several servers. */
function callTo({ breaker }: Parts, peer: string, outcome: Outcome, ending?: Ending): void {
  const admission = breaker.acquire();
  if (isRefusal(admission)) throw new Error(`refused: ${admission.detail}`);
  admission.settle(outcome, ending, peer);
}

function admitted({ breaker }: Parts): BreakerPermit {
  const admission = breaker.acquire();
  if (isRefusal(admission)) throw new Error(`refused: ${admission.detail}`);
  return admission;
}

describe("a row of failures", () => {
  it.each([8, 500])("is no longer for %d calls that fail together", (count) => {
    const parts = setup();
    for (const permit of many(parts, count)) permit.settle("failure");
    expect(parts.breaker.snapshot()).toMatchObject({ state: "closed", consecutiveFailures: 1 });
  });

  it("grows with each call that began when the failure before it was known", () => {
    const parts = setup();
    for (let round = 1; round <= 4; round += 1) {
      for (const permit of many(parts, 3)) permit.settle("failure");
      expect(parts.breaker.snapshot()).toMatchObject({ consecutiveFailures: round });
    }
    for (const permit of many(parts, 3)) permit.settle("failure");
    expect(parts.breaker.state).toBe("open");
  });

  it("is ended by a call that was served, whenever that began", () => {
    const parts = setup();
    const early = parts.admit();
    parts.fail(4);
    early.settle("success");
    expect(parts.breaker.snapshot()).toMatchObject({ consecutiveFailures: 0 });
  });

  it("does not grow while calls are admitted in one turn and fail one after the other", () => {
    const parts = setup();
    for (const permit of many(parts, 20)) {
      parts.clock.advance(1_000);
      permit.settle("failure");
    }
    expect(parts.breaker.snapshot()).toMatchObject({ consecutiveFailures: 1 });
  });
});

describe("a rate of failures", () => {
  it("says nothing while all of them are of one event, however many", () => {
    const parts = setup();
    for (const permit of many(parts, 200)) permit.settle("failure");
    expect(parts.breaker.snapshot()).toMatchObject({ state: "closed", failures: 200 });
  });

  it("opens the breaker when they are of several", () => {
    const parts = setup({ consecutiveFailures: false });
    for (let round = 0; round < 2; round += 1) {
      for (const permit of many(parts, 15)) permit.settle("failure");
    }
    expect(parts.breaker.state).toBe("closed");
    parts.fail();
    expect(parts.breaker.check()?.detail).toBe("31 of 31 calls failed within 10000 ms");
  });

  it("forgets events with its window", () => {
    const parts = setup({ consecutiveFailures: false });
    parts.fail(2);
    parts.clock.advance(10_000);
    for (const permit of many(parts, 50)) permit.settle("failure");
    expect(parts.breaker.state).toBe("closed");
  });

  it("needs no more events than failures", () => {
    const parts = setup({ consecutiveFailures: false, minCalls: 2, failureRate: 1 });
    parts.fail(2);
    expect(parts.breaker.state).toBe("open");
  });

  it("holds for slow calls alike", () => {
    const options = { consecutiveFailures: false, slowMs: 100, slowRate: 0.5 } as const;
    const parts = setup(options);
    const pause = (count: number) => {
      const permits = many(parts, count);
      parts.clock.advance(200);
      for (const permit of permits) permit.settle("success");
    };
    pause(100);
    expect(parts.breaker.snapshot()).toMatchObject({ state: "closed", slow: 100 });
    pause(1);
    pause(1);
    expect(parts.breaker.state).toBe("open");
  });

  it("counts the calls of a lost connection as one", () => {
    const parts = setup();
    for (const permit of many(parts, 50)) permit.settle("failure", lost);
    expect(parts.breaker.snapshot()).toMatchObject({ calls: 1, failures: 1 });
  });
});

describe("a failed connect", () => {
  it("counts once, however often it is told from memory", () => {
    const parts = setup();
    parts.fail(100, notConnected("refused at 1"));
    expect(parts.breaker.snapshot()).toMatchObject({ calls: 1, consecutiveFailures: 1 });
  });

  it("counts again when grpc-js must have tried again by its own backoff, though the words are the same", () => {
    const parts = setup();
    const counted = () => parts.breaker.snapshot();
    parts.fail(1, notConnected("refused"));
    for (const [waitMs, inARow] of [
      [1_199, 1],
      [1, 2],
      [1_919, 2],
      [1, 3],
    ] as const) {
      parts.clock.advance(waitMs);
      parts.fail(2, notConnected("refused"));
      expect(counted()).toMatchObject({ consecutiveFailures: inARow });
    }
  });

  it("of another server counts by itself", () => {
    const parts = setup();
    for (let attempt = 1; attempt <= 5; attempt += 1) {
      parts.fail(1, notConnected(`refused at ${attempt}`));
      // All of them go on to tell theirs.
      if (attempt < 5) parts.fail(3, notConnected("refused at 1"));
    }
    expect(parts.breaker.check()?.detail).toBe("5 failures in a row");
  });

  it("counts again when calls were served in between", () => {
    const parts = setup();
    parts.fail(1, notConnected("connecting"));
    parts.succeed();
    parts.fail(1, notConnected("connecting"));
    expect(parts.breaker.snapshot()).toMatchObject({ calls: 3, failures: 2 });
  });

  it("is the end of what calls have waited for", () => {
    const parts = setup();
    parts.fail(3, notConnected("connecting"));
    parts.fail(1, notConnected("refused at 1"));
    parts.fail(3, notConnected("connecting"));
    expect(parts.breaker.snapshot()).toMatchObject({ consecutiveFailures: 3 });
  });

  it("that is known already says nothing by a probe", () => {
    const parts = setup({ consecutiveFailures: 1, openMs: 1_000 });
    parts.fail(1, notConnected("refused at 1"));
    parts.clock.advance(1_000);
    parts.fail(10, notConnected("refused at 1"));
    expect(parts.breaker.snapshot()).toMatchObject({ state: "half-open", probesOut: 0 });
    parts.fail(1, notConnected("refused at 2"));
    expect(parts.breaker.state).toBe("open");
  });
});

describe("a connection that comes back", () => {
  it("ends the open period of a breaker that opened for the want of one", () => {
    const parts = setup({ consecutiveFailures: 1 });
    parts.fail(1, notConnected("refused at 1"));
    expect(parts.breaker.connectivity(false)).toBe(false);
    expect(parts.breaker.state).toBe("open");
    expect(parts.breaker.connectivity(true)).toBe(true);
    expect(parts.events.at(-1)).toMatchObject({ to: "half-open", reason: "connected" });
    parts.succeed(3);
    expect(parts.breaker.state).toBe("closed");
  });

  it.each(["a lost one", "one that was seen to be gone"])(
    "ends an open period after %s",
    (what) => {
      const parts = setup({ consecutiveFailures: 1 });
      parts.fail(1, what === "a lost one" ? lost : undefined);
      if (what !== "a lost one") parts.breaker.connectivity(false);
      parts.breaker.connectivity(true);
      expect(parts.breaker.state).toBe("half-open");
    },
  );

  it("ends no open period where there was one all the time", () => {
    const { breaker } = opened();
    for (const _ of [1, 2]) expect(breaker.connectivity(true)).toBe(false);
    expect(breaker.state).toBe("open");
  });

  it("lets nothing through that was forbidden by hand", () => {
    const { breaker } = setup();
    breaker.force("open");
    breaker.connectivity(false);
    breaker.connectivity(true);
    expect(breaker.state).toBe("forced-open");
  });

  it("leads to longer open periods while probes fail over it", () => {
    const parts = setup({ consecutiveFailures: 1 });
    parts.fail(1, lost);
    parts.breaker.connectivity(true);
    parts.fail(1, lost);
    expect(parts.breaker.check()?.retryAfterMs).toBe(10_000);
  });
});

describe("several servers behind one target", () => {
  it("keep the breaker closed while one of them serves, whatever a row says", () => {
    const parts = setup();
    for (const peer of ["a", "b", "c"]) callTo(parts, peer, "success");
    for (let n = 0; n < 500; n += 1) callTo(parts, "a", "failure");
    expect(parts.breaker.state).toBe("closed");
  });

  it("keep it closed whatever the rate says, where one fails less than that", () => {
    const parts = setup();
    for (let n = 0; n < 200; n += 1) {
      callTo(parts, "c", "success");
      callTo(parts, "a", "failure");
      callTo(parts, "b", "failure");
    }
    expect(parts.breaker.state).toBe("closed");
  });

  it("open it when all of them fail", () => {
    const parts = setup();
    for (const peer of ["a", "b", "c"]) callTo(parts, peer, "success");
    for (const peer of ["a", "b", "c", "a"]) callTo(parts, peer, "failure");
    expect(parts.breaker.state).toBe("closed");
    callTo(parts, "b", "failure");
    expect(parts.breaker.state).toBe("open");
  });

  it("open it when each of them fails more often than the rate allows", () => {
    const parts = setup({ consecutiveFailures: false });
    for (let n = 0; n < 90 && parts.breaker.state === "closed"; n += 1) {
      callTo(parts, ["a", "b", "c"][n % 3] ?? "a", n % 9 < 3 ? "success" : "failure");
    }
    expect(parts.breaker.snapshot()).toMatchObject({ state: "open" });
  });

  it("say nothing of now, when they served longer ago than the window", () => {
    const parts = setup();
    callTo(parts, "b", "success");
    parts.clock.advance(10_000);
    for (let n = 0; n < 5; n += 1) callTo(parts, "a", "failure");
    expect(parts.breaker.state).toBe("open");
  });

  it("say nothing any more, when there is no connection to any", () => {
    const parts = setup();
    for (const peer of ["a", "b"]) callTo(parts, peer, "success");
    for (let n = 1; n <= 5; n += 1) parts.fail(1, notConnected(`refused at ${n}`));
    expect(parts.breaker.state).toBe("open");
  });

  it("are probed together: the failure of one waits for the others that are out", () => {
    const parts = setup({ consecutiveFailures: 3 });
    for (const peer of ["a", "b", "c"]) callTo(parts, peer, "failure");
    parts.clock.advance(5_000);
    const [a, b, c] = [admitted(parts), admitted(parts), admitted(parts)];
    a.settle("failure", undefined, "a");
    expect(parts.breaker.check()?.reason).toBe("BREAKER_PROBING");
    b.settle("success", undefined, "b");
    c.settle("failure", undefined, "c");
    expect(parts.breaker.snapshot()).toMatchObject({ state: "half-open", succeeded: 1 });
    callTo(parts, "a", "failure");
    callTo(parts, "b", "success");
    callTo(parts, "c", "failure");
    callTo(parts, "b", "success");
    expect(parts.breaker.state).toBe("closed");
  });

  it("open it again when no probe of any succeeded", () => {
    const parts = setup({ consecutiveFailures: 2 });
    for (const peer of ["a", "b"]) callTo(parts, peer, "failure");
    parts.clock.advance(5_000);
    const [a, b] = [admitted(parts), admitted(parts)];
    a.settle("failure", { retryAfterMs: 20_000 }, "a");
    b.settle("failure", { retryAfterMs: 30_000 }, "b");
    expect(parts.breaker.check()?.retryAfterMs).toBe(33_000);
  });

  it("are told apart up to a number, and those heard of longest ago are forgotten", () => {
    const parts = setup();
    for (let n = 0; n < 1_000; n += 1) callTo(parts, `peer ${n}`, "success");
    for (let n = 0; n < 500; n += 1) callTo(parts, "peer 0", "failure");
    expect(parts.breaker.state).toBe("closed");
  });
});

describe("a stream that delivers", () => {
  it("is a success from its first message on, and its end says nothing more", () => {
    const parts = setup();
    parts.fail(4);
    const permit = admitted(parts);
    permit.delivered();
    expect(parts.breaker.snapshot()).toMatchObject({ calls: 5, consecutiveFailures: 0 });
    permit.settle("failure", lost);
    expect(parts.breaker.snapshot()).toMatchObject({ calls: 5, failures: 4 });
  });

  it("is a probe that succeeded while it lasts", () => {
    const parts = opened({ probes: 1 });
    parts.clock.advance(5_000);
    admitted(parts).delivered();
    expect(parts.breaker.state).toBe("closed");
  });
});
