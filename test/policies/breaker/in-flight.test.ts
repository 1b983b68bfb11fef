import { describe, expect, it } from "vitest";
import type { Outcome } from "../../../src/core/permit.js";
import { type CallInFlight, InFlight } from "../../../src/policies/breaker/states.js";
import { setup, stream } from "./setup.js";

describe("a breaker that looks at calls under way", () => {
  const hangs = { inFlightMs: 1_000, consecutiveFailures: 3 } as const;

  it("opens on calls that do not end, before they do", () => {
    const { breaker, clock, admit } = setup(hangs);
    for (let call = 0; call < 2; call += 1) {
      admit();
      clock.advance(1_000);
      expect(breaker.check()).toBeUndefined();
    }
    admit();
    clock.advance(999);
    expect(breaker.check()).toBeUndefined();
    clock.advance(1);
    expect(breaker.check()?.detail).toBe("3 failures in a row");
  });

  it.each<Outcome>(["success", "failure", "ignored"])(
    "counts such a call once: its end in %s is nothing more",
    (outcome) => {
      const { breaker, clock, admit } = setup(hangs);
      const hanging = [admit(), admit()];
      clock.advance(1_000);
      expect(breaker.snapshot()).toMatchObject({ calls: 2, failures: 2, consecutiveFailures: 1 });
      for (const permit of hanging) permit.settle(outcome);
      expect(breaker.snapshot()).toMatchObject({ calls: 2, failures: 2, consecutiveFailures: 1 });
    },
  );

  it("takes calls that hang together for one event", () => {
    const { breaker, clock, admit } = setup(hangs);
    for (let call = 0; call < 100; call += 1) admit();
    clock.advance(1_000);
    expect(breaker.snapshot()).toMatchObject({ state: "closed", failures: 100 });
  });

  it("counts a call that took too long as failed, though nobody had looked before it ended", () => {
    const { breaker, take } = setup(hangs);
    take(1_000);
    expect(breaker.snapshot()).toMatchObject({ calls: 1, failures: 1 });
    take(999);
    expect(breaker.snapshot()).toMatchObject({ calls: 2, failures: 1 });
  });

  it("counts it as slow too, where it is", () => {
    const { breaker, take } = setup({ ...hangs, slowMs: 500 });
    take(1_000);
    expect(breaker.snapshot()).toMatchObject({ failures: 1, slow: 1 });
  });

  it("leaves streams alone", () => {
    const { breaker, clock, admit } = setup(hangs);
    const streams = Array.from({ length: 5 }, () => admit(stream));
    clock.advance(3_600_000);
    expect(breaker.check()).toBeUndefined();
    for (const permit of streams) permit.settle("success");
    expect(breaker.snapshot()).toMatchObject({ calls: 5, failures: 0 });
  });

  it("does not hold a call of an earlier state against the next one", () => {
    const { breaker, clock, admit, succeed } = setup({ ...hangs, consecutiveFailures: 1 });
    for (let call = 0; call < 10; call += 1) admit();
    clock.advance(1_000);
    expect(breaker.state).toBe("open");
    clock.advance(5_000);
    succeed(3);
    clock.advance(60_000);
    expect(breaker.snapshot()).toMatchObject({ state: "closed", calls: 0 });
  });

  it("keeps no hold of a call that ends in a later state", () => {
    const { breaker, admit } = setup(hangs);
    const [first, second] = [admit(), admit()];
    breaker.force("open");
    first.settle("success");
    // The list of the earlier state has the other one alone, or each would keep all the others.
    expect(first).toMatchObject({ list: undefined, newer: undefined });
    expect(second).toMatchObject({ older: undefined });
  });

  it("opens by hand and back without a word of the calls from before", () => {
    const { breaker, clock, admit } = setup(hangs);
    const hanging = Array.from({ length: 5 }, () => admit());
    breaker.force("closed");
    breaker.force(undefined);
    clock.advance(1_000);
    for (const permit of hanging) permit.settle("failure");
    expect(breaker.snapshot()).toMatchObject({ state: "closed", calls: 0 });
  });
});

describe("the list of calls in flight", () => {
  const call = (sinceMs: number): CallInFlight => ({
    sinceMs,
    timed: true,
    knownEvents: 0,
    overdue: false,
    list: undefined,
    older: undefined,
    newer: undefined,
  });

  it("gives out those that are overdue, the oldest first, and none that has left", () => {
    const list = new InFlight(10);
    const calls = [0, 1, 2, 3, 4].map(call);
    for (const each of calls) list.enter(each);
    const [first, second, third, fourth, last] = calls;
    for (const gone of [first, third, last]) if (gone !== undefined) list.leave(gone);
    expect(list.takeOverdue(10)).toBeUndefined();
    expect(list.takeOverdue(100)).toBe(second);
    expect(list.takeOverdue(100)).toBe(fourth);
    expect(list.takeOverdue(100)).toBeUndefined();
    expect(calls.map(({ overdue }) => overdue)).toEqual([false, true, false, true, false]);
  });

  it("keeps no hold of a call that has left", () => {
    const list = new InFlight(10);
    const calls = [0, 1, 2].map(call);
    for (const each of calls) list.enter(each);
    for (const each of calls.toReversed()) list.leave(each);
    for (const each of calls) {
      expect(each).toMatchObject({ list: undefined, older: undefined, newer: undefined });
    }
  });
});
