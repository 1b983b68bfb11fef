import { describe, expect, it } from "vitest";
import { type Permit, refusal } from "../../src/core/permit.js";
import { FakeGate, outcomes, SlotGate, setup } from "./gate-scene.js";

describe("a row of gates", () => {
  it("admits at once when all let the call pass, and records no decision", () => {
    const gates = [new FakeGate("pass"), new FakeGate("silent"), new FakeGate("pass")] as const;
    const { run, told, decisions } = setup(...gates);
    run.run();
    expect(told).toEqual(["admitted"]);
    expect(run.waiting).toBe(false);
    expect(decisions).toEqual([]);
    expect(outcomes(...gates)).toEqual([[], [], []]);
  });

  it.each(["enforce", "observe"] as const)(
    "records an admission for which a shared store could not be asked, in mode %s",
    (mode) => {
      const alone = new FakeGate("pass", mode, "quota");
      alone.storeAway = "by its own tokens";
      const { run, told, decisions, clock } = setup(alone, new FakeGate("pass"));
      run.run();
      expect(told).toEqual(["admitted"]);
      expect(decisions).toEqual([
        {
          policy: "quota",
          verdict: "admit",
          reason: "STORE_AWAY",
          enforced: mode === "enforce",
          atMs: clock.now(),
          detail: "by its own tokens",
        },
      ]);
    },
  );

  it("gives the permit back when an observer of such a decision ends the call", () => {
    const alone = new FakeGate("pass", "enforce", "quota");
    alone.storeAway = "by its own tokens";
    const behind = new FakeGate("pass");
    const { run, told, hooks } = setup(alone, behind);
    hooks.decided = () => run.settle("ignored");
    run.run();
    expect(told).toEqual([]);
    expect(outcomes(alone)).toEqual([["ignored"]]);
    expect(behind.asked).toBe(0);
  });

  it("makes no such decision while nobody listens", () => {
    const alone = new FakeGate("pass");
    alone.storeAway = "by its own tokens";
    const { run, told, hooks, decisions } = setup(alone);
    hooks.silent = true;
    run.run();
    expect({ told, decisions }).toEqual({ told: ["admitted"], decisions: [] });
  });

  it("admits at once when there is none", () => {
    const { run, told } = setup();
    run.run();
    run.settle("success");
    expect(told).toEqual(["admitted"]);
  });

  it.each(["success", "failure", "ignored"] as const)(
    "settles every permit once with the first outcome, %s",
    (outcome) => {
      const gates = [new FakeGate("pass"), new FakeGate("pass")] as const;
      const { run } = setup(...gates);
      run.run();
      run.settle(outcome);
      run.settle("failure");
      expect(outcomes(...gates)).toEqual([[outcome], [outcome]]);
    },
  );

  it("asks no gate that is off", () => {
    const off = new FakeGate("refuse", "off");
    const { run, told } = setup(off);
    run.run();
    expect(told).toEqual(["admitted"]);
    expect(off.asked).toBe(0);
  });

  it("gives back what it holds as ignored when a later gate refuses, and asks no other", () => {
    const [first, second, third] = [
      new FakeGate("pass"),
      new FakeGate("refuse", "enforce", "breaker"),
      new FakeGate("pass"),
    ] as const;
    const { run, told, decisions, clock } = setup(first, second, third);
    run.run();
    expect(told).toEqual(["breaker refused BULKHEAD_FULL"]);
    expect(outcomes(first)).toEqual([["ignored"]]);
    expect(third.asked).toBe(0);
    expect(decisions).toEqual([
      {
        policy: "breaker",
        verdict: "reject",
        reason: "BULKHEAD_FULL",
        enforced: true,
        atMs: clock.now(),
        detail: "full",
      },
    ]);
    run.settle("failure");
    expect(outcomes(first)).toEqual([["ignored"]]);
  });
});

describe("a call that waits at a gate", () => {
  it("goes on from there when its turn comes, and records the wait", () => {
    const [queue, behind] = [new FakeGate("queue"), new FakeGate("pass")] as const;
    const { run, told, decisions } = setup(queue, behind);
    run.run();
    expect(run.waiting).toBe(true);
    expect(told).toEqual([]);
    expect(behind.asked).toBe(0);
    queue.turn(queue.permit(), 12);
    expect(run.waiting).toBe(false);
    expect(told).toEqual(["admitted later"]);
    expect(decisions).toMatchObject([{ verdict: "queue", enforced: true, waitMs: 12 }]);
    run.settle("success");
    expect(outcomes(queue, behind)).toEqual([["success"], ["success"]]);
  });

  it("may wait at one gate after another", () => {
    const [first, second] = [new FakeGate("queue"), new FakeGate("queue")] as const;
    const { run, told } = setup(first, second);
    run.run();
    first.turn(first.permit());
    expect(run.waiting).toBe(true);
    expect(told).toEqual([]);
    second.turn(second.permit());
    expect(told).toEqual(["admitted later"]);
    run.settle("failure");
    expect(outcomes(first, second)).toEqual([["failure"], ["failure"]]);
  });

  it("is refused when its turn is a refusal", () => {
    const [first, queue] = [new FakeGate("pass"), new FakeGate("queue")] as const;
    const { run, told, decisions } = setup(first, queue);
    run.run();
    queue.turn(refusal("QUEUE_TIMEOUT", "too long"));
    expect(told).toEqual(["bulkhead refused QUEUE_TIMEOUT later"]);
    expect(outcomes(first)).toEqual([["ignored"]]);
    expect(decisions.map(({ verdict }) => verdict)).toEqual(["queue", "reject"]);
  });

  it("gives its turn back when a later gate refuses", () => {
    const [queue, behind] = [new FakeGate("queue"), new FakeGate("refuse")] as const;
    const { run, told } = setup(queue, behind);
    run.run();
    queue.turn(queue.permit());
    expect(told).toEqual(["bulkhead refused BULKHEAD_FULL later"]);
    expect(outcomes(queue)).toEqual([["ignored"]]);
  });

  it("leaves the queue and gives back what it holds when it ends while it waits", () => {
    const [first, queue] = [new FakeGate("pass"), new FakeGate("queue")] as const;
    const { run, told } = setup(first, queue);
    run.run();
    run.settle("ignored");
    run.settle("failure");
    expect(queue.left).toBe(1);
    expect(outcomes(first)).toEqual([["ignored"]]);
    expect(told).toEqual([]);
  });

  it("gives a turn that comes after its end straight back, and tells nobody", () => {
    const [queue, behind] = [new FakeGate("queue"), new FakeGate("pass")] as const;
    const { run, told, decisions } = setup(queue, behind);
    run.run();
    run.settle("failure");
    queue.turn(queue.permit());
    expect(outcomes(queue)).toEqual([["ignored"]]);
    expect(behind.asked).toBe(0);
    expect(told).toEqual([]);
    expect(decisions).toEqual([]);
  });

  it("takes a refusal that comes after its end for nothing", () => {
    const queue = new FakeGate("queue");
    const { run, told, decisions } = setup(queue);
    run.run();
    run.settle("ignored");
    queue.turn(refusal("QUEUE_TIMEOUT", "too long"));
    expect([told, decisions]).toEqual([[], []]);
  });
});

describe("a call that ends while a gate is being asked, or its decision told", () => {
  it.each(["enforce", "observe"] as const)(
    "holds nothing of that gate, mode %s, and asks no other",
    (mode) => {
      const [asked, behind] = [new FakeGate("pass", mode), new FakeGate("pass")] as const;
      const { run, told } = setup(asked, behind);
      asked.during = () => run.settle("ignored");
      run.run();
      expect(outcomes(asked)).toEqual([["ignored"]]);
      expect(behind.asked).toBe(0);
      expect(told).toEqual([]);
    },
  );

  it.each(["enforce", "observe"] as const)("does not wait at that gate, mode %s", (mode) => {
    const asked = new FakeGate("queue", mode);
    const { run, told } = setup(asked);
    asked.during = () => run.settle("ignored");
    run.run();
    expect(asked.left).toBe(1);
    expect(run.waiting).toBe(false);
    expect(told).toEqual([]);
  });

  it("gives back the turn whose wait was being told", () => {
    const [queue, behind] = [new FakeGate("queue"), new FakeGate("pass")] as const;
    const { run, told, hooks } = setup(queue, behind);
    run.run();
    hooks.decided = () => run.settle("ignored");
    queue.turn(queue.permit());
    expect(outcomes(queue)).toEqual([["ignored"]]);
    expect(behind.asked).toBe(0);
    expect(told).toEqual([]);
  });

  it("is not refused by the turn whose wait was being told", () => {
    const queue = new FakeGate("queue");
    const { run, told, decisions, hooks } = setup(queue);
    run.run();
    hooks.decided = () => run.settle("ignored");
    queue.turn(queue.refusal());
    expect(told).toEqual([]);
    expect(decisions.map(({ verdict }) => verdict)).toEqual(["queue"]);
  });

  it("is not refused as well", () => {
    const gate = new FakeGate("refuse");
    const { run, told, hooks } = setup(gate);
    hooks.decided = () => run.settle("ignored");
    run.run();
    expect(told).toEqual([]);
  });
});

/** A gate whose permits say how they end. */
class TellingGate extends FakeGate {
  untilEnd = false;
  readonly ends: string[] = [];

  override permit(): Permit {
    return {
      settle: (outcome) => this.ends.push(outcome),
      abandon: (refused) => this.ends.push(refused ? "unused, others too" : "unused"),
      delivered: () => this.ends.push("delivered"),
    };
  }
}

describe("the permits of a call", () => {
  it("are told of the first message of a stream", () => {
    const gates = [new TellingGate("pass"), new FakeGate("pass"), new FakeGate("silent")] as const;
    const { run } = setup(...gates);
    run.run();
    run.delivered();
    run.settle("success");
    expect(gates[0].ends).toEqual(["delivered", "success"]);
  });

  it("are settled when the call is answered, but for those that are held until its end", () => {
    const [answered, held] = [new TellingGate("pass"), new TellingGate("pass")];
    held.untilEnd = true;
    const { run } = setup(answered, held);
    run.run();
    run.answered("success");
    expect([answered.ends, held.ends]).toEqual([["success"], []]);
    run.answered("failure");
    run.settle("failure");
    expect([answered.ends, held.ends]).toEqual([["success"], ["failure"]]);
  });

  it.each([
    [refusal("BULKHEAD_FULL", "full"), "unused, others too"],
    [refusal("RATE_LIMIT_EXCEEDED", "used up", 5, "tenant"), "unused"],
  ])("come back with word of whether others would be refused, too: %o", (refused, end) => {
    const first = new TellingGate("pass");
    const last = new FakeGate("queue");
    const { run } = setup(first, last);
    run.run();
    last.turn(refused);
    expect(first.ends).toEqual([end]);
  });

  it.each(["enforce", "observe"] as const)(
    "come back without a word of others when they come after its end, from a gate that is to %s",
    (mode) => {
      const gate = new TellingGate("queue", mode);
      const { run } = setup(gate);
      run.run();
      run.settle("success");
      gate.turn(gate.permit());
      expect(gate.ends).toEqual(["unused"]);
    },
  );

  it("are enforced where a gate of slots is, and not where it observes", () => {
    const enforced = (...gates: FakeGate[]) => setup(...gates).run.slotsEnforced;
    expect(enforced(new FakeGate("pass"))).toBe(false);
    expect(enforced(new FakeGate("pass"), new SlotGate("pass"))).toBe(true);
    expect(enforced(new SlotGate("pass", "observe"))).toBe(false);
  });
});

describe("the decisions about a call", () => {
  it("say which queue it waited in, where that has a name", () => {
    const [named, nameless] = [new FakeGate("queue"), new FakeGate("queue")];
    named.detail = "partition batch";
    const { run, decisions, clock } = setup(named, nameless);
    run.run();
    named.turn(named.permit(), 7);
    nameless.turn(nameless.permit(), 9);
    const queue = { policy: "bulkhead", verdict: "queue", enforced: true, atMs: clock.now() };
    expect(decisions).toStrictEqual([
      { ...queue, waitMs: 7, detail: "partition batch" },
      { ...queue, waitMs: 9 },
    ]);
  });

  it("say what a gate would have refused that lets the call go on", () => {
    const { run, decisions, clock, observed } = setup(new FakeGate("pass"));
    run.run();
    run.wouldRefuse(refusal("THROTTLED", "90 %"), "throttle");
    expect(decisions).toStrictEqual([
      {
        policy: "throttle",
        verdict: "reject",
        reason: "THROTTLED",
        enforced: false,
        atMs: clock.now(),
        detail: "90 %",
      },
    ]);
    expect(observed.snapshot().throttle?.THROTTLED?.refused).toBe(1);
  });
});
