import { describe, expect, it } from "vitest";
import { type Mode, ObserveReport, PolicyControl } from "../../src/core/control.js";
import { InvalidOptionError } from "../../src/core/options.js";

const policy = (mode: Mode, name = "") => ({
  mode,
  snapshot: () => ({ shown: name }),
  reconfigure: () => {},
});

describe("the control of a kind of policy at run time", () => {
  it("has the mode that the first policy was built with, until it is set", () => {
    const control = new PolicyControl("retry");
    expect(control.mode).toBe("enforce");
    const [first, second] = [policy("observe"), policy("off")];
    control.add(first, "client");
    control.add(second, "server");
    expect(control.mode).toBe("observe");
    control.mode = "enforce";
    expect([control.mode, first.mode, second.mode]).toEqual(["enforce", "enforce", "enforce"]);
  });

  it("sets the mode of policies that come later, once it has been set", () => {
    const control = new PolicyControl("retry");
    const before = policy("observe");
    control.add(before, "client");
    expect(before.mode).toBe("observe");
    control.mode = "off";
    const later = policy("enforce");
    control.add(later, "client");
    expect(later.mode).toBe("off");
  });

  it("has the name of its policy, which an error about its mode says", () => {
    const control = new PolicyControl("hedge");
    expect(control.name).toBe("hedge");
    expect(() => {
      control.mode = "on" as Mode;
    }).toThrow('policy("hedge").mode must be one of enforce, observe, off');
  });

  it("refuses what is no mode, and changes nothing", () => {
    const control = new PolicyControl("retry");
    const one = policy("observe");
    control.add(one, "client");
    expect(() => {
      control.mode = "on" as Mode;
    }).toThrow(InvalidOptionError);
    expect([control.mode, one.mode]).toEqual(["observe", "observe"]);
  });

  it("shows the numbers of each, by the name of what it was built for, in the order in which they were built", () => {
    const control = new PolicyControl("retry");
    const built = ["a", "b", "c"].map((name) => policy("enforce", name));
    for (const one of built) control.add(one, `for ${one.snapshot().shown}`);
    expect(control.snapshot()).toEqual([
      { name: "for a", shown: "a" },
      { name: "for b", shown: "b" },
      { name: "for c", shown: "c" },
    ]);
    expect(built).toHaveLength(3);
  });
});

describe("the report of what policies that observe would have refused", () => {
  it("counts calls and their ends by policy and reason", () => {
    const report = new ObserveReport();
    expect(report.snapshot()).toEqual({});
    for (let call = 0; call < 4; call += 1) report.refused("breaker", "BREAKER_OPEN");
    report.ended("breaker", "BREAKER_OPEN", "success");
    report.ended("breaker", "BREAKER_OPEN", "failure");
    report.ended("breaker", "BREAKER_OPEN", "failure");
    report.ended("breaker", "BREAKER_OPEN", "ignored");
    report.refused("bulkhead", "BULKHEAD_FULL");
    report.refused("bulkhead", "QUEUE_TIMEOUT");
    report.refused("bulkhead", "QUEUE_TIMEOUT");
    const none = { success: 0, failure: 0, ignored: 0 };
    expect(report.snapshot()).toEqual({
      breaker: { BREAKER_OPEN: { refused: 4, success: 1, failure: 2, ignored: 1 } },
      bulkhead: {
        BULKHEAD_FULL: { refused: 1, ...none },
        QUEUE_TIMEOUT: { refused: 2, ...none },
      },
    });
  });

  it("shows its numbers as they were when they were asked for", () => {
    const report = new ObserveReport();
    report.refused("breaker", "BREAKER_OPEN");
    const before = report.snapshot();
    report.refused("breaker", "BREAKER_OPEN");
    expect(before.breaker?.BREAKER_OPEN?.refused).toBe(1);
  });
});
