import { InterceptingCall, type Interceptor, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { ClientPolicy } from "../../src/pipeline/client.js";
import type { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { type HandlerCall, handlers, kinds, type Method, scene } from "../scene.js";

const lateMs = 500;
const workMs = 200;

/** An interceptor of the user's that starts each call only after a while, as one that fetches a token does. */
function lateStart(clock: () => VirtualClock): Interceptor {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start: (metadata, listener, next) => {
        clock().schedule(lateMs, () => next(metadata, listener));
      },
    });
}

/** One that lets the request through only after a while, as one that asks somebody to sign it does. */
function lateRequest(clock: () => VirtualClock): Interceptor {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      sendMessage: (message, next) => {
        clock().schedule(lateMs, () => next(message));
      },
      halfClose: (next) => {
        clock().schedule(lateMs, () => next());
      },
    });
}

interface Setup {
  readonly client: ClientPolicy;
  readonly deadlineMs?: number;
  /** What an attempt does once its work is done; the first is 1. */
  readonly does?: (attempt: number, call: HandlerCall, answer: () => void) => void;
  readonly above?: (clock: () => VirtualClock) => Interceptor;
}

/** Makes one call, and tells what it ended with and when, counted from its creation. */
async function outcome(method: Method, setup: Setup) {
  const { client, deadlineMs, does = (_attempt, _call, answer) => answer() } = setup;
  const keys: unknown[] = [];
  const world = await scene({
    client,
    ownClient: { interceptors: [(setup.above ?? lateStart)(() => world.clock)] },
    handlers: handlers((call, answer) => {
      const attempt = keys.push(call.metadata.get("idempotency-key"));
      world.clock.schedule(workMs, () => does(attempt, call, answer));
    }),
  });
  const { call, clock, link } = world;
  const beganMs = clock.now();
  const deadline = deadlineMs === undefined ? {} : { deadline: clock.wallNow() + deadlineMs };
  const { code } = await call(method, deadline);
  const afterMs = clock.now() - beganMs;
  await link.pass(100);
  expect(link.inFlight()).toBe(0);
  expect(clock.pending.refs).toBe(0);
  return { code, afterMs, keys };
}

const hang: NonNullable<Setup["does"]> = () => {};
const failOnce: NonNullable<Setup["does"]> = (attempt, { fail }, answer) => {
  if (attempt === 1) fail({ code: Status.UNAVAILABLE, details: "not now" });
  else answer();
};
const failThenHang: NonNullable<Setup["does"]> = (attempt, call) => {
  if (attempt === 1) failOnce(attempt, call, () => {});
};
const bulkhead: ClientPolicy = { bulkhead: { maxConcurrent: 5 } };
const quick: ClientPolicy = { retry: { backoff: { baseMs: 10, jitter: "none" } } };
const inTime = Status.OK;
const tooLate = Status.DEADLINE_EXCEEDED;

describe.each(kinds)("a %s that an interceptor outside starts 500 ms later", (method) => {
  it.each<[string, Setup, Status, number]>([
    ["one of 1000 ms", { client: {}, deadlineMs: 1_000 }, inTime, 700],
    ["one of 900 ms", { client: {}, deadlineMs: 900 }, inTime, 700],
    ["with a bulkhead", { client: bulkhead, deadlineMs: 1_000 }, inTime, 700],
    ["with a retry", { client: quick, deadlineMs: 1_200, does: failOnce }, inTime, 910],
    [
      "the default, counted from the call's creation",
      { client: { deadline: { defaultMs: 600 } } },
      tooLate,
      600,
    ],
  ])("has the whole of its deadline: %s", async (_what, setup, code, afterMs) => {
    expect(await outcome(method, setup)).toMatchObject({ code, afterMs });
  });

  it.each<[string, Setup]>([
    ["one of 1000 ms", { client: {}, deadlineMs: 1_000, does: hang }],
    ["one of 900 ms", { client: {}, deadlineMs: 900, does: hang }],
    ["with a bulkhead", { client: bulkhead, deadlineMs: 1_000, does: hang }],
    ["with a retry", { client: quick, deadlineMs: 1_200, does: failThenHang }],
  ])("ends at its deadline and not before when nothing answers: %s", async (_what, setup) => {
    const ended = await outcome(method, setup);
    expect(ended).toMatchObject({ code: tooLate, afterMs: setup.deadlineMs });
  });
});

describe.each(["unary", "serverStream"] as const)(
  "a %s with an idempotency key made of its request",
  (method) => {
    const client: ClientPolicy = { idempotencyKey: { source: "request-hash" } };
    const ways: readonly [string, NonNullable<Setup["above"]>][] = [
      ["that is started late", lateStart],
      ["whose request comes late", lateRequest],
    ];

    it.each(ways)("%s has the whole of its deadline", async (_what, above) => {
      for (const deadlineMs of [1_000, 900]) {
        const ended = await outcome(method, { client, above, deadlineMs });
        expect(ended).toMatchObject({ code: Status.OK, afterMs: 700 });
        expect(ended.keys).toEqual([[expect.any(String)]]);
      }
    });

    it.each(ways)("%s ends at its deadline and not before", async (_what, above) => {
      const ended = await outcome(method, { client, above, deadlineMs: 1_000, does: hang });
      expect(ended).toMatchObject({ code: tooLate, afterMs: 1_000 });
    });

    it.each(ways)("%s has a default deadline from its creation on", async (_what, above) => {
      const ended = await outcome(method, {
        client: { ...client, deadline: { defaultMs: 600 } },
        above,
      });
      expect(ended).toMatchObject({ code: tooLate, afterMs: 600 });
    });
  },
);
