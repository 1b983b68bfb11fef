import { describe, expect, it } from "vitest";
import { labelOf, rowsOf, statusOf, treesOf } from "../../../viewer-page/src/trace/tree.js";
import { attempt, span, wait } from "./span.js";

const drawn = (...args: Parameters<typeof rowsOf>) =>
  rowsOf(...args).map(({ key, depth }) => `${" ".repeat(depth)}${key}`);

describe("the spans of a trace", () => {
  it("stand below their parents, by start", () => {
    const spans = [
      span("late", "root", [50, 60]),
      span("deep", "early", [12, 14]),
      span("early", "root", [10, 20]),
      span("root", undefined),
    ];
    expect(drawn(treesOf(spans))).toEqual(["root", " early", "  deep", " late"]);
  });

  it("whose parent is not here are roots, and say so", () => {
    const trees = treesOf([span("a", undefined), span("b", "elsewhere", [5, 6])]);
    expect(trees.map(({ key, orphan }) => [key, orphan])).toEqual([
      ["a", false],
      ["b", true],
    ]);
  });

  it("whose parents go in a circle are all shown, once", () => {
    const spans = [span("a", "c", [3, 9]), span("b", "a", [4, 8]), span("c", "b", [5, 7])];
    expect(drawn(treesOf(spans))).toEqual(["a", " b", "  c"]);
    expect(drawn(treesOf([span("self", "self")]))).toEqual(["self"]);
  });

  it("with the same id are all shown", () => {
    const spans = [span("a", undefined), span("b", "a", [1, 2]), span("b", "a", [3, 4])];
    expect(drawn(treesOf(spans))).toEqual(["a", " b", " b#2"]);
  });

  it("may be as deep as there are spans", () => {
    const spans = Array.from({ length: 5_000 }, (_, index) =>
      span(`s${index}`, index === 0 ? undefined : `s${index - 1}`, [index, 6_000]),
    );
    expect(rowsOf(treesOf(spans)).at(-1)?.depth).toBe(4_999);
  });

  it("below a collapsed one are hidden", () => {
    const spans = [span("a", undefined), span("b", "a"), span("c", "b"), span("d", undefined)];
    expect(drawn(treesOf(spans), new Set(["b"]))).toEqual(["a", " b", "d"]);
  });
});

describe("a span stands for", () => {
  const only = (one: Parameters<typeof treesOf>[0][number]) => rowsOf(treesOf([one]))[0];

  it.each([
    [span("call", undefined), "call", "call"],
    [span("s", undefined, [0, 1], { kind: "server" }), "server", "s"],
    [span("db", undefined, [0, 1], { kind: "internal" }), "other", "db"],
    [attempt(1, [0, 1], "OK"), "attempt", "Attempt 1"],
    [attempt(2, [0, 1], "OK", { "weir.attempt.cause": "hedge" }), "attempt", "Attempt 2 (hedge)"],
    [wait("call", "event_loop", [0, 1]), "wait", "Wait: event loop"],
    [span("x", undefined, [0, 1], { name: "wait: queue" }), "wait", "Wait: queue"],
    [span("x", undefined, [0, 1], { attributes: { "rpc.method": "a.B/C" } }), "call", "a.B/C"],
  ])("%#: %s", (one, role, label) => {
    const node = only(one);
    expect(node?.role).toBe(role);
    expect(node === undefined ? "" : labelOf(node)).toBe(label);
  });

  it("the status that it names, or else what the span says", () => {
    expect(statusOf(attempt(1, [0, 1], "UNAVAILABLE"))).toBe("UNAVAILABLE");
    expect(statusOf(span("a", undefined, [0, 1], { status: "error" }))).toBe("ERROR");
    expect(statusOf(span("a", undefined))).toBe("OK");
  });
});
