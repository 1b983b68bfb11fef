import { status as Status } from "@grpc/grpc-js";
import { SpanStatusCode } from "@opentelemetry/api";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { handlers, kinds, type SceneOptions, scene } from "../scene.js";
import { decisionsOf, idOf, parentIdOf, startTracing, type TracingUnderTest } from "./tracing.js";

let tracing: TracingUnderTest;

beforeEach(() => {
  tracing = startTracing();
});

afterEach(() => {
  expect(tracing.open()).toEqual([]);
  tracing.stop();
});

/** Answers the n-th call after the n-th of these milliseconds; never where it is absent. */
function answering(
  clock: () => { schedule(ms: number, task: () => void): unknown },
  afterMs: (number | undefined)[],
) {
  let calls = 0;
  return handlers((_call, answer) => {
    const ms = afterMs[calls];
    calls += 1;
    if (ms !== undefined) clock().schedule(ms, answer);
  });
}

async function open(client: SceneOptions["client"], ...afterMs: (number | undefined)[]) {
  const world = await scene({
    client: client ?? {},
    server: {},
    // Who ends an attempt first is the client, as over a network.
    network: { latencyMs: 1 },
    handlers: answering(() => world.clock, afterMs),
  });
  return world;
}

describe.each(kinds)("a %s call of a weir", (method) => {
  it("has a span for each hedge; the one that lost is no error", async () => {
    const world = await open(
      { retry: { idempotent: true }, hedge: { delayMs: 50 } },
      undefined,
      20,
    );
    expect((await world.call(method)).code).toBe(Status.OK);
    await world.link.pass(10);
    const [call] = tracing.calls();
    const [lost, won] = tracing.attempts();
    expect(tracing.attempts().map(parentIdOf)).toEqual([idOf(call), idOf(call)]);
    expect(decisionsOf(call)).toEqual(["hedge hedge"]);
    expect(call?.events[0]?.attributes?.["weir.decision.detail"]).toBe(
      "hedge after 50 ms without an answer",
    );
    expect(won?.attributes).toMatchObject({
      "weir.attempt.number": 2,
      "weir.attempt.cause": "hedge",
      "weir.attempt.delay_ms": 50,
      "rpc.status_code": "OK",
    });
    expect(won?.attributes).not.toHaveProperty("weir.attempt.superseded");
    expect(lost?.attributes).toMatchObject({
      "weir.attempt.number": 1,
      "weir.attempt.superseded": true,
      "rpc.status_code": "CANCELLED",
    });
    expect(lost?.attributes).not.toHaveProperty("error.type");
    expect(lost?.status.code).toBe(SpanStatusCode.UNSET);
    expect(tracing.servers().map(parentIdOf)).toEqual(
      expect.arrayContaining(tracing.attempts().map(idOf)),
    );
  });

  it("marks an attempt that lost and runs out, and was answered for nobody", async () => {
    const slow = [500, 0, 500, 0, 500, 0];
    const resets = { burst: 4, ratePerSecond: 1 };
    const world = await open(
      { retry: { idempotent: true }, hedge: { delayMs: 50 }, resets },
      ...slow,
    );
    for (let i = 0; i < 3; i += 1) await world.call(method);
    await world.link.pass(1_000);
    const lost = tracing
      .attempts()
      .filter(({ attributes }) => attributes["weir.attempt.superseded"]);
    const ranOut = lost.filter(({ attributes }) => attributes["rpc.status_code"] === "OK");
    expect(lost).toHaveLength(3);
    expect(ranOut).not.toEqual([]);
    for (const { status, attributes } of lost) {
      expect(status.code).toBe(SpanStatusCode.UNSET);
      expect(attributes).not.toHaveProperty("error.type");
    }
  });

  const timed: SceneOptions["client"] = {
    retry: { idempotent: true, codes: [Status.DEADLINE_EXCEEDED] },
    timeouts: { attemptMs: 40 },
  };

  it("tells of an attempt that ran out of its own time, and of the one that came after", async () => {
    const world = await open(timed, undefined, 10);
    expect((await world.call(method)).code).toBe(Status.OK);
    await world.link.pass(100);
    const [first, second] = tracing.attempts();
    expect(decisionsOf(tracing.calls()[0])).toEqual([
      "timeouts expire ATTEMPT_TIMEOUT",
      "retry retry",
    ]);
    expect(first?.status).toEqual({
      code: SpanStatusCode.ERROR,
      message: "The attempt did not end within 40 ms [ATTEMPT_TIMEOUT]",
    });
    expect(second?.attributes).toMatchObject({
      "weir.attempt.cause": "retry",
      "weir.attempt.after": "DEADLINE_EXCEEDED",
    });
  });

  // Known: the timeout does not note the end of its attempt before it cancels it.
  it("says of such an attempt that its own time was up", async () => {
    const world = await open(timed, undefined, 10);
    await world.call(method);
    await world.link.pass(100);
    expect(tracing.attempts()[0]?.attributes["weir.attempt.origin"]).toBe("attempt-timeout");
  });
});
