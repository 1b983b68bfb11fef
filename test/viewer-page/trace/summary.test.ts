import { describe, expect, it } from "vitest";
import type { SpanView } from "../../../src/viewer/api.js";
import { barWords, summaryOf } from "../../../viewer-page/src/trace/summary.js";
import { rowsOf, treesOf } from "../../../viewer-page/src/trace/tree.js";
import { attempt, span, wait } from "./span.js";

function told(...spans: SpanView[]): readonly string[] {
  const [call] = treesOf(spans);
  return call === undefined ? [] : summaryOf(call);
}

const call = (toMs: number, status: string, more: Partial<SpanView> = {}) =>
  span("call", undefined, [0, toMs], {
    ...more,
    attributes: { "rpc.status_code": status, ...more.attributes },
  });

describe("what happened, in words", () => {
  it("tells a retry: what failed, how long it waited, how it ended", () => {
    expect(
      told(
        call(124, "OK"),
        attempt(1, [0, 12], "UNAVAILABLE"),
        wait("call", "backoff", [12, 94], "retry"),
        attempt(2, [94, 124], "OK", {
          "weir.attempt.cause": "retry",
          "weir.attempt.delay_ms": 82,
        }),
      ),
    ).toEqual([
      "OK in 124 ms",
      "2 attempts: UNAVAILABLE (remote) after 12 ms, retried after 82 ms, OK in 30 ms",
      "Waited 82 ms between attempts",
    ]);
  });

  it("tells a hedge and the attempt that lost", () => {
    expect(
      told(
        call(96, "OK"),
        attempt(1, [0, 96], "CANCELLED", { "weir.attempt.superseded": true }),
        attempt(2, [50, 95], "OK", { "weir.attempt.cause": "hedge" }),
      ),
    ).toEqual(["OK in 96 ms", "2 attempts: lost after 96 ms, hedged after 50 ms, OK in 45 ms"]);
  });

  it("reckons the delay of a retry that does not tell it", () => {
    expect(
      told(
        call(50, "OK"),
        attempt(1, [0, 10], "UNAVAILABLE", { "weir.attempt.origin": "transport" }),
        attempt(2, [30, 50], "OK", { "weir.attempt.cause": "retry" }),
      )[1],
    ).toBe("2 attempts: UNAVAILABLE (transport) after 10 ms, retried after 20 ms, OK in 20 ms");
  });

  it("tells who refused a call, and why", () => {
    const refused = call(0.4, "UNAVAILABLE", {
      attributes: { "weir.rejection.reason": "BREAKER_OPEN" },
      events: [
        {
          name: "weir.decision",
          atMs: 0.2,
          attributes: { "weir.decision.policy": "breaker", "weir.decision.verdict": "reject" },
        },
      ],
    });
    expect(told(refused)).toEqual(["UNAVAILABLE after 400 µs", "Refused by breaker: BREAKER_OPEN"]);
  });

  it("does not guess who refused a call elsewhere", () => {
    const refused = call(6, "RESOURCE_EXHAUSTED", {
      attributes: { "weir.rejection.reason": "LOAD_SHED" },
    });
    expect(told(refused, attempt(1, [0, 6], "RESOURCE_EXHAUSTED"))).toEqual([
      "RESOURCE_EXHAUSTED after 6 ms",
      "1 attempt: RESOURCE_EXHAUSTED (remote) after 6 ms",
      "Refused: LOAD_SHED",
    ]);
  });

  it("adds up waits of the same kind, also of attempts", () => {
    expect(
      told(
        call(100, "OK"),
        attempt(1, [0, 100], "OK"),
        wait("call", "queue", [0, 10], "bulkhead"),
        wait("attempt1", "queue", [20, 25], "bulkhead"),
        wait("attempt1", "connection", [30, 37]),
      ).at(-1),
    ).toBe("Waited 15 ms in a queue of the bulkhead policy, 7 ms for a connection");
  });
});

it("a bar is said: where it starts, how long it is, and what is special", () => {
  const rows = rowsOf(
    treesOf([
      call(96, "UNAVAILABLE", { status: "error" }),
      attempt(1, [4, 96], "CANCELLED", { "weir.attempt.superseded": true }),
    ]),
  );
  expect(rows.map((row) => barWords(row, 0))).toEqual([
    "starts at 0 ms, takes 96 ms, failed with UNAVAILABLE",
    "starts at 4 ms, takes 92 ms, lost to another attempt",
  ]);
});
