import { expect, it } from "vitest";
import { type Ending, OncePermit, type Outcome, permit } from "../../src/core/permit.js";

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
