import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError, maxDurationMs } from "../../../src/core/options.js";
import { Faults, FaultsControl } from "../../../src/policies/faults/faults.js";
import {
  type FaultOptions,
  type FaultSide,
  resolveFaultOptions,
} from "../../../src/policies/faults/options.js";

/** Draws from a list, and fails the test when it is asked for more. */
function chances(...numbers: readonly number[]): () => number {
  const left = [...numbers];
  return () => {
    const next = left.shift();
    if (next === undefined) throw new Error("nothing left to draw");
    return next;
  };
}

function faultsOf(options: FaultOptions, random: () => number, errors: unknown[] = []): Faults {
  return new Faults(resolveFaultOptions(options, "client"), random, (error) => errors.push(error));
}

describe("the options of faults", () => {
  it.each<[FaultOptions, string]>([
    [{ latency: { rate: 1.1, ms: 5 } }, "faults.latency.rate"],
    [{ latency: { rate: -0.5, ms: 5 } }, "faults.latency.rate"],
    [{ latency: { ms: -1 } }, "faults.latency.ms"],
    [{ latency: { ms: [20, 10] } }, "faults.latency.ms[1]"],
    [{ latency: { ms: [-1, 10] } }, "faults.latency.ms[0]"],
    [{ latency: { ms: [10] as never } }, "faults.latency.ms"],
    [{ latency: { ms: [10, 20, 30] as never } }, "faults.latency.ms"],
    [{ latency: {} as never }, "faults.latency.ms"],
    [{ status: { code: 0 } }, "faults.status.code"],
    [{ status: { code: 17 } }, "faults.status.code"],
    [{ status: { details: 5 as never } }, "faults.status.details"],
    [{ status: { pushbackMs: -1 } }, "faults.status.pushbackMs"],
    [{ drop: { rate: Number.NaN } }, "faults.drop.rate"],
    [{ reset: { at: "never" as never } }, "faults.reset.at"],
    [{ midStream: { afterMessages: 1.5 } }, "faults.midStream.afterMessages"],
    [{ midStream: { afterBytes: 10 } }, "faults.midStream.afterBytes"],
    [{ maxActive: 0 }, "faults.maxActive"],
    [{ abort: {} } as never, "faults.abort"],
    [{ latency: { ms: 5, maxMs: 9 } } as never, "faults.latency.maxMs"],
    [{ status: { message: "x" } } as never, "faults.status.message"],
    [{ drop: { at: "request" } } as never, "faults.drop.at"],
    [{ reset: { code: 14 } } as never, "faults.reset.code"],
    [{ midStream: { at: "response" } } as never, "faults.midStream.at"],
    [{ midStream: { afterMessages: -1 } }, "faults.midStream.afterMessages"],
    [{ midStream: { code: 0 } }, "faults.midStream.code"],
    [{ status: { rate: 0.6 }, drop: { rate: 0.5 } }, "faults"],
  ])("%j makes no sense, and is refused by name", (options, option) => {
    expect(() => resolveFaultOptions(options, "client")).toThrowError(InvalidOptionError);
    expect(() => resolveFaultOptions(options, "client")).toThrowError(
      expect.objectContaining({ option }),
    );
  });

  it.each<[FaultSide, FaultOptions, RegExp]>([
    ["client", { midStream: { afterBytes: 10 } }, /its interceptors see messages/],
    ["server", { reset: {} }, /cannot break a connection/],
    ["server", { midStream: { afterBytes: 1, afterMessages: 1 } }, /where afterMessages is given/],
  ])("a %s is told why it has no %j", (side, options, rule) => {
    expect(() => resolveFaultOptions(options, side)).toThrowError(rule);
  });

  it("a status may have any code but OK", () => {
    for (const code of [Status.CANCELLED, Status.UNAUTHENTICATED]) {
      const { ends } = resolveFaultOptions({ status: { code } }, "client");
      expect(ends).toMatchObject([{ end: { kind: "status", code } }]);
    }
  });

  it("a pushback may be as long as any time", () => {
    const { ends } = resolveFaultOptions({ status: { pushbackMs: maxDurationMs } }, "client");
    expect(ends).toMatchObject([{ end: { pushbackMs: maxDurationMs } }]);
    const longer = { status: { pushbackMs: maxDurationMs + 1 } };
    expect(() => resolveFaultOptions(longer, "client")).toThrowError(InvalidOptionError);
  });

  it("the least of each is allowed", () => {
    const { latency, ends, maxActive } = resolveFaultOptions(
      {
        latency: { rate: 0, ms: [0, 0] },
        status: { rate: 0, pushbackMs: 0 },
        midStream: { rate: 0, afterMessages: 0 },
        maxActive: 1,
      },
      "client",
    );
    expect(latency?.ms(() => 0.5)).toBe(0);
    expect(ends).toMatchObject([
      { rate: 0, end: { pushbackMs: 0 } },
      { rate: 0, end: { afterMessages: 0 } },
    ]);
    expect(maxActive).toBe(1);
    const bytes = resolveFaultOptions({ midStream: { afterBytes: 0 } }, "server");
    expect(bytes.ends).toMatchObject([{ end: { afterBytes: 0 } }]);
    const fewer = () => resolveFaultOptions({ midStream: { afterBytes: -1 } }, "server");
    expect(fewer).toThrowError(expect.objectContaining({ option: "faults.midStream.afterBytes" }));
  });

  it("a fault says of itself that it is one, unless told otherwise", () => {
    const { ends } = resolveFaultOptions({ status: {}, reset: {}, midStream: {} }, "client");
    const said = { code: Status.UNAVAILABLE, details: "Fault injected" };
    expect(ends.map(({ end }) => end)).toEqual([
      { kind: "status", ...said, pushbackMs: undefined },
      { kind: "reset", at: "request" },
      { kind: "midStream", ...said, afterMessages: 1, afterBytes: Infinity },
    ]);
  });

  it("rates may add up to 1, as binary numbers do", () => {
    const options = { status: { rate: 0.1 }, drop: { rate: 0.2 }, reset: { rate: 0.7 } };
    expect(resolveFaultOptions(options, "client").ends).toHaveLength(3);
  });

  it("a fault strikes one call in a thousand unless told otherwise", () => {
    const { latency, ends, maxActive } = resolveFaultOptions(
      { latency: { ms: 5 }, status: {}, drop: {}, reset: {}, midStream: {} },
      "client",
    );
    expect([latency?.rate, ...ends.map(({ rate }) => rate)]).toEqual([
      0.001, 0.001, 0.001, 0.001, 0.001,
    ]);
    expect(maxActive).toBe(100);
  });
});

describe("the dice", () => {
  it("are two: a call is delayed, goes wrong, both or neither", () => {
    const options = { latency: { rate: 0.5, ms: 30 }, drop: { rate: 0.5 } };
    const drop = { kind: "drop" };
    expect(faultsOf(options, chances(0.4, 0.4)).draw()).toEqual({ delayMs: 30, end: drop });
    expect(faultsOf(options, chances(0.4, 0.6)).draw()).toEqual({ delayMs: 30, end: undefined });
    expect(faultsOf(options, chances(0.6, 0.4)).draw()).toEqual({ delayMs: undefined, end: drop });
    expect(faultsOf(options, chances(0.6, 0.6)).draw()).toBeUndefined();
  });

  it("give each way of going wrong its own stretch of one die", () => {
    const options = { status: { rate: 0.1 }, drop: { rate: 0.2 }, reset: { rate: 0.3 } };
    const drawn = [0, 0.09, 0.1, 0.29, 0.31, 0.59, 0.61].map(
      (chance) => faultsOf(options, chances(chance)).draw()?.end?.kind,
    );
    expect(drawn).toEqual(["status", "status", "drop", "drop", "reset", "reset", undefined]);
  });

  it("strike nobody at a rate of 0, and everybody at a rate of 1", () => {
    const highest = 1 - Number.EPSILON / 2;
    for (const [rate, scale, chance, struck] of [
      [0, 1, 0, false],
      [1, 0, 0, false],
      [1, 1, highest, true],
    ] as const) {
      for (const options of [{ latency: { rate, ms: 5 } }, { drop: { rate } }]) {
        const faults = faultsOf(options, () => chance);
        faults.scale = scale;
        expect(faults.draw() !== undefined).toBe(struck);
      }
    }
  });

  it("draw a latency from its range, or from a function", () => {
    const range = faultsOf({ latency: { rate: 1, ms: [100, 300] } }, chances(0.5, 0.25));
    expect(range.draw()?.delayMs).toBe(150);
    const own = faultsOf({ latency: { rate: 1, ms: (random) => 10 * random() } }, chances(0, 0.7));
    expect(own.draw()?.delayMs).toBe(7);
  });

  const broken = (): number => {
    throw new Error("no length");
  };

  it.each<[string, () => number]>([
    ["throws", broken],
    ["answers NaN", () => Number.NaN],
    ["answers less than nothing", () => -1],
  ])("a latency function that %s delays nobody and is reported", (_what, ms) => {
    const errors: unknown[] = [];
    expect(faultsOf({ latency: { rate: 1, ms } }, () => 0, errors).draw()).toBeUndefined();
    expect(errors).toHaveLength(1);
  });
});

describe("active faults", () => {
  const options = { drop: { rate: 1 }, maxActive: 2 };
  const drop = { delayMs: undefined, end: { kind: "drop" } };

  it("are bounded, and spare everybody else", () => {
    const faults = faultsOf(options, () => 0);
    const [first, second] = [() => {}, () => {}];
    faults.hold(first);
    expect(faults.draw()).toEqual(drop);
    faults.hold(second);
    expect(faults.draw()).toBeUndefined();
    expect(faults.snapshot()).toMatchObject({ active: 2, spared: 1 });
    faults.release(first);
    faults.release(first);
    expect(faults.active).toBe(1);
    expect(faults.draw()).toEqual(drop);
  });

  it("are ended when the faults are closed, and none follows", () => {
    const faults = faultsOf(options, () => 0);
    const ended: string[] = [];
    faults.hold(() => ended.push("held"));
    faults.close();
    expect(ended).toEqual(["held"]);
    expect(faults.active).toBe(0);
    expect(faults.draw()).toBeUndefined();
  });
});

describe("the control of faults", () => {
  it("turns all rates down, those of later clients too, and never up", () => {
    const control = new FaultsControl();
    const early = faultsOf({ drop: { rate: 0.8 } }, () => 0.3);
    const late = faultsOf({ drop: { rate: 0.8 } }, () => 0.3);
    control.add(early, "client");
    expect(control.scale).toBe(1);
    expect(early.draw()?.end?.kind).toBe("drop");
    control.scale = 0.25;
    control.add(late, "client");
    expect([early.draw(), late.draw()]).toEqual([undefined, undefined]);
    control.scale = 1;
    expect([early.draw(), late.draw()].map((fault) => fault?.end?.kind)).toEqual(["drop", "drop"]);
    for (const scale of [1.5, -0.5, Number.NaN]) {
      expect(() => {
        control.scale = scale;
      }).toThrowError(expect.objectContaining({ option: 'policy("faults").scale' }));
      expect(() => {
        early.scale = scale;
      }).toThrowError(expect.objectContaining({ option: "faults.scale" }));
    }
    expect(control.scale).toBe(1);
    expect(control.snapshot()).toMatchObject([{ scale: 1 }, { scale: 1 }]);
  });

  it("sets the mode of all", () => {
    const control = new FaultsControl();
    const faults = faultsOf({ drop: {} }, () => 0);
    control.add(faults, "client");
    control.mode = "observe";
    expect(faults.mode).toBe("observe");
  });
});
