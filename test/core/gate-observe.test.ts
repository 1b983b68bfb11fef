import { describe, expect, it } from "vitest";
import { refusal } from "../../src/core/permit.js";
import { FakeGate, outcomes, setup } from "./gate-scene.js";

describe("a gate that observes", () => {
  it("records what it would have refused, and lets the call pass without holding anything", () => {
    const gate = new FakeGate("refuse", "observe");
    const { run, told, decisions } = setup(gate);
    run.run();
    expect(told).toEqual(["admitted"]);
    expect(decisions).toMatchObject([{ verdict: "reject", enforced: false }]);
    run.settle("success");
    expect(outcomes(gate)).toEqual([[]]);
  });

  it("settles a permit with the outcome of the call", () => {
    const gate = new FakeGate("pass", "observe");
    const { run } = setup(gate);
    run.run();
    run.settle("failure");
    expect(outcomes(gate)).toEqual([["failure"]]);
  });

  it("lets a call pass that it would have queued, and holds its permit from its turn on", () => {
    const gate = new FakeGate("queue", "observe");
    const { run, told, decisions } = setup(gate);
    run.run();
    expect(told).toEqual(["admitted"]);
    expect(run.waiting).toBe(false);
    gate.turn(gate.permit(), 7);
    expect(decisions).toMatchObject([{ verdict: "queue", enforced: false, waitMs: 7 }]);
    run.settle("success");
    expect(outcomes(gate)).toEqual([["success"]]);
    expect(told).toEqual(["admitted"]);
  });

  it("leaves its queue when the call ends before its turn, and gives a late turn back", () => {
    const gate = new FakeGate("queue", "observe");
    const { run } = setup(gate);
    run.run();
    run.settle("success");
    expect(gate.left).toBe(1);
    gate.turn(gate.permit());
    expect(outcomes(gate)).toEqual([["ignored"]]);
  });

  it("records a refusal at the end of a modelled wait, and the call goes on", () => {
    const gate = new FakeGate("queue", "observe");
    const { run, told, decisions } = setup(gate);
    run.run();
    gate.turn(refusal("QUEUE_TIMEOUT", "too long"));
    expect(decisions.map(({ verdict, enforced }) => [verdict, enforced])).toEqual([
      ["queue", false],
      ["reject", false],
    ]);
    expect(told).toEqual(["admitted"]);
  });

  it("gives back its permit when an enforcing gate refuses", () => {
    const [observed, enforced] = [new FakeGate("pass", "observe"), new FakeGate("refuse")] as const;
    const { run, told } = setup(observed, enforced);
    run.run();
    expect(outcomes(observed)).toEqual([["ignored"]]);
    expect(told).toHaveLength(1);
  });

  it("that does not concern the call holds nothing of it", () => {
    const gate = new FakeGate("silent", "observe");
    const { run, told, decisions } = setup(gate);
    run.run();
    run.settle("success");
    expect([told, decisions, gate.outcomes]).toEqual([["admitted"], [], []]);
  });

  it("leaves its queue as every other one does", () => {
    const gates = [new FakeGate("queue", "observe"), new FakeGate("queue", "observe")];
    const { run } = setup(...gates);
    run.run();
    run.settle("success");
    expect(gates.map(({ left }) => left)).toEqual([1, 1]);
  });

  it("has what it would have refused counted, with the end of the call, which counts once", () => {
    const gates = [
      new FakeGate("refuse", "observe", "throttle"),
      new FakeGate("refuse", "observe", "bulkhead"),
    ];
    const { run, observed } = setup(...gates);
    run.run();
    const refused = { refused: 1, success: 0, failure: 0, ignored: 0 };
    expect(observed.snapshot()).toEqual({
      throttle: { BULKHEAD_FULL: refused },
      bulkhead: { BULKHEAD_FULL: refused },
    });
    run.settle("failure");
    run.settle("success");
    expect(observed.snapshot()).toEqual({
      throttle: { BULKHEAD_FULL: { ...refused, failure: 1 } },
      bulkhead: { BULKHEAD_FULL: { ...refused, failure: 1 } },
    });
  });

  it("has a call that would have been refused after its end counted as refused alone", () => {
    const gate = new FakeGate("queue", "observe");
    const { run, observed } = setup(gate);
    run.run();
    run.settle("success");
    gate.turn(refusal("QUEUE_TIMEOUT", "too long"));
    run.settle("success");
    const refused = { refused: 1, success: 0, failure: 0, ignored: 0 };
    expect(observed.snapshot()).toEqual({ bulkhead: { QUEUE_TIMEOUT: refused } });
  });

  it("makes no decisions while nobody listens, and counts all the same", () => {
    const gates = [new FakeGate("refuse", "observe"), new FakeGate("queue", "observe")] as const;
    const { run, decisions, hooks, observed } = setup(...gates);
    hooks.silent = true;
    run.run();
    gates[1].turn(gates[1].permit());
    expect(decisions).toEqual([]);
    expect(observed.snapshot().bulkhead?.BULKHEAD_FULL?.refused).toBe(1);
  });
});
