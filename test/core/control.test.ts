import { describe, expect, it } from "vitest";
import { type Mode, PolicyControl } from "../../src/core/control.js";
import { InvalidOptionError } from "../../src/core/options.js";

const policy = (mode: Mode, name = "") => ({ mode, snapshot: () => name });

describe("the control of a kind of policy at run time", () => {
  it("has the mode that the first policy was built with, until it is set", () => {
    const control = new PolicyControl("retry");
    expect(control.mode).toBe("enforce");
    const [first, second] = [policy("observe"), policy("off")];
    control.add(first);
    control.add(second);
    expect(control.mode).toBe("observe");
    control.mode = "enforce";
    expect([control.mode, first.mode, second.mode]).toEqual(["enforce", "enforce", "enforce"]);
  });

  it("sets the mode of policies that come later, once it has been set", () => {
    const control = new PolicyControl("retry");
    const before = policy("observe");
    control.add(before);
    expect(before.mode).toBe("observe");
    control.mode = "off";
    const later = policy("enforce");
    control.add(later);
    expect(later.mode).toBe("off");
  });

  it("refuses what is no mode, and changes nothing", () => {
    const control = new PolicyControl("retry");
    const one = policy("observe");
    control.add(one);
    expect(() => {
      control.mode = "on" as Mode;
    }).toThrow(InvalidOptionError);
    expect([control.mode, one.mode]).toEqual(["observe", "observe"]);
  });

  it("shows the numbers of each, in the order in which they were built", () => {
    const control = new PolicyControl("retry");
    const built = ["a", "b", "c"].map((name) => policy("enforce", name));
    for (const one of built) control.add(one);
    expect(control.snapshot()).toEqual(["a", "b", "c"]);
    expect(built).toHaveLength(3);
  });
});
