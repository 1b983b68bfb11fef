import { describe, expect, it } from "vitest";
import { FakeGate, outcomes, SlotGate, setup } from "./gate-scene.js";

describe("a call that stops before it takes slots", () => {
  it("has asked the gates in front of them, and asks the others when it goes on", () => {
    const [first, slots, behind] = [
      new FakeGate("pass"),
      new SlotGate("pass"),
      new FakeGate("pass"),
    ] as const;
    const { run, told } = setup(first, slots, behind);
    run.runToRequest();
    expect(told).toEqual(["ready"]);
    expect([first, slots, behind].map(({ asked }) => asked)).toEqual([1, 0, 0]);
    run.run();
    expect(told).toEqual(["ready", "admitted"]);
    expect([first, slots, behind].map(({ asked }) => asked)).toEqual([1, 1, 1]);
  });

  it("is refused there when the gate of the slots would refuse it now, and gives back what it holds", () => {
    const [first, slots] = [new FakeGate("pass"), new SlotGate("pass")] as const;
    slots.refuses = true;
    const { run, told, decisions } = setup(first, new FakeGate("pass"), slots);
    run.runToRequest();
    expect(told).toEqual(["bulkhead refused BULKHEAD_FULL"]);
    expect(decisions).toMatchObject([{ verdict: "reject", enforced: true }]);
    expect(slots.asked).toBe(0);
    expect(outcomes(first)).toEqual([["ignored"]]);
  });

  it("is refused by the second gate of slots as well as by the first", () => {
    const [one, two] = [
      new SlotGate("pass"),
      new SlotGate("pass", "enforce", "admission"),
    ] as const;
    two.refuses = true;
    const { run, told } = setup(one, two);
    run.runToRequest();
    expect(told).toEqual(["admission refused BULKHEAD_FULL"]);
    expect(one.asked).toBe(0);
  });

  it("is not refused early by a gate that observes", () => {
    const slots = new SlotGate("pass", "observe");
    slots.refuses = true;
    const { run, told, decisions } = setup(slots);
    run.runToRequest();
    expect(run.slotsEnforced).toBe(false);
    expect([told, decisions]).toEqual([["ready"], []]);
  });

  it("goes on at once where no gate takes any, or that gate is off", () => {
    for (const gates of [[new FakeGate("pass")], [new SlotGate("refuse", "off")]]) {
      const { run, told } = setup(...gates);
      run.runToRequest();
      expect(run.slotsEnforced).toBe(false);
      expect(told).toEqual(["admitted"]);
    }
  });

  it("stops there after a wait at a gate in front", () => {
    const [queue, slots] = [new FakeGate("queue"), new SlotGate("pass")] as const;
    const { run, told } = setup(queue, slots);
    run.runToRequest();
    expect(told).toEqual([]);
    queue.turn(queue.permit());
    expect(told).toEqual(["ready later"]);
    run.settle("ignored");
    run.run();
    expect(told).toEqual(["ready later"]);
    expect(slots.asked).toBe(0);
    expect(outcomes(queue)).toEqual([["ignored"]]);
  });
});
