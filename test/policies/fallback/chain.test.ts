import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import type { StatusOrigin } from "../../../src/core/status.js";
import {
  type FallbackReply,
  fallbackHelps,
  fallbackReserveMs,
  resolveFallbackLimits,
} from "../../../src/policies/fallback/chain.js";
import { candidate, FallbackScene } from "./fallback-scene.js";

const answer = (text: string): FallbackReply<string> => ({ kind: "answer", answer: text });
const none: FallbackReply<string> = { kind: "none" };
const error: FallbackReply<string> = { kind: "error", error: new Error("broken") };

describe("a chain of fallbacks", () => {
  it("asks its providers in their order, until one answers", () => {
    const [first, second, third] = [candidate("a"), candidate("b"), candidate("c")];
    const scene = new FallbackScene([first, second, third]);
    scene.run.start();
    expect(scene.names).toEqual(["a"]);
    scene.last.told(none);
    expect(scene.asked[0]?.ownCancel).toBe(0);
    expect(scene.names).toEqual(["a", "b"]);
    scene.last.told(answer("from b"));
    expect(scene.names).toEqual(["a", "b"]);
    expect(scene.answers).toMatchObject([{ answer: "from b", by: "b" }]);
    expect(first.load.snapshot()).toMatchObject({ running: 0, none: 1, answered: 0 });
    expect(second.load.snapshot()).toMatchObject({ running: 1, answered: 1 });
    expect(scene.clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("leaves the permit of an answer to who gives it", () => {
    const only = candidate("a", { atOnce: answer("now") });
    const scene = new FallbackScene([only]);
    scene.run.start();
    expect(only.load.snapshot().running).toBe(1);
    scene.run.abort();
    expect(scene.last.ownCancel).toBe(0);
    expect(only.load.snapshot().running).toBe(1);
    scene.answers[0]?.permit.settle("success");
    scene.answers[0]?.permit.settle("failure");
    expect(only.load.snapshot().running).toBe(0);
  });

  it("passes over those who are not for this failure, and says nothing of them", () => {
    const scene = new FallbackScene([candidate("a", { accepts: false }), candidate("b")]);
    scene.run.start();
    expect(scene.names).toEqual(["b"]);
    const nobody = new FallbackScene([candidate("a", { accepts: false })]);
    nobody.run.start();
    expect(nobody.unanswered).toEqual([""]);
  });

  it("goes on behind one that says at once that it has nothing, or throws", () => {
    const scene = new FallbackScene([
      candidate("a", { atOnce: none }),
      candidate("b", { atOnce: error }),
      candidate("c", { atOnce: answer("at last") }),
    ]);
    scene.run.start();
    expect(scene.answers).toMatchObject([{ answer: "at last", by: "c" }]);
    expect(scene.errors).toEqual([new Error("broken")]);
  });

  it("gives each its own time, and then cancels it and asks the next", () => {
    const slow = candidate("a", { timeoutMs: 100 });
    const scene = new FallbackScene([slow, candidate("b", { timeoutMs: 50 })]);
    scene.run.start();
    const [first] = scene.asked;
    scene.clock.advance(99);
    expect(first?.ownCancel).toBe(0);
    scene.clock.advance(1);
    expect(first?.ownCancel).toBe(1);
    expect(slow.load.snapshot()).toMatchObject({ running: 0, timedOut: 1 });
    expect(scene.asked.map(({ atMs, dueMs }) => [atMs, dueMs])).toEqual([
      [0, 100],
      [100, 150],
    ]);
    scene.clock.advance(50);
    expect(scene.unanswered).toEqual(["a: no answer within 100 ms, b: no answer within 50 ms"]);
    expect(scene.clock.pending.refs).toBe(0);
  });

  it("drops what comes late", () => {
    const slow = candidate("a");
    const scene = new FallbackScene([slow, candidate("b")]);
    scene.run.start();
    const [first] = scene.asked;
    scene.clock.advance(100);
    first?.told(answer("too late"));
    first?.told(none);
    expect(scene.answers).toEqual([]);
    expect(scene.names).toEqual(["a", "b"]);
    expect(slow.load.snapshot()).toMatchObject({ running: 0, answered: 0, none: 0 });
  });

  it("gives none more time than the call has left, and asks nobody after that", () => {
    const scene = new FallbackScene([candidate("a"), candidate("b"), candidate("c")], 150);
    scene.run.start();
    scene.clock.advance(100);
    expect(scene.last).toMatchObject({ name: "b", atMs: 100, dueMs: 150 });
    scene.clock.advance(50);
    expect(scene.names).toEqual(["a", "b"]);
    expect(scene.unanswered).toEqual([
      "a: no answer within 100 ms, b: no answer within 50 ms, c: no time left",
    ]);
  });

  it.each([0, -5])("asks nobody with %i ms left", (withinMs) => {
    const scene = new FallbackScene([candidate("a", { atOnce: answer("x") })], withinMs);
    scene.run.start();
    expect(scene.names).toEqual([]);
    expect(scene.unanswered).toEqual(["a: no time left"]);
  });

  it("asks with a millisecond left", () => {
    const scene = new FallbackScene([candidate("a")], 1);
    scene.run.start();
    expect(scene.last).toMatchObject({ name: "a", dueMs: 1 });
  });

  it("tells the result of each when none has an answer", () => {
    const busy = candidate("b", { maxConcurrent: 1 });
    new FallbackScene([busy]).run.start();
    const scene = new FallbackScene([
      candidate("a", { atOnce: error }),
      busy,
      candidate("c", { atOnce: none }),
    ]);
    scene.run.start();
    expect(scene.unanswered).toEqual(["a: failed, b: busy, c: nothing"]);
  });

  it("passes over a provider that works for as many calls as it may", () => {
    const shared = candidate("a", { maxConcurrent: 1 });
    const first = new FallbackScene([shared]);
    first.run.start();
    const second = new FallbackScene([shared, candidate("b", { atOnce: answer("b") })]);
    second.run.start();
    expect(second.answers).toMatchObject([{ by: "b" }]);
    expect(shared.load.snapshot()).toMatchObject({ running: 1, busy: 1 });
    first.last.told(none);
    expect(first.unanswered).toEqual(["a: nothing"]);
    const third = new FallbackScene([shared]);
    third.run.start();
    expect(third.names).toEqual(["a"]);
  });

  it("calls the provider at work off when the call ends, once, and gives its place back", () => {
    const only = candidate("a");
    const scene = new FallbackScene([only, candidate("b")]);
    scene.run.start();
    scene.run.abort();
    scene.run.abort();
    scene.last.told(answer("nobody wants it"));
    scene.clock.advance(10_000);
    expect(scene.last).toMatchObject({ name: "a", ownCancel: 1 });
    expect(only.load.snapshot()).toMatchObject({ running: 0, answered: 0, timedOut: 0 });
    expect([scene.answers, scene.unanswered]).toEqual([[], []]);
    expect(scene.clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it.each([true, false])(
    "asks nobody if the call ends while it finds out whether a provider is for it (%s)",
    (accepts) => {
      const scene = new FallbackScene([candidate("a", { accepts })]);
      scene.duringAccept = () => scene.run.abort();
      scene.run.start();
      expect([scene.names, scene.unanswered]).toEqual([[], []]);
    },
  );

  it("calls off a provider whose call ended while it was being asked", () => {
    const only = candidate("a");
    const scene = new FallbackScene([only, candidate("b")]);
    scene.duringAsk = () => scene.run.abort();
    scene.run.start();
    expect(scene.last).toMatchObject({ name: "a", ownCancel: 1 });
    expect(only.load.snapshot().running).toBe(0);
    expect(scene.unanswered).toEqual([]);
    expect(scene.clock.pending.refs).toBe(0);
  });
});

it("an answer at once, which ends the call, is not cancelled", () => {
  const scene = new FallbackScene([candidate("a", { atOnce: answer("now") })]);
  scene.onAnswer = () => scene.run.abort();
  scene.run.start();
  expect(scene.last.ownCancel).toBe(0);
});

describe("what is kept for the fallback", () => {
  const chain = [{ timeoutMs: 100 }, { timeoutMs: 200 }];

  it.each([
    [undefined, 10_000, 300],
    [undefined, 400, 100],
    [500, 10_000, 500],
    [500, 600, 300],
    [0, 600, 0],
    [500, Number.POSITIVE_INFINITY, 0],
    [undefined, Number.POSITIVE_INFINITY, 0],
    [500, 1, 0.5],
    [500, 0, 0],
    [500, -1, 0],
    [500, -0.5, 0],
  ])("with reserveMs %o of %d ms is %d ms", (reserveMs, availableMs, kept) => {
    expect(fallbackReserveMs(reserveMs, chain, availableMs)).toBe(kept);
  });
});

describe("another answer", () => {
  const helps = (code: number, origin: StatusOrigin = "remote") =>
    fallbackHelps({ code, origin, reason: undefined });

  it("helps where the service could not do its part", () => {
    const codes = Array.from({ length: 17 }, (_, code) => code).filter((code) => helps(code));
    expect(codes).toEqual([2, 4, 8, 13, 14, 15]);
  });

  it.each(["caller", "local-limit", "local-setup"] as const)(
    "does not help against a failure of %s",
    (origin) => {
      expect(helps(14, origin)).toBe(false);
      expect(helps(13, origin)).toBe(false);
    },
  );

  it("helps where a policy of ours refused, but not once all is closed", () => {
    const local = { code: 14, origin: "local-policy" } as const;
    expect(fallbackHelps({ ...local, reason: "BREAKER_OPEN" })).toBe(true);
    expect(fallbackHelps({ ...local, reason: "CLOSED" })).toBe(false);
  });
});

describe("the limits of a provider", () => {
  const resolve = (options: object) =>
    resolveFallbackLimits(options, { name: "value", timeoutMs: 100 }, "value");

  it("have defaults", () => {
    expect(resolve({})).toEqual({ name: "value", timeoutMs: 100, maxConcurrent: 10 });
  });

  it.each([
    [{ name: "" }, "value.name must be a name of letters, digits"],
    [{ name: "a b" }, "value.name"],
    [{ name: "a".repeat(65) }, "value.name"],
    [{ name: 7 }, "value.name"],
    [{ timeoutMs: 0 }, "value.timeoutMs must be milliseconds from 1"],
    [{ timeoutMs: Number.NaN }, "value.timeoutMs"],
    [{ maxConcurrent: 0 }, "value.maxConcurrent must be a whole number of at least 1, got 0"],
  ])("refuse %o", (options, message) => {
    expect(() => resolve(options)).toThrow(InvalidOptionError);
    expect(() => resolve(options)).toThrow(message);
  });
});
