import { describe, expect, it } from "vitest";
import type { Mode } from "../../src/core/control.js";
import { type Gate, GateRun } from "../../src/core/gate.js";
import { isRefusal, type Outcome, type Permit, permit, refusal } from "../../src/core/permit.js";
import {
  type RateLimitOptions,
  resolveRateLimitOptions,
} from "../../src/policies/rate-limit/options.js";
import { RateLimit } from "../../src/policies/rate-limit/rate-limit.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { ManualStore } from "../policies/rate-limit/rate-scene.js";
import { FakeGate } from "./gate-scene.js";
import { fateOf } from "./turns.js";

/** A gate whose permits can be given back unused. */
class LendingGate extends FakeGate {
  readonly #name: string;
  readonly #log: string[];

  constructor(name: string, log: string[], mode: Mode = "enforce") {
    super("pass", mode);
    this.#name = name;
    this.#log = log;
  }

  override permit(): Permit {
    let over = false;
    const end = (how: string) => {
      if (!over) this.#log.push(`${this.#name} ${how}`);
      over = true;
    };
    return { settle: end, abandon: () => end("unused") };
  }
}

function run(...gates: readonly Gate<string>[]) {
  const told: string[] = [];
  const clock = new VirtualClock();
  const made = new GateRun<string>(gates, "call", {
    clock,
    admitted: () => told.push("admitted"),
    refused: ({ reason }) => told.push(reason),
    decide: () => {},
  });
  made.run();
  return { run: made, told };
}

describe("the permits of a call that did not come through the gates", () => {
  it("are given back unused when a later gate refuses, the last first", () => {
    const log: string[] = [];
    const { run: refused, told } = run(
      new LendingGate("first", log),
      new LendingGate("second", log),
      new FakeGate("refuse"),
    );
    expect(told).toEqual(["BULKHEAD_FULL"]);
    expect(log).toEqual(["second unused", "first unused"]);
    refused.settle("failure");
    expect(log).toHaveLength(2);
  });

  it("are given back unused when it leaves while it waits at a later gate, whatever it ended with", () => {
    for (const outcome of ["success", "failure", "ignored"] as const) {
      const log: string[] = [];
      const { run: waiting } = run(new LendingGate("first", log), new FakeGate("queue"));
      waiting.settle(outcome);
      expect(log).toEqual(["first unused"]);
    }
  });

  it("are given back unused when the wait at a later gate ends with a refusal", () => {
    const log: string[] = [];
    const queue = new FakeGate("queue");
    run(new LendingGate("first", log), queue);
    queue.turn(refusal("QUEUE_TIMEOUT", "too long"));
    expect(log).toEqual(["first unused"]);
  });

  it("are given back unused when their turn comes after its end", () => {
    const log: string[] = [];
    const queue = new LendingGate("queue", log);
    queue.answer = "queue";
    const { run: waiting } = run(queue);
    waiting.settle("ignored");
    queue.turn(queue.permit());
    expect(log).toEqual(["queue unused"]);
  });

  it("are given back unused of gates that observe as well", () => {
    const log: string[] = [];
    run(new LendingGate("observed", log, "observe"), new FakeGate("refuse"));
    expect(log).toEqual(["observed unused"]);
  });

  it("are settled as ignored where they cannot be given back unused", () => {
    const plain = new FakeGate("pass");
    run(plain, new FakeGate("refuse"));
    expect(plain.outcomes).toEqual<Outcome[]>(["ignored"]);
  });
});

it("of a call that came through, no permit is given back unused, however it ends", () => {
  for (const outcome of ["success", "failure", "ignored"] as const) {
    const log: string[] = [];
    const { run: admitted } = run(
      new LendingGate("first", log),
      // It would have been refused, and went on.
      new FakeGate("refuse", "observe"),
      new LendingGate("last", log),
    );
    admitted.settle(outcome);
    expect(log).toEqual([`first ${outcome}`, `last ${outcome}`]);
  }
});

it("a waiting call that gets what comes back finds the gates behind it free", () => {
  const clock = new VirtualClock();
  const rate = rateGate({ maxWaitMs: 1_000 }, clock);
  let taken = false;
  const slot: Gate<string> = {
    policy: "bulkhead",
    modeFor: () => "enforce",
    enter() {
      if (taken) return refusal("BULKHEAD_FULL", "full");
      taken = true;
      return permit(() => {
        taken = false;
      });
    },
  };
  const { told: first } = run(rate.gate, slot, new FakeGate("refuse", "enforce", "breaker"));
  expect(first).toEqual(["BULKHEAD_FULL"]);
  const queue = new FakeGate("queue");
  const { run: holder } = run(rate.gate, slot, queue);
  const { told } = run(rate.gate, slot);
  expect(told).toEqual([]);
  holder.settle("ignored");
  expect(told).toEqual(["admitted"]);
});

function rateGate(options: Partial<RateLimitOptions> & { mode?: Mode }, clock: VirtualClock) {
  const { mode = "enforce", ...rest } = options;
  const limit = new RateLimit(
    resolveRateLimitOptions({ ratePerSecond: 10, burst: 1, ...rest }),
    { clock, random: () => 0, report: () => {} },
    "quota",
  );
  const ask = { key: "a", rank: 2, deadlineMs: Infinity };
  const gate: Gate<number> & Gate<string> = {
    policy: "quota",
    modeFor: () => mode,
    enter: (cost: number | string, onGranted) =>
      limit.enter({ ...ask, cost: typeof cost === "number" ? cost : 1, onGranted }),
  };
  /** Tokens that it has left. */
  const left = () => {
    let tokens = 0;
    for (;;) {
      const entry = limit.enter({ ...ask, cost: 1, rank: 0, onGranted: () => {} });
      if (isRefusal(entry) || fateOf(entry) !== "admitted") return tokens;
      tokens += 1;
    }
  };
  return { gate, limit, left };
}

describe("several rates in a row", () => {
  function setup(...row: (Partial<RateLimitOptions> & { mode?: Mode })[]) {
    const clock = new VirtualClock();
    const rates = row.map((options) => rateGate(options, clock));
    const enter = (cost = 1) => {
      const fates: string[] = [];
      const waits: number[] = [];
      const made = new GateRun<number>(
        rates.map(({ gate }) => gate),
        cost,
        {
          clock,
          admitted: () => fates.push("admitted"),
          refused: ({ reason }) => fates.push(reason),
          decide: ({ waitMs }) => {
            if (waitMs !== undefined) waits.push(waitMs);
          },
        },
      );
      made.run();
      return { run: made, waits, fates, fate: () => fates[0] ?? "waits" };
    };
    return { clock, rates, enter, left: (index: number) => rates[index]?.left() };
  }

  it("let a call go on that passes all", () => {
    const { enter, left } = setup({ burst: 3 }, { burst: 2 });
    expect([enter(), enter()].map(({ fate }) => fate())).toEqual(["admitted", "admitted"]);
    expect([left(0), left(1)]).toEqual([1, 0]);
  });

  it("give the tokens of the first back when a later one refuses", () => {
    const { enter, left } = setup({ burst: 5 }, { burst: 5 }, { burst: 2 });
    expect(enter(2).fate()).toBe("admitted");
    expect(enter(2).fate()).toBe("RATE_LIMIT_EXCEEDED");
    expect([left(0), left(1), left(2)]).toEqual([3, 3, 0]);
  });

  it("ask the later ones for nothing when the first refuses", () => {
    const { enter, left } = setup({ burst: 1 }, { burst: 5 });
    enter();
    expect(enter().fate()).toBe("RATE_LIMIT_EXCEEDED");
    expect(left(1)).toBe(4);
  });

  it("make a call wait at each", () => {
    const { clock, enter, rates } = setup(
      { maxWaitMs: 1_000 },
      { maxWaitMs: 1_000, ratePerSecond: 5 },
    );
    enter();
    const second = enter();
    clock.advance(100);
    expect(second.fate()).toBe("waits");
    clock.advance(100);
    expect(second.fate()).toBe("admitted");
    expect(second.waits).toEqual([100, 100]);
    expect(rates.map(({ limit }) => limit.snapshot().queued)).toEqual([0, 0]);
    expect(clock.pending.refs).toBe(0);
  });

  it("give back when a later one refuses after a wait", () => {
    const { clock, enter, left } = setup(
      { burst: 5, ratePerSecond: 0.001 },
      { maxWaitMs: 1_000 },
      { ratePerSecond: 0.001 },
    );
    expect(enter().fate()).toBe("admitted");
    const second = enter();
    expect(second.fate()).toBe("waits");
    clock.advance(100);
    expect(second.fate()).toBe("RATE_LIMIT_EXCEEDED");
    expect(second.waits).toEqual([100]);
    expect([left(0), left(1)]).toEqual([4, 1]);
  });

  it("give the tokens of the first back when a call leaves that waits at a later one", () => {
    const { clock, enter, left, rates } = setup({ burst: 5 }, { maxWaitMs: 1_000 });
    enter();
    const second = enter();
    second.run.settle("ignored");
    second.run.settle("ignored");
    expect(left(0)).toBe(4);
    clock.advance(1_000);
    expect(second.fates).toEqual([]);
    expect(rates[1]?.limit.snapshot()).toMatchObject({ queued: 0, admitted: 1, left: 1 });
  });

  it("give back to a store that answers later, in their order", async () => {
    const store = new ManualStore();
    const { enter } = setup({ store }, {});
    const [first, second] = [enter(), enter()];
    for (const { answer } of store.asked) answer({ granted: true });
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
    expect([first.fate(), second.fate()]).toEqual(["admitted", "RATE_LIMIT_EXCEEDED"]);
    expect(store.givenBack).toEqual([{ key: "a", cost: 1 }]);
  });

  it.each([
    ["enforce", 4],
    ["observe", 4],
  ] as const)("give back where the first is in mode %s", (mode, tokens) => {
    const { enter, left } = setup({ burst: 5, mode }, { burst: 1 });
    enter();
    expect(enter().fate()).toBe("RATE_LIMIT_EXCEEDED");
    expect(left(0)).toBe(tokens);
  });

  it("give nothing back that was not taken, where the first observes and would have refused", () => {
    const { clock, enter, left } = setup({ burst: 1, mode: "observe" }, { burst: 1 });
    enter();
    expect(enter().fate()).toBe("RATE_LIMIT_EXCEEDED");
    expect(left(0)).toBe(0);
    clock.advance(100);
    expect(left(0)).toBe(1);
  });

  it("keep what they gave when a later one only would have refused", () => {
    const { enter, left } = setup({ burst: 5 }, { burst: 1, mode: "observe" });
    enter();
    expect(enter().fate()).toBe("admitted");
    expect(left(0)).toBe(3);
  });
});
