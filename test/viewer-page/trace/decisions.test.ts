import { expect, it } from "vitest";
import type { Attributes, SpanEvent } from "../../../src/viewer/api.js";
import { eventWords, isObserved, shapeOf } from "../../../viewer-page/src/trace/decisions.js";

function decision(attributes: Attributes): SpanEvent {
  const named = Object.entries(attributes).map(([name, value]) => [`weir.decision.${name}`, value]);
  return { name: "weir.decision", atMs: 0, attributes: Object.fromEntries(named) };
}

it.each([
  [
    { policy: "admission", verdict: "queue", wait_ms: 88, detail: "3rd of 12" },
    "admission lets it wait, 88 ms (3rd of 12)",
    "queue",
  ],
  [
    { policy: "breaker", verdict: "reject", reason: "BREAKER_OPEN" },
    "breaker refuses it: BREAKER_OPEN",
    "reject",
  ],
  [
    { policy: "quota", verdict: "reject", reason: "RATE_LIMIT_EXCEEDED", enforced: false },
    "quota refuses it: RATE_LIMIT_EXCEEDED, observed only",
    "reject",
  ],
  [{ policy: "own", verdict: "ponder" }, "own ponder", "other"],
  [{}, "a policy decides", "other"],
])("the decision %j is %j", (attributes, words, shape) => {
  expect(eventWords(decision(attributes))).toBe(words);
  expect(shapeOf(decision(attributes))).toBe(shape);
});

it("only a policy that says so has merely observed", () => {
  expect(isObserved(decision({ enforced: false }))).toBe(true);
  expect([isObserved(decision({ enforced: true })), isObserved(decision({}))]).toEqual([
    false,
    false,
  ]);
});

it("other events go by their names, exceptions with their messages", () => {
  const event = (name: string, attributes: Attributes) => ({ name, atMs: 0, attributes });
  expect(eventWords(event("message", {}))).toBe("message");
  expect(eventWords(event("exception", { "exception.message": "no" }))).toBe("exception: no");
  expect(shapeOf(event("message", {}))).toBe("event");
});
