import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { ConformanceServiceServer } from "../../src/gen/weir/v1/conformance.js";
import type { ClientPolicy } from "../../src/pipeline/client.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { type Ended, echo, failing, handlers, kinds, type Method, scene } from "../scene.js";

/** A call of a service whose handler calls a service behind it, while so many services above retry. */
async function behind(
  method: Method,
  depth: number,
  client: ClientPolicy,
  implementation: ConformanceServiceServer,
  clock = new VirtualClock(),
) {
  const back = await scene({
    clock,
    client: { breaker: false, ...client },
    handlers: implementation,
  });
  let inner: Ended | undefined;
  const front = await scene({
    clock,
    server: {},
    handlers: {
      ...echo,
      unary: (call, callback) => {
        void back.start(method).ended.then((ended) => {
          inner = ended;
          callback(null, call.request);
        });
      },
    },
  });
  const metadata = new Metadata();
  metadata.set("x-weir-retry-depth", String(depth));
  const beganMs = clock.now();
  await front.call("unary", {}, metadata);
  const tookMs = clock.now() - beganMs;
  return { inner, tookMs, reasons: back.decisions.map(({ reason }) => reason) };
}

const depths = (seen: readonly Metadata[]) => seen.map((each) => each.get("x-weir-retry-depth"));

describe.each(kinds)("a %s that fails while a service above retries", (method) => {
  const quick = { idempotent: true, backoff: { baseMs: 1 } } as const;

  it("is not retried, and ends with its own failure", async () => {
    const server = failing(1);
    const { inner, reasons } = await behind(method, 1, { retry: quick }, server.handlers);
    expect([inner?.code, inner?.details]).toEqual([Status.UNAVAILABLE, "not now"]);
    expect(server.calls()).toBe(1);
    expect(reasons).toEqual(["RETRY_DEPTH"]);
    expect(depths(server.metadata)).toEqual([["1"]]);
  });

  it("is retried where maxDepth allows one more, and says that two are retrying now", async () => {
    const server = failing(1);
    const retry = { ...quick, maxDepth: 2 };
    const { inner } = await behind(method, 1, { retry }, server.handlers);
    expect(inner?.code).toBe(Status.OK);
    expect(depths(server.metadata)).toEqual([["1"], ["2"]]);
  });

  it("passes on that one is retrying, though nothing is retried here", async () => {
    const server = failing(0);
    await behind(method, 1, { retry: false }, server.handlers);
    expect(depths(server.metadata)).toEqual([["1"]]);
  });

  it("is followed by no hedge, and ends with its own failure", async () => {
    const server = failing(1);
    const client = { retry: quick, hedge: { maxAttempts: 3, delayMs: 50 } };
    const { inner, reasons, tookMs } = await behind(method, 1, client, server.handlers);
    expect([inner?.code, inner?.details]).toEqual([Status.UNAVAILABLE, "not now"]);
    expect(server.calls()).toBe(1);
    expect(reasons).toEqual(["RETRY_DEPTH"]);
    expect(tookMs).toBe(0);
  });

  it("that is fatal is followed by no hedge anyway, so that nothing is noted", async () => {
    const server = failing(1, { code: Status.FAILED_PRECONDITION, details: "no" });
    const client = { retry: quick, hedge: { maxAttempts: 3, delayMs: 50 } };
    const { inner, reasons } = await behind(method, 1, client, server.handlers);
    expect([inner?.code, reasons]).toEqual([Status.FAILED_PRECONDITION, []]);
    expect(server.calls()).toBe(1);
  });

  it("is followed by a hedge where maxDepth allows one more", async () => {
    const server = failing(1);
    const client = {
      retry: { ...quick, maxDepth: 2 },
      hedge: { maxAttempts: 3, delayMs: 50 },
    };
    const { inner } = await behind(method, 1, client, server.handlers);
    expect(inner?.code).toBe(Status.OK);
    expect(depths(server.metadata)).toEqual([["1"], ["2"]]);
  });
});

describe.each(kinds)("a %s that takes long while a service above retries", (method) => {
  it.each([
    [1, 1],
    [2, 3],
  ])("with maxDepth %i is sent as often: %i", async (maxDepth, sent) => {
    const clock = new VirtualClock();
    const seen: Metadata[] = [];
    const slow = handlers(({ metadata }, answer) => {
      seen.push(metadata);
      clock.schedule(300, answer);
    });
    const client = {
      retry: { idempotent: true, maxDepth },
      hedge: { maxAttempts: 3, delayMs: 50 },
    };
    const { inner, tookMs } = await behind(method, 1, client, slow, clock);
    expect([inner?.code, tookMs]).toEqual([Status.OK, 300]);
    expect(depths(seen)).toEqual([["1"], ["2"], ["2"]].slice(0, sent));
  });
});
