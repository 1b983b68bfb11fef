import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { SpanView } from "../../../src/viewer/api.js";
import { timeSpentIn } from "../../../viewer-page/src/trace/time-spent.js";
import { treesOf } from "../../../viewer-page/src/trace/tree.js";
import { attempt, span, wait } from "./span.js";

function spent(...spans: SpanView[]): Readonly<Record<string, number>> {
  const [call] = treesOf(spans);
  const shares = call === undefined ? [] : timeSpentIn(call);
  return Object.fromEntries(shares.map(({ what, ms }) => [what, ms]));
}

const server = (parent: string, times: readonly [number, number], service = "orders") =>
  span(`server of ${parent}`, parent, times, { kind: "server", service });

describe("the time of a call", () => {
  it("goes to waits, servers, the network between them, and the client", () => {
    expect(
      spent(
        span("call", undefined, [0, 100]),
        wait("call", "backoff", [20, 60]),
        attempt(1, [60, 95], "OK"),
        server("attempt1", [65, 90]),
      ),
    ).toEqual({ "wait: backoff": 40, orders: 25, "client in web": 25, network: 10 });
  });

  it("of an attempt without a server's spans is that of a server that has none", () => {
    expect(spent(span("call", undefined, [0, 50]), attempt(1, [0, 50], "OK"))).toEqual({
      "a server without spans": 50,
    });
  });

  it("goes to the attempt that lost only while no other runs", () => {
    expect(
      spent(
        span("call", undefined, [0, 100]),
        attempt(1, [0, 100], "CANCELLED", { "weir.attempt.superseded": true }),
        server("attempt1", [0, 100], "slow"),
        attempt(2, [60, 100], "OK", { "weir.attempt.cause": "hedge" }),
        server("attempt2", [60, 100], "quick"),
      ),
    ).toEqual({ slow: 60, quick: 40 });
  });

  it("does not count what runs before or after it", () => {
    expect(spent(span("call", undefined, [10, 20]), server("call", [0, 15]))).toEqual({
      orders: 5,
      "client in web": 5,
    });
  });

  it("is all told, whatever the spans", () => {
    const times = fc.tuple(fc.nat(100), fc.nat(100));
    const children = fc.array(fc.tuple(times, fc.nat(5), fc.boolean()), { maxLength: 12 });
    fc.assert(
      fc.property(children, (drawn) => {
        const spans = drawn.map(([[a, b], parent, lost], index) =>
          span(
            `s${index}`,
            index < parent ? "call" : `s${index - parent - 1}`,
            [Math.min(a, b), Math.max(a, b)],
            lost ? { attributes: { "weir.attempt.superseded": true } } : {},
          ),
        );
        const total = Object.values(spent(span("call", undefined, [0, 100]), ...spans));
        expect(total.reduce((sum, ms) => sum + ms, 0)).toBeCloseTo(100);
      }),
    );
  });
});
