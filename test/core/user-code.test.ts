import { runInNewContext } from "node:vm";
import { describe, expect, it, vi } from "vitest";
import { type Clock, systemClock } from "../../src/core/clock.js";
import {
  adopt,
  answerOf,
  ask,
  asking,
  callSafely,
  finite,
  isPromiseLike,
  keyText,
  notify,
  reportSafely,
  share,
  startWork,
  userClock,
  userRandom,
  warn,
  whenKnown,
  yesNoOrNothing,
  yesOrNo,
} from "../../src/core/user-code.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";

function listener() {
  const told: string[] = [];
  const report = (error: unknown, where: string) => {
    told.push(`${where}: ${error instanceof Error ? error.message : String(error)}`);
  };
  return { told, report };
}

const later = () => new Promise<void>((resolve) => setImmediate(resolve));

const fail: () => never = () => {
  throw new Error("broken");
};
const reject: () => unknown = async () => fail();

/** A promise of another realm. */
const foreign = <T>(code: string): T => runInNewContext(code);

/** Somebody's thenable. */
const thenable = <T>(then: (onValue: (value: T) => void) => unknown, on: object = {}) =>
  Object.defineProperties(on, { [["th", "en"].join("")]: { value: then } }) as PromiseLike<T>;

/** Its `then` returns nothing. */
const silentThenable = <T>(value: T): PromiseLike<T> =>
  thenable((onValue) => {
    queueMicrotask(() => onValue(value));
  });

const revoked = () => {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
};

describe("an observer of the user's", () => {
  it.each([
    ["throws", fail],
    ["rejects", reject],
    ["rejects in another realm", () => foreign("Promise.reject('broken')")],
    ["gives a thenable that throws", () => thenable(fail)],
  ])("that %s is reported once, and breaks nobody", async (_how, observer) => {
    const { told, report } = listener();
    expect(() => notify(observer, 1, report, "onDecision")).not.toThrow();
    await later();
    expect(told).toEqual(["onDecision: broken"]);
  });

  it("that is not there is told nothing, and nothing is reported", () => {
    const { told, report } = listener();
    notify(undefined, 1, report, "onDecision");
    expect(told).toEqual([]);
  });

  it("may answer with anything, looked at or not", () => {
    const { told, report } = listener();
    for (const answer of [undefined, 1, Symbol("x"), () => {}, null]) {
      notify(() => answer, 1, report, "onDecision");
      expect(callSafely(() => answer, report, "recorder")).toBe(true);
    }
    expect(told).toEqual([]);
    // It throws when it is asked for its `then`, and that alone is told.
    notify(revoked, 1, report, "onDecision");
    expect(callSafely(revoked, report, "recorder")).toBe(false);
    expect(told).toEqual([
      expect.stringMatching(/^onDecision: .*revoked/),
      expect.stringMatching(/^recorder: .*revoked/),
    ]);
  });

  it("has no way to break what it is told through: its reporter may throw or reject too", async () => {
    const told: string[] = [];
    const failing = (broken: () => unknown) => (error: unknown, where: string) => {
      told.push(`${where}: ${String(error)}`);
      return broken();
    };
    for (const report of [failing(fail), failing(reject)]) {
      expect(() => reportSafely(report, new Error("x"), "here")).not.toThrow();
      expect(() => notify(reject, 1, report, "there")).not.toThrow();
    }
    await later();
    const once = [
      "here: Error: x",
      "here: Error: x",
      "there: Error: broken",
      "there: Error: broken",
    ];
    expect(told).toEqual(once);
  });
});

describe("a question that wants its answer at once", () => {
  it.each([
    ["throws", fail],
    ["is async", async () => true],
    ["is async and rejects", reject],
    ["answers with a promise of another realm", () => foreign("Promise.resolve(true)")],
    ["answers with a thenable", () => silentThenable(true)],
    ["answers with something that cannot be looked at", revoked],
    ["answers with something else", () => "yes"],
  ])("has no answer, and is reported once, when the function %s", async (_how, question) => {
    const { told, report } = listener();
    expect(ask(question, yesOrNo, "none", report, "when")).toBe("none");
    expect(asking(question, yesOrNo, () => "none", report, "when")(1)).toBe("none");
    await later();
    expect(told).toHaveLength(2);
  });

  it("takes a predicate's word, and nothing that is merely truthy", () => {
    expect([true, false, undefined, null, 0, ""].map(yesOrNo)).toEqual([
      true,
      false,
      false,
      false,
      false,
      false,
    ]);
    for (const answer of ["true", 1, {}, []]) expect(() => yesOrNo(answer)).toThrow(TypeError);
    expect([true, false, undefined, null].map(yesNoOrNothing)).toEqual([
      true,
      false,
      undefined,
      undefined,
    ]);
    for (const answer of ["false", 0, {}]) expect(() => yesNoOrNothing(answer)).toThrow(TypeError);
  });

  it("takes numbers that are some", () => {
    expect([share(0.5), share(-3), share(8), finite(-2)]).toEqual([0.5, 0, 1, -2]);
    for (const answer of [Number.NaN, Number.POSITIVE_INFINITY, "1", null, 5n, {}]) {
      expect(() => finite(answer)).toThrow(TypeError);
    }
  });

  it("takes keys that are told apart by their text", () => {
    expect(["a", "", 5, 7n, true, undefined, null].map(keyText)).toEqual([
      "a",
      "",
      "5",
      "7",
      "true",
      undefined,
      undefined,
    ]);
    for (const answer of [{}, [], Symbol("a"), () => "a", new Date(0)]) {
      expect(() => keyText(answer)).toThrow(TypeError);
    }
  });
});

describe("a question whose answer may be promised", () => {
  it.each<[string, () => unknown]>([
    ["at once", () => 5],
    ["by a promise", async () => 5],
    ["by a promise of another realm", () => foreign("Promise.resolve(5)")],
    ["by a thenable whose then returns nothing", () => silentThenable(5)],
    [
      "by a promise of a class of its own",
      () => new (class extends Promise<number> {})((r) => r(5)),
    ],
  ])("is answered %s", async (_how, question) => {
    const failed = vi.fn();
    expect(await new Promise((resolve) => whenKnown(question, resolve, failed))).toBe(5);
    expect(await answerOf(question)).toBe(5);
    expect(await startWork(question, fail)).toBe(5);
    expect(failed).not.toHaveBeenCalled();
  });

  it.each<[string, () => unknown]>([
    ["throws", fail],
    ["rejects", reject],
    ["gives a thenable that throws", () => thenable(fail)],
  ])("fails when the function %s", async (_how, question) => {
    const error = await new Promise((_resolve, failed) =>
      whenKnown(question, _resolve, failed),
    ).catch((thrown: unknown) => thrown);
    expect(error).toEqual(new Error("broken"));
  });

  it("fails when the answer cannot be asked whether it is a promise", async () => {
    expect(() => answerOf(revoked)).toThrow(TypeError);
    expect(() => startWork(revoked, fail)).toThrow(TypeError);
    const failed = vi.fn();
    whenKnown(revoked, fail, failed);
    expect(failed).toHaveBeenCalledWith(expect.any(TypeError));
  });

  it("asks as await does: an object that will not say what it has is a value", () => {
    const strict = new Proxy({}, { has: fail });
    expect(answerOf(() => strict)).toBe(strict);
    expect(isPromiseLike(strict)).toBe(false);
  });

  it("knows a promise whose then was replaced for one of somebody else's", async () => {
    const odd = () => thenable<number>((on) => on(6), Promise.resolve(5));
    expect(await answerOf(odd)).toBe(6);
  });

  it("uses a promise of Node's as it is, and adopts one of a class of the user's", async () => {
    class Own<T> extends Promise<T> {}
    const [plain, own] = [Promise.resolve(5), Own.resolve(6)];
    expect(answerOf(() => plain)).toBe(plain);
    const adopted = answerOf(() => own);
    expect(adopted).not.toBe(own);
    expect(adopted).toBeInstanceOf(Promise);
    expect(await adopted).toBe(6);
  });

  it("hands the value on, once, and no promise of it", async () => {
    const values: unknown[] = [];
    whenKnown(
      () => Promise.resolve(5),
      (value) => values.push(value),
      fail,
    );
    whenKnown(
      () => 6,
      (value) => values.push(value),
      fail,
    );
    await later();
    expect(values).toEqual([6, 5]);
  });

  it("gives work its signal, where it asks for one", () => {
    const { signal } = new AbortController();
    expect(
      startWork(
        (own) => own,
        () => signal,
      ),
    ).toBe(signal);
    expect(startWork(() => "none", fail)).toBe("none");
  });

  it("adopts a promise that answers twice once", async () => {
    expect(await adopt(thenable<number>((on) => [on(1), on(2)]))).toBe(1);
  });
});

describe("the reporter of those who handed none in", () => {
  it.each([
    ["an error", new Error("broken")],
    ["a text", "broken"],
    ["an object without any text", Object.create(null)],
    ["a revoked proxy", revoked()],
    ["an error whose stack throws", Object.defineProperty(new Error("x"), "stack", { get: fail })],
  ])("warns of %s, and throws nothing", (_what, error) => {
    const warned = vi.spyOn(process, "emitWarning").mockImplementation(() => {});
    expect(() => warn(error, "here")).not.toThrow();
    expect(warned).toHaveBeenCalledWith(expect.stringMatching(/^here threw: ./), {
      type: "GrpcWeirWarning",
    });
    warned.mockRestore();
  });
});

describe("what the default reporter says", () => {
  const broken = new Error("broken");
  const bare = Object.assign(new Error("bare"), { stack: undefined });

  it.each([
    ["the stack of an error", broken, `here threw: ${broken.stack}`],
    ["the message of an error without a stack", bare, "here threw: bare"],
    ["the text of anything else", "broken", "here threw: broken"],
    [
      "as much of what has no text",
      Object.create(null),
      "here threw: something that cannot be shown",
    ],
  ])("is %s", (_what, error, text) => {
    const warned = vi.spyOn(process, "emitWarning").mockImplementation(() => {});
    warn(error, "here");
    expect(warned).toHaveBeenCalledWith(text, { type: "GrpcWeirWarning" });
    warned.mockRestore();
  });
});

describe("a clock of the user's", () => {
  const clockWith = (parts: Partial<Clock>) => {
    const { told, report } = listener();
    const virtual = new VirtualClock();
    const base: Clock = {
      now: () => virtual.now(),
      wallNow: () => virtual.wallNow(),
      schedule: (...args) => virtual.schedule(...args),
      afterPoll: (task) => virtual.afterPoll(task),
    };
    return { clock: userClock({ ...base, ...parts }, report), virtual, told };
  };

  it("is made safe once, so that what is shared by clock stays shared", () => {
    const { report } = listener();
    const own = new VirtualClock();
    const safe = userClock(own, report);
    expect(userClock(own, report)).toBe(safe);
    expect(userClock(safe, report)).toBe(safe);
    expect(userClock(new VirtualClock(), report)).not.toBe(safe);
    expect(userClock(systemClock, report)).toBe(systemClock);
  });

  it.each([
    ["throws", fail],
    ["is NaN", () => Number.NaN],
    ["is a promise", async () => 5],
  ])("stands still while a reading %s, which is reported once", (_how, broken) => {
    let now: () => unknown = () => 7;
    const { clock, told } = clockWith({ now: () => now() as number });
    expect(clock.now()).toBe(7);
    now = broken;
    expect([clock.now(), clock.now()]).toEqual([7, 7]);
    now = () => 9;
    expect(clock.now()).toBe(9);
    expect(told).toHaveLength(1);
  });

  it("begins at 0 when its first reading fails", () => {
    const { clock } = clockWith({ now: fail });
    expect(clock.now()).toBe(0);
  });

  it("is left for the system's where it cannot schedule", async () => {
    const { clock, told } = clockWith({ schedule: fail });
    await new Promise<void>((resolve) => clock.schedule(1, resolve));
    expect(told).toEqual(["clock: broken"]);
  });

  it("runs a task once, and never inside the call that schedules it", async () => {
    const { clock } = clockWith({
      schedule: (_ms, task) => {
        task();
        task();
        return () => {};
      },
    });
    let runs = 0;
    clock.schedule(1, () => {
      runs += 1;
    });
    expect(runs).toBe(0);
    await later();
    expect(runs).toBe(1);
  });

  it("runs no task that was cancelled, though its cancelling fails", () => {
    const { clock, virtual, told } = clockWith({
      afterPoll: (task) => {
        virtual.schedule(1, task);
        return fail;
      },
    });
    const task = vi.fn();
    const cancel = clock.afterPoll(task);
    expect(cancel).not.toThrow();
    virtual.advance(5);
    expect(task).not.toHaveBeenCalled();
    expect(told).toEqual(["clock: broken"]);
  });
});

describe("chance of the user's", () => {
  it("that is out of its range is brought to the end that is nearer", () => {
    const { report } = listener();
    const drawn = [-0.5, -1e-9, 0, 0.25, 1, 7].map((draw) => userRandom(() => draw, report)());
    expect(drawn).toEqual([0, 0, 0, 0.25, 1 - 2 ** -53, 1 - 2 ** -53]);
  });

  it.each([
    ["1", () => 1],
    ["NaN", () => Number.NaN],
    ["below 0", () => -3],
    ["a text", () => "0.5" as unknown as number],
    ["a promise", (async () => 0.5) as unknown as () => number],
    ["an error", fail],
  ])("is from 0 to below 1 where it draws %s, which is reported once", (_what, draw) => {
    const { told, report } = listener();
    const random = userRandom(draw, report);
    for (const drawn of [random(), random(), random()]) {
      expect(drawn).toBeGreaterThanOrEqual(0);
      expect(drawn).toBeLessThan(1);
    }
    expect(told).toHaveLength(1);
  });
});
