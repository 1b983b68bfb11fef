import { describe, expect, it } from "vitest";
import { isRefusal, type Outcome } from "../../../src/core/permit.js";
import {
  BreakerControl,
  BreakerSet,
  type BreakerStateChange,
} from "../../../src/policies/breaker/breakers.js";
import {
  type BreakerOptions,
  resolveBreakerOptions,
} from "../../../src/policies/breaker/options.js";
import { fakeClock } from "../../core/fake-clock.js";

function setup(options: BreakerOptions & { maxKeys?: number } = {}) {
  const { maxKeys = 10, ...rest } = options;
  const clock = fakeClock();
  const reported: unknown[] = [];
  const told: BreakerStateChange[] = [];
  const make = () =>
    new BreakerSet(
      resolveBreakerOptions({ consecutiveFailures: 1, openMs: 5_000, openJitter: 0, ...rest }),
      {
        mode: "enforce",
        maxKeys,
        clock,
        random: () => 0.5,
        report: (error, where) => reported.push(error, where),
        onStateChange: (change) => told.push(change),
      },
    );
  const control = new BreakerControl();
  const set = make();
  control.add(set, "client");
  const call = (key: string, outcome: Outcome = "success", of = set) => {
    const admission = of.for(key).acquire();
    if (isRefusal(admission)) return admission.reason;
    admission.settle(outcome);
    return outcome;
  };
  return { clock, reported, told, make, control, set, call };
}

describe("a set of breakers", () => {
  it("has a breaker for each key", () => {
    const { call, set } = setup();
    call("a", "failure");
    expect(call("a")).toBe("BREAKER_OPEN");
    expect(call("b")).toBe("success");
    expect(Object.keys(set.snapshot().breakers)).toEqual(["b", "a"]);
  });

  it("forgets the keys that were used longest ago", () => {
    const { call, set } = setup({ maxKeys: 2 });
    for (const key of ["a", "b", "a", "c"]) call(key);
    expect(Object.keys(set.snapshot().breakers)).toEqual(["c", "a"]);
  });
});

describe("what a set takes over from a snapshot", () => {
  it("is all that was set by hand, in place of what was", () => {
    const { set, make } = setup({ maxKeys: 2 });
    set.override("closed");
    set.override("observed", "a");
    set.override("disabled", "b");
    const other = make();
    other.override("open", "c");
    other.prepareRestore("it", set.snapshot())();
    expect(other.snapshot()).toMatchObject({
      override: "closed",
      overrides: { a: "observed", b: "disabled" },
    });
    expect(other.for("c").state).toBe("forced-closed");
  });
});

describe("an observer that was removed", () => {
  it("is told nothing by breakers that are built later", () => {
    const { control, make, call } = setup();
    const told: BreakerStateChange[] = [];
    control.onStateChange((change) => told.push(change))();
    const later = make();
    control.add(later, "client");
    call("a", "failure", later);
    expect(later.for("a").state).toBe("open");
    expect(told).toEqual([]);
  });
});

describe("the hand on breakers", () => {
  it("opens one key, and no other", () => {
    const { call, control } = setup();
    control.forceOpen("a");
    expect(call("a")).toBe("BREAKER_OPEN");
    expect(call("b")).toBe("success");
    control.release("a");
    expect(call("a")).toBe("success");
  });

  it("opens all keys, those to come included, until it lets go", () => {
    const { call, control } = setup();
    call("a");
    control.forceOpen();
    expect([call("a"), call("new")]).toEqual(["BREAKER_OPEN", "BREAKER_OPEN"]);
    control.release();
    expect([call("a"), call("new")]).toEqual(["success", "success"]);
  });

  it("takes one key out of what holds for all", () => {
    const { call, control } = setup();
    control.forceOpen();
    control.release("a");
    control.forceClose("b");
    expect([call("a"), call("b", "failure"), call("b")]).toEqual(["success", "failure", "success"]);
    expect(call("c")).toBe("BREAKER_OPEN");
  });

  it("says a word about all over those about single keys", () => {
    const { call, control } = setup();
    control.forceOpen("a");
    control.disable("b");
    control.release();
    expect(call("a")).toBe("success");
    expect(control.snapshot()).toMatchObject([{ override: "none", overrides: {} }]);
  });

  it("makes the mode of a key, where it observes or disables", () => {
    const { control, set } = setup();
    expect(set.overridden).toBe(false);
    control.observe("a");
    control.disable("b");
    expect(set.overridden).toBe(true);
    expect(["a", "b", "c"].map((key) => set.modeOf(key))).toEqual(["observe", "off", "enforce"]);
    control.observe();
    expect(["a", "b", "c"].map((key) => set.modeOf(key))).toEqual([
      "observe",
      "observe",
      "observe",
    ]);
    control.mode = "off";
    expect(set.modeOf("a")).toBe("off");
  });

  it("holds for a key that was forgotten in the meantime", () => {
    const { call, control } = setup({ maxKeys: 2 });
    control.forceOpen("a");
    for (const key of ["a", "b", "c"]) call(key);
    expect(call("a")).toBe("BREAKER_OPEN");
  });

  it("holds for breakers that are built later", () => {
    const { call, control, make } = setup();
    control.forceOpen("a");
    control.disable();
    control.forceOpen("b");
    const later = make();
    control.add(later, "client");
    expect([call("a", "success", later), call("b", "success", later)]).toEqual([
      "success",
      "BREAKER_OPEN",
    ]);
    expect(later.modeOf("a")).toBe("off");
  });

  it("forgets, for breakers that are built later, what a word about all took back", () => {
    const { call, control, make } = setup();
    control.disable();
    control.forceOpen("a");
    control.release();
    const later = make();
    control.add(later, "client");
    expect(call("a", "success", later)).toBe("success");
  });

  it("keeps nothing of keys that were released, for breakers that are built later", () => {
    const { control, make } = setup();
    for (let key = 0; key < 100; key += 1) {
      control.forceOpen(`target-${key}`);
      control.release(`target-${key}`);
    }
    control.forceOpen("a");
    control.forceOpen();
    control.release("b");
    control.forceOpen("b");
    control.release("c");
    const later = make();
    const told: unknown[] = [];
    const override = later.override.bind(later);
    later.override = (to, key) => {
      told.push([to, key]);
      override(to, key);
    };
    control.add(later, "client");
    expect(told).toEqual([
      ["open", undefined],
      ["none", "c"],
    ]);
    control.release();
    expect(later.modeOf("c")).toBe("enforce");
    expect(later.overridden).toBe(false);
  });

  it("takes back the mode of a key, too, with a word about all", () => {
    const { control, set } = setup();
    control.disable("a");
    expect(set.modeOf("a")).toBe("off");
    control.forceOpen();
    expect(set.modeOf("a")).toBe("enforce");
  });

  it("has nothing to say to breakers that are built later, once each key was released", () => {
    const { control, make } = setup();
    control.forceOpen("a");
    control.release("a");
    const later = make();
    const told: unknown[] = [];
    later.override = (...word) => told.push(word);
    control.add(later, "client");
    expect(told).toEqual([]);
  });

  it("keeps no more keys by hand than there may be", () => {
    const { control } = setup({ maxKeys: 2 });
    control.forceOpen("a");
    control.forceOpen("b");
    control.disable("a");
    expect(() => control.forceOpen("c")).toThrow("enough for all keys set by hand (3), got 2");
    expect(() => control.forceOpen(7 as unknown as string)).toThrow("a text");
  });
});

describe("who watches breakers", () => {
  it("is told of each change with its key, until it has heard enough", () => {
    const { call, control, told } = setup();
    const heard: BreakerStateChange[] = [];
    const stop = control.onStateChange((change) => heard.push(change));
    call("a", "failure");
    call("b", "failure");
    stop();
    call("c", "failure");
    expect(heard).toMatchObject([
      { key: "a", from: "closed", to: "open", reason: "consecutive-failures" },
      { key: "b", to: "open" },
    ]);
    expect(told).toHaveLength(3);
  });

  it("is told of breakers that are built later", () => {
    const { call, control, make } = setup();
    const heard: string[] = [];
    control.onStateChange(({ key }) => heard.push(key));
    const later = make();
    control.add(later, "client");
    call("a", "failure", later);
    expect(heard).toEqual(["a"]);
  });

  it("is refused when it is no function", () => {
    const { control } = setup();
    expect(() => control.onStateChange("log" as never)).toThrow("onStateChange must be a function");
  });

  it("is told twice when it was handed in twice, and then once", () => {
    const { call, control } = setup();
    const heard: string[] = [];
    const observer = ({ key }: BreakerStateChange) => heard.push(key);
    const stop = control.onStateChange(observer);
    control.onStateChange(observer);
    call("a", "failure");
    stop();
    stop();
    call("b", "failure");
    expect(heard).toEqual(["a", "a", "b"]);
  });

  it("breaks nothing by throwing", () => {
    const { call, control, reported } = setup();
    const broken = new Error("broken");
    control.onStateChange(() => {
      throw broken;
    });
    expect(call("a", "failure")).toBe("failure");
    expect(call("a")).toBe("BREAKER_OPEN");
    expect(reported).toEqual([broken, "breaker.onStateChange"]);
  });

  it("is not told of a breaker that begins as it was set by hand", () => {
    const { call, control, told } = setup();
    control.forceOpen();
    call("a");
    expect(told).toEqual([]);
    control.release();
    expect(told).toMatchObject([{ key: "a", from: "forced-open", to: "half-open" }]);
  });
});

describe("breakers that take over what others knew", () => {
  it("know it all again: states, order and what was set by hand", () => {
    const one = setup({ maxKeys: 3 });
    for (const key of ["a", "b", "c"]) one.call(key, key === "b" ? "failure" : "success");
    one.clock.advance(1_000);
    one.control.forceOpen("c");
    one.control.disable("x");
    const told = one.control.snapshot();
    const other = setup({ maxKeys: 3 });
    other.call("b");
    other.control.restore(JSON.parse(JSON.stringify(told)));
    // To the order of its keys, in which they will be forgotten.
    expect(JSON.stringify(other.control.snapshot())).toBe(JSON.stringify(told));
    expect(other.set.for("b").check()?.retryAfterMs).toBe(4_000);
    other.control.release("c");
    expect(other.set.for("c").state).toBe("half-open");
  });

  it("follow the hand where a state says otherwise", () => {
    const { control, set } = setup();
    const forced = { state: "forced-open", forMs: 0, openedInARow: 0 };
    const byHand = { ...forced, state: "half-open", probesOut: 0, succeeded: 0 };
    control.restore([
      { override: "none", overrides: { b: "open" }, breakers: { a: forced, b: byHand } },
    ]);
    expect([set.for("a").state, set.for("b").state]).toEqual(["half-open", "forced-open"]);
  });

  it("take over nothing when something of it is nonsense", () => {
    const { call, control, make } = setup();
    control.add(make(), "client");
    call("a");
    const before = control.snapshot();
    const good = { override: "open", overrides: {}, breakers: {} };
    const bad = { ...good, breakers: { 'x"': { state: "ajar" } } };
    const path = 'policy("breaker").restore';
    for (const [snapshot, option] of [
      [undefined, path],
      [{}, path],
      [[good], path],
      [[good, null], `${path}[1]`],
      [[good, { ...good, override: "ajar" }], `${path}[1].override`],
      [[good, { ...good, overrides: { a: "ajar" } }], `${path}[1].overrides["a"]`],
      [[good, { ...good, breakers: [] }], `${path}[1].breakers`],
      [[good, bad], `${path}[1].breakers["x\\""].state`],
    ] as const) {
      expect(() => control.restore(snapshot)).toThrow(expect.objectContaining({ option }));
    }
    expect(control.snapshot()).toEqual(before);
  });

  it("refuse more keys set by hand than there may be", () => {
    const { control } = setup({ maxKeys: 1 });
    const overrides = { a: "open", b: "open" };
    expect(() => control.restore([{ override: "none", overrides, breakers: {} }])).toThrow(
      "enough for all keys set by hand (2), got 1",
    );
  });
});
