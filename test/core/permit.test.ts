import { expect, it } from "vitest";
import {
  abandon,
  type Ending,
  isRefusal,
  OncePermit,
  type Outcome,
  permit,
  refusal,
} from "../../src/core/permit.js";

class Noting extends OncePermit {
  readonly ends: [Outcome, Ending | undefined][] = [];
  within: (() => void) | undefined;

  protected onSettle(outcome: Outcome, ending: Ending | undefined): void {
    this.ends.push([outcome, ending]);
    this.within?.();
  }
}

it("lets the first end of a permit count, and no other", () => {
  const noting = new Noting();
  const ending = { retryAfterMs: 5 };
  noting.settle("failure", ending);
  noting.settle("success");
  expect(noting.ends).toEqual([["failure", ending]]);
});

it("lets what is settled again while it is being settled count once", () => {
  const noting = new Noting();
  noting.within = () => noting.settle("ignored");
  noting.settle("success");
  expect(noting.ends).toEqual([["success", undefined]]);
});

it("calls the function of a permit that is made of one, once", () => {
  const outcomes: Outcome[] = [];
  const made = permit((outcome) => outcomes.push(outcome));
  made.settle("success");
  made.settle("failure");
  expect(outcomes).toEqual(["success"]);
});

it("settles a permit that knows no other way to be given back as ignored", () => {
  const outcomes: Outcome[] = [];
  abandon(
    permit((outcome) => outcomes.push(outcome)),
    true,
  );
  expect(outcomes).toEqual(["ignored"]);
});

it("makes a refusal of what is known: a time or a subject that is not stays absent", () => {
  const bare = { kind: "refusal", reason: "BREAKER_OPEN", detail: "open" };
  expect(refusal("BREAKER_OPEN", "open")).toStrictEqual(bare);
  expect(refusal("BREAKER_OPEN", "open", 0)).toStrictEqual({ ...bare, retryAfterMs: 0 });
  expect(refusal("BREAKER_OPEN", "open", undefined, "")).toStrictEqual({ ...bare, subject: "" });
});

it("tells a refusal from a permit, and from a place in a queue", () => {
  expect(isRefusal(refusal("BREAKER_OPEN", "open"))).toBe(true);
  expect(isRefusal(permit(() => {}))).toBe(false);
  expect(isRefusal({ kind: "queued" })).toBe(false);
});
