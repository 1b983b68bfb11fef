import { describe, expect, it } from "vitest";
import {
  type Answer,
  type CallEnd,
  check,
  type Execution,
  type History,
  type Invocation,
  type LedgerStep,
  type Rule,
  rules,
} from "./checker.js";

const name = { caller: "anna", key: "order-1", request: "boots" };
const applied: Answer = { ...name, kind: "applied", text: "reservation 7" };
const declined: Answer = { ...name, kind: "declined", text: "sold out" };

function call(startUs: number, end?: CallEnd, other: Partial<Invocation> = {}): Invocation {
  return { client: "c1", ...name, startUs, ...(end && { end }), ...other };
}

function told(endUs: number, answer: Answer = applied, replayed = false): CallEnd {
  return { kind: "answer", endUs, answer, replayed };
}

function run(startUs: number, token: number, other: Partial<Execution> = {}): Execution {
  return { server: "s1", ...name, token, startUs, ...other };
}

function step(atUs: number, token: number, other: Partial<LedgerStep> = {}): LedgerStep {
  return { caller: "anna", key: "order-1", token, atUs, ...other };
}

function history(parts: Partial<History>): History {
  return { invocations: [], executions: [], ledger: [], ...parts };
}

const other = { request: "umbrella" };

const good: Readonly<Record<string, History>> = {
  "nothing at all": history({}),
  "a call, its run, its order and its answer": history({
    invocations: [call(0, told(9))],
    executions: [run(1, 5)],
    ledger: [step(2, 5), step(3, 5, { applied })],
  }),
  "a duplicate in flight, and one afterwards": history({
    invocations: [
      call(0, told(9)),
      call(1, told(9, applied, true)),
      call(20, told(21, applied, true)),
    ],
    executions: [run(1, 5)],
    ledger: [step(2, 5), step(3, 5, { applied })],
  }),
  "a holder that died after it had written: the next one finds its order": history({
    invocations: [call(0), call(10, told(30))],
    executions: [run(1, 5), run(12, 6, { server: "s2" })],
    ledger: [step(2, 5), step(3, 5, { applied }), step(13, 6)],
  }),
  "a holder that comes back late, and is refused by the ledger": history({
    invocations: [call(0, { kind: "unsettled", endUs: 40 }), call(10, told(30))],
    executions: [run(1, 5), run(12, 6, { server: "s2" })],
    ledger: [step(2, 5), step(13, 6), step(14, 6, { applied }), step(35, 5, { fenced: true })],
  }),
  "a holder that stood still between its claim and its run": history({
    invocations: [call(0, { kind: "unsettled", endUs: 50 }), call(10, told(30))],
    executions: [run(40, 5), run(12, 6, { server: "s2" })],
    ledger: [step(13, 6), step(14, 6, { applied }), step(41, 5, { fenced: true })],
  }),
  "an order that was declined, for the first call and its duplicate": history({
    invocations: [call(0, told(9, declined)), call(10, told(11, declined, true))],
    executions: [run(1, 5)],
    ledger: [step(2, 5)],
  }),
  "two callers with the same key": history({
    invocations: [
      call(0, told(9)),
      call(0, told(9, { ...applied, caller: "ben", text: "reservation 8" }), { caller: "ben" }),
    ],
    executions: [run(1, 5), run(1, 5, { caller: "ben" })],
    ledger: [
      step(2, 5, { applied }),
      step(2, 5, { caller: "ben", applied: { ...applied, caller: "ben", text: "reservation 8" } }),
    ],
  }),
  "a key that is used for another request": history({
    invocations: [call(0, told(9)), call(10, { kind: "reused", endUs: 12 }, other)],
    executions: [run(1, 5)],
    ledger: [step(2, 5, { applied })],
  }),
  "a request that had its key when the other one, which was refused first, came back": history({
    invocations: [
      call(0, { kind: "unsettled", endUs: 5 }),
      call(1, { kind: "reused", endUs: 2 }, other),
      call(6, told(9, { ...applied, ...other }), other),
      call(10, { kind: "reused", endUs: 12 }),
    ],
    executions: [run(1, 5), run(7, 6, other)],
    ledger: [step(2, 5), step(8, 6, { applied: { ...applied, ...other } })],
  }),
  "clients that died before they were told": history({
    invocations: [call(0), call(1)],
    executions: [run(2, 5)],
    ledger: [step(3, 5, { applied })],
  }),
};

/** Each breaks its rule and no other, so that no rule is there for nothing. */
const bad: Readonly<Record<Rule, History>> = {
  "applied once": history({
    invocations: [call(0)],
    executions: [run(1, 5), run(2, 6)],
    ledger: [step(3, 5, { applied }), step(4, 6, { applied })],
  }),
  fenced: history({
    invocations: [call(0)],
    executions: [run(1, 5), run(2, 6)],
    ledger: [step(3, 6), step(4, 5, { applied })],
  }),
  "tokens differ": history({
    invocations: [call(0)],
    executions: [run(1, 5), run(2, 5, { server: "s2" })],
    ledger: [step(3, 5, { applied })],
  }),
  "run was asked for": history({
    invocations: [call(10)],
    executions: [run(1, 5)],
    ledger: [step(3, 5, { applied })],
  }),
  "answer has a run": history({ invocations: [call(0, told(9, declined))] }),
  "one answer": history({
    invocations: [
      call(0, told(9, declined)),
      call(1, told(9, { ...declined, text: "too late" }, true)),
    ],
    executions: [run(1, 5)],
    ledger: [step(2, 5)],
  }),
  "own answer": history({
    invocations: [call(0), call(1, told(9, applied, true), { caller: "ben" })],
    executions: [run(1, 5)],
    ledger: [step(2, 5, { applied })],
  }),
  "told OK, in the ledger": history({
    invocations: [call(0, told(9))],
    executions: [run(1, 5)],
    ledger: [step(2, 5)],
  }),
  "told no, not in the ledger": history({
    invocations: [call(0, told(9, declined))],
    executions: [run(1, 5)],
    ledger: [step(2, 5, { applied })],
  }),
  "applied before told": history({
    invocations: [call(0, told(9))],
    executions: [run(1, 5)],
    ledger: [step(10, 5, { applied })],
  }),
  "no run after an answer": history({
    invocations: [call(0, told(9)), call(10)],
    executions: [run(1, 5), run(11, 6)],
    ledger: [step(2, 5, { applied }), step(12, 6)],
  }),
  "one first answer": history({
    invocations: [call(0, told(9)), call(1, told(9))],
    executions: [run(1, 5)],
    ledger: [step(2, 5, { applied })],
  }),
  "reuse has a cause": history({
    invocations: [call(0, { kind: "reused", endUs: 2 })],
  }),
};

describe("the checker of histories", () => {
  it.each(Object.entries(good))("accepts %s", (_, one) => {
    expect(check(one)).toEqual([]);
  });

  it.each(Object.entries(bad))("finds by the rule “%s” alone what breaks it", (rule, one) => {
    expect(check(one).map((found) => found.rule)).toEqual([rule]);
  });

  it("has a broken history for each of its rules", () => {
    expect(Object.keys(bad)).toEqual(Object.keys(rules));
  });

  it("refuses the answer of another request under the same key", () => {
    const wrong = history({
      invocations: [call(0, told(9)), call(10, told(11, applied, true), other)],
      executions: [run(1, 5)],
      ledger: [step(2, 5, { applied })],
    });
    expect(check(wrong).map(({ rule }) => rule)).toEqual(["own answer"]);
  });

  it("refuses an order that is in the ledger with another text than its client was told", () => {
    const wrong = history({
      invocations: [call(0, told(9, { ...applied, text: "reservation 8" }))],
      executions: [run(1, 5)],
      ledger: [step(2, 5, { applied })],
    });
    expect(check(wrong).map(({ rule }) => rule)).toEqual(["told OK, in the ledger"]);
  });

  it("refuses a key as reused that was known to belong to the request before the call began", () => {
    const wrong = history({
      invocations: [
        call(0, told(9)),
        call(1, { kind: "reused", endUs: 3 }, other),
        call(10, { kind: "reused", endUs: 12 }),
      ],
      executions: [run(1, 5)],
      ledger: [step(2, 5, { applied })],
    });
    expect(check(wrong).map(({ rule }) => rule)).toEqual(["reuse has a cause"]);
  });

  it("refuses a key as reused whose order of the same request was applied before the call began", () => {
    const wrong = history({
      invocations: [
        call(0),
        call(1, { kind: "unsettled", endUs: 50 }, other),
        call(20, { kind: "reused", endUs: 30 }),
      ],
      executions: [run(1, 5), run(15, 6, other)],
      ledger: [step(2, 5, { applied }), step(16, 6)],
    });
    expect(check(wrong).map(({ rule }) => rule)).toEqual(["reuse has a cause"]);
  });

  it("names the key, the caller and what contradicts the rule", () => {
    const [found] = check(bad["told OK, in the ledger"]);
    expect(found).toMatchObject({ caller: "anna", key: "order-1" });
    expect(found?.seen).toContain("reservation 7");
  });
});
