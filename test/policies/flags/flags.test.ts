import { describe, expect, it } from "vitest";
import type { DecisionEvent } from "../../../src/core/decision.js";
import { Flags } from "../../../src/policies/flags/flags.js";
import {
  type FlagSource,
  type FlagValue,
  staticFlags,
} from "../../../src/policies/flags/source.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";

function watching(source: FlagSource) {
  const clock = new VirtualClock();
  const errors: string[] = [];
  const decisions: DecisionEvent[] = [];
  const flags = new Flags(source, {
    clock,
    report: (error, where) => void errors.push(`${where}: ${String(error)}`),
    onDecision: (decision) => void decisions.push(decision),
  });
  return { clock, errors, decisions, flags };
}

/** A source that does not list its flags, and says what a test wants. */
function source(answer: (name: string) => unknown) {
  const listeners: (() => void)[] = [];
  const asked: string[] = [];
  const made: FlagSource & { changed(): void; readonly asked: string[] } = {
    name: "own",
    asked,
    flag: (name) => {
      asked.push(name);
      return answer(name) as FlagValue | undefined;
    },
    onChange: (listener) => {
      listeners.push(listener);
      return () => void listeners.splice(listeners.indexOf(listener), 1);
    },
    changed: () => {
      for (const listener of listeners) listener();
    },
  };
  return made;
}

describe("a method", () => {
  it.each(["kill", "kill.shop.v1.Orders", "kill.shop.v1.Orders/Place"])(
    "is switched off by %s, and on again without it",
    (flag) => {
      const set = staticFlags();
      const { flags } = watching(set);
      const refused = () => flags.refusalOf("/shop.v1.Orders/Place");
      expect(refused()).toBeUndefined();
      set.set(flag, true);
      expect(refused()).toMatchObject({
        reason: "KILLED",
        detail: `by the flag ${flag} (static)`,
      });
      expect(flags.killing).toBe(true);
      set.unset(flag);
      expect(refused()).toBeUndefined();
      expect(flags.killing).toBe(false);
      set.set(flag, false);
      expect(refused()).toBeUndefined();
      expect(flags.snapshot()).toMatchObject({ killed: 1 });
    },
  );

  it("is switched off from the start where the flag is set already", () => {
    const { flags } = watching(staticFlags({ "kill.shop.v1.Orders": true }));
    expect(flags.refusalOf("/shop.v1.Orders/Place")).toMatchObject({ reason: "KILLED" });
    expect(flags.refusalOf("/shop.v1.Stock/Get")).toBeUndefined();
  });

  it("stays off while one of several flags is set, and is said to be off by the most general one", () => {
    const set = staticFlags({ "kill.a.B/C": true, "kill.a.B": true });
    const { flags } = watching(set);
    expect(flags.refusalOf("/a.B/C")?.detail).toMatch("kill.a.B ");
    set.unset("kill.a.B");
    expect(flags.refusalOf("/a.B/C")?.detail).toMatch("kill.a.B/C ");
  });

  it("is looked up once it was called, without a question to the source", () => {
    const own = source(() => undefined);
    const { flags } = watching(own);
    flags.refusalOf("/a.B/C");
    expect(own.asked).toContain("kill.a.B/C");
    own.asked.length = 0;
    for (let n = 0; n < 100; n += 1) flags.refusalOf("/a.B/C");
    expect(own.asked).toEqual([]);
  });

  it("is remembered among 1,000, so that many methods take no memory for ever", () => {
    let killed = false;
    const own = source((name) => killed && name === "kill.a.B/M7");
    const { flags } = watching(own);
    for (let n = 0; n < 5_000; n += 1) flags.refusalOf(`/a.B/M${n}`);
    own.asked.length = 0;
    killed = true;
    own.changed();
    expect(own.asked.length).toBeLessThan(5_000);
    // It was forgotten, so it is asked for again.
    expect(flags.refusalOf("/a.B/M7")).toMatchObject({ reason: "KILLED" });
  });
});

describe("optional work", () => {
  it("is left out while its flag is true", () => {
    const set = staticFlags();
    const { flags } = watching(set);
    expect(flags.skipping("pictures")).toBeUndefined();
    set.set("skip.pictures", true);
    expect(flags.skipping("pictures")).toBe("skip.pictures");
    expect(flags.skipping("advice")).toBeUndefined();
    set.set("skip.pictures", false);
    expect(flags.skipping("pictures")).toBeUndefined();
    expect(flags.snapshot()).toMatchObject({ skipped: 1 });
  });
});

describe("the mode of a policy", () => {
  it("is that of its own flag, else that of the flag for all, else none", () => {
    const set = staticFlags({ "mode.breaker": "observe", "mode.breaker.catalog": "off" });
    const { flags } = watching(set);
    expect(flags.mode("breaker", "catalog")).toBe("off");
    expect(flags.mode("breaker", "client")).toBe("observe");
    expect(flags.mode("breaker")).toBe("observe");
    expect(flags.mode("retry", "catalog")).toBeUndefined();
  });

  it("is asked for again after each change", () => {
    const set = staticFlags();
    const { flags } = watching(set);
    let applied = 0;
    flags.followModes(() => {
      applied += 1;
    });
    expect(applied).toBe(1);
    set.set("mode.retry", "off");
    expect(applied).toBe(2);
    flags.close();
    set.set("mode.retry", "enforce");
    expect(applied).toBe(2);
  });
});

describe("a change of a flag", () => {
  it("is one decision, with the source, the flag, what it was and what it is", () => {
    const set = staticFlags();
    const { clock, decisions } = watching(set);
    set.set("kill.a.B", true);
    set.set("kill.a.B", false);
    set.set("kill.a.B", true);
    set.unset("kill.a.B");
    const common = {
      policy: "flags",
      verdict: "switch",
      reason: "FLAG_CHANGED",
      enforced: true,
      side: "process",
      method: "",
      target: "",
      atMs: clock.now(),
      epochMs: clock.wallNow(),
    };
    expect(decisions).toEqual([
      { ...common, detail: "static: kill.a.B: not set → true" },
      { ...common, detail: "static: kill.a.B: true → false" },
      { ...common, detail: "static: kill.a.B: false → true" },
      { ...common, detail: "static: kill.a.B: true → not set" },
    ]);
  });

  it("between not set and false is none, because nothing changes by it", () => {
    const set = staticFlags({ kill: false });
    const { decisions, flags } = watching(set);
    set.unset("kill");
    set.set("skip.pictures", false);
    flags.skipping("pictures");
    expect(decisions).toEqual([]);
    expect(flags.snapshot().changes).toEqual([]);
  });

  it("is in the snapshot, the last one first, and no more than 50 of them", () => {
    const set = staticFlags();
    const { flags } = watching(set);
    for (let n = 0; n < 60; n += 1) set.set(`skip.work${n}`, true);
    const { changes, values, source: name, away } = flags.snapshot();
    expect(changes).toHaveLength(50);
    expect(changes[0]).toMatchObject({ flag: "skip.work59", from: undefined, to: true });
    expect(Object.keys(values)).toHaveLength(60);
    expect({ name, away }).toEqual({ name: "static", away: false });
  });

  it("names who made it, where the source knows", () => {
    const own = { ...source((name) => name === "kill"), setBy: () => "ann@ops-1" };
    const { decisions, flags } = watching(own);
    expect(decisions.map(({ detail }) => detail)).toEqual([
      "own: kill: not set → true, by ann@ops-1",
    ]);
    expect(flags.snapshot().changes).toMatchObject([{ flag: "kill", setBy: "ann@ops-1" }]);
  });

  it("is told when it has taken effect, also to an observer that asks at once", () => {
    const set = staticFlags();
    const seen: (string | undefined)[] = [];
    const clock = new VirtualClock();
    const flags: Flags = new Flags(set, {
      clock,
      report: () => {},
      onDecision: () => void seen.push(flags.refusalOf("/a.B/C")?.reason),
    });
    flags.refusalOf("/a.B/C");
    set.set("kill", true);
    expect(seen).toEqual(["KILLED"]);
  });

  it("of a flag that was not needed before is told when it is needed, from a source that does not list its flags", () => {
    const { decisions, flags } = watching(source((name) => name === "kill.a.B"));
    expect(decisions).toEqual([]);
    flags.refusalOf("/a.B/C");
    expect(decisions.map(({ detail }) => detail)).toEqual(["own: kill.a.B: not set → true"]);
    flags.refusalOf("/a.B/D");
    expect(decisions).toHaveLength(1);
  });

  it("is not told any more once the weir is closed, and what is off stays off", () => {
    const set = staticFlags({ kill: true });
    const { decisions, flags } = watching(set);
    flags.refusalOf("/a.B/C");
    flags.close();
    set.unset("kill");
    expect(decisions).toHaveLength(1);
    expect(flags.refusalOf("/a.B/C")).toMatchObject({ reason: "KILLED" });
  });
});

describe("a source that is away", () => {
  it("is told once, and once when it is back; its values hold", () => {
    let away = false;
    const own = source((name) => name === "kill");
    const { decisions, flags } = watching({
      ...own,
      get away() {
        return away;
      },
    });
    decisions.length = 0;
    away = true;
    own.changed();
    own.changed();
    expect(flags.snapshot().away).toBe(true);
    expect(flags.refusalOf("/a.B/C")).toMatchObject({ reason: "KILLED" });
    away = false;
    own.changed();
    expect(decisions.map(({ reason, detail }) => [reason, detail])).toEqual([
      ["STORE_AWAY", "own: cannot be reached, so the last known values hold"],
      [undefined, "own: can be reached again"],
    ]);
  });
});

describe("a flag never fails a call", () => {
  it.each(["yes", 1, "", {}, Number.NaN])(
    "a kill switch that is set to %j counts as not set, and that is reported once",
    (value) => {
      let given: unknown = value;
      const own = source((name) => (name === "kill.a.B" ? given : undefined));
      const { errors, flags } = watching(own);
      for (let n = 0; n < 3; n += 1) {
        expect(flags.refusalOf("/a.B/C")).toBeUndefined();
        expect(flags.refusalOf("/a.B/D")).toBeUndefined();
        own.changed();
      }
      if (!Number.isNaN(value)) expect(errors).toHaveLength(1);
      expect(errors[0]).toMatch(/flags \(own\): Error: The flag kill\.a\.B must be true/);
      given = true;
      own.changed();
      expect(flags.refusalOf("/a.B/C")).toMatchObject({ reason: "KILLED" });
      given = value;
      own.changed();
      expect(flags.refusalOf("/a.B/C")).toBeUndefined();
      expect(errors.length).toBeGreaterThan(1);
    },
  );

  it.each([true, "on", "ENFORCE", ""])("a mode that is set to %j counts as not set", (value) => {
    const { errors, flags } = watching(staticFlags({ "mode.breaker": value }));
    expect(flags.mode("breaker")).toBeUndefined();
    expect(flags.mode("breaker", "client")).toBeUndefined();
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatch(/mode\.breaker must be one of enforce, observe, off/);
  });

  it("while a source throws, or answers with a promise, its last values hold, and that is reported once", () => {
    let answer: () => unknown = () => true;
    const own = source((name) => (name === "kill.a.B" ? answer() : undefined));
    const { errors, flags } = watching(own);
    flags.refusalOf("/a.B/C");
    for (const wrong of [
      () => {
        throw new Error("no network");
      },
      () => Promise.reject(new Error("later")),
    ]) {
      answer = wrong;
      own.changed();
      own.changed();
      expect(flags.refusalOf("/a.B/C")).toMatchObject({ reason: "KILLED" });
    }
    expect(errors).toHaveLength(1);
    answer = () => undefined;
    own.changed();
    expect(flags.refusalOf("/a.B/C")).toBeUndefined();
  });

  it.each<[string, Partial<FlagSource>]>([
    [
      "onChange throws",
      {
        onChange: () => {
          throw new Error("no");
        },
      },
    ],
    ["onChange gives no way to stop", { onChange: () => undefined as never }],
    [
      "names throws",
      {
        names: () => {
          throw new Error("no");
        },
      },
    ],
    ["names is no list", { names: () => 7 as never }],
    [
      "setBy throws",
      {
        setBy: () => {
          throw new Error("no");
        },
      },
    ],
    ["away is no yes or no", { away: "perhaps" as never }],
  ])("where %s, the flags are read all the same, and it is reported", (_what, broken) => {
    const own = source((name) => name === "kill");
    const { errors, flags } = watching({ ...own, ...broken });
    expect(flags.refusalOf("/a.B/C")).toMatchObject({ reason: "KILLED" });
    expect(errors.length).toBeGreaterThan(0);
    flags.close();
  });

  it("a source that says yes to every name fills no memory", () => {
    const { flags } = watching(source(() => true));
    for (let n = 0; n < 3_000; n += 1) flags.skipping(`work${n}`);
    expect(Object.keys(flags.snapshot().values).length).toBeLessThanOrEqual(1_000);
  });
});
