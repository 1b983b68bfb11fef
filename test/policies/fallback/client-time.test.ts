import { InterceptingCall, type Interceptor, Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import type { ClientListener } from "../../../src/grpc/types.js";
import { fallback } from "../../../src/policies/fallback/client.js";
import {
  alternative,
  empty,
  staticValue,
  value,
} from "../../../src/policies/fallback/client-providers.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { echo, handlers, startCall, withResolvers } from "../../scene.js";
import { fallbackScene, given, message, received, replaceable, within } from "./client-scene.js";

const hanging = () => handlers(() => {});

describe.each(replaceable)("a call of %s whose service hangs", (method) => {
  it("leaves time for the fallback, and is answered before its deadline", async () => {
    const made = await fallbackScene(
      { reserveMs: 300, providers: [staticValue(message(7))] },
      { handlers: hanging() },
    );
    const startMs = made.clock.now();
    const { code, received: got } = await made.call(method, within(made, 1_000));
    expect([code, got]).toEqual([Status.OK, [7]]);
    expect(made.clock.now() - startMs).toBeGreaterThanOrEqual(700);
    expect(made.clock.now() - startMs).toBeLessThan(705);
    expect(made.decisions).toMatchObject([
      {
        verdict: "expire",
        reason: "DEADLINE_EXCEEDED",
        detail: "300 ms are kept for the fallback",
      },
      { verdict: "fallback", detail: "static, instead of DEADLINE_EXCEEDED" },
    ]);
    await made.link.pass(2_000);
    expect(made.link.inFlight()).toBe(0);
    expect(made.clock.pending.refs).toBe(0);
  });

  it("keeps what the providers may take, and at most a quarter of its time", async () => {
    const providers = [value((_, context) => given(context, 7), { timeoutMs: 90 }), empty()];
    for (const [deadlineMs, untilMs] of [
      [1_000, 900],
      [200, 150],
    ] as const) {
      const made = await fallbackScene({ providers }, { handlers: hanging() });
      const startMs = made.clock.now();
      expect((await made.call(method, within(made, deadlineMs))).code).toBe(Status.OK);
      const tookMs = made.clock.now() - startMs;
      expect([tookMs >= untilMs, tookMs < untilMs + 5]).toEqual([true, true]);
    }
  });

  it("has all its time where no provider is for a call whose time is over", async () => {
    const made = await fallbackScene(
      {
        reserveMs: 300,
        providers: [empty({ when: ({ code }) => code === Status.UNAVAILABLE })],
      },
      { handlers: hanging() },
    );
    const startMs = made.clock.now();
    expect((await made.call(method, within(made, 1_000))).code).toBe(Status.DEADLINE_EXCEEDED);
    expect(made.clock.now() - startMs).toBeGreaterThanOrEqual(1_000);
  });

  it("ends at its deadline while a provider works, which is told and whose place comes back", async () => {
    let signal: AbortSignal | undefined;
    const made = await fallbackScene(
      {
        reserveMs: 300,
        providers: [
          alternative((_, context) => {
            signal = context.signal;
            return new Promise(() => {});
          }),
        ],
      },
      { handlers: hanging() },
    );
    const startMs = made.clock.now();
    const { code } = await made.call(method, within(made, 1_000));
    expect([code, made.clock.now() - startMs]).toEqual([Status.DEADLINE_EXCEEDED, 1_000]);
    expect(signal?.aborted).toBe(true);
    expect(made.provider("alternative")).toMatchObject({ running: 0 });
    await made.link.pass(100);
    expect(made.clock.pending.refs).toBe(0);
  });

  it("is cancelled by its caller while a provider works", async () => {
    let signal: AbortSignal | undefined;
    let late: (answer: never) => void = () => {};
    const made = await fallbackScene(
      {
        providers: [
          alternative((_, context) => {
            signal = context.signal;
            return new Promise((resolve) => {
              late = resolve;
            });
          }),
          staticValue(message(1)),
        ],
      },
      { handlers: handlers((call) => call.fail({ code: Status.UNAVAILABLE, details: "down" })) },
    );
    const running = made.start(method);
    await made.link.pass(20);
    expect(made.provider("alternative")).toMatchObject({ running: 1 });
    running.cancel();
    const ended = await made.link.until(running.ended, 1e6);
    late(given({ kind: method === "unary" ? "unary" : "server-stream" }, 5) as never);
    await made.link.pass(2_000);
    expect([ended.code, ended.received]).toEqual([Status.CANCELLED, []]);
    expect(signal?.aborted).toBe(true);
    expect(made.provider("alternative")).toMatchObject({ running: 0, answered: 0 });
    expect(made.provider("static")).toMatchObject({ answered: 0 });
    expect(made.clock.pending.refs).toBe(0);
  });

  it("is not answered by a fallback when its caller cancels it", async () => {
    const made = await fallbackScene(
      { providers: [staticValue(message(1), { when: () => true })] },
      { handlers: hanging() },
    );
    const running = made.start(method);
    await made.link.pass(20);
    running.cancel();
    expect((await made.link.until(running.ended, 1e6)).code).toBe(Status.CANCELLED);
    expect(made.decisions).toEqual([]);
  });

  it("shows the breaker that its service did not answer in time", async () => {
    const made = await fallbackScene(
      { reserveMs: 300, providers: [staticValue(message(1))] },
      { handlers: hanging() },
      {
        breaker: {
          consecutiveFailures: 2,
          // A cold client would take a short deadline for the caller's affair.
          outcome: ({ code }) => (code === Status.DEADLINE_EXCEEDED ? "failure" : undefined),
        },
      },
    );
    for (let each = 0; each < 2; each += 1) await made.call(method, within(made, 1_000));
    const startMs = made.clock.now();
    await made.call(method, within(made, 1_000));
    expect(made.decisions.at(-2)).toMatchObject({ policy: "breaker", reason: "BREAKER_OPEN" });
    expect(made.clock.now() - startMs).toBeLessThan(10);
  });

  it("makes no attempt that could end only in the time that is kept", async () => {
    let calls = 0;
    const made = await fallbackScene(
      { reserveMs: 500, providers: [staticValue(message(1))] },
      {
        handlers: handlers((call) => {
          calls += 1;
          call.fail({ code: Status.UNAVAILABLE, details: "down" });
        }),
      },
      { retry: { maxAttempts: 5, idempotent: true, backoff: { baseMs: 600, jitter: "none" } } },
    );
    const { received: got } = await made.call(method, within(made, 1_000));
    expect([got, calls]).toEqual([[1], 1]);
    expect(made.decisions[0]).toMatchObject({ policy: "retry", reason: "RETRY_PAST_DEADLINE" });
  });

  it("waits as long as it takes without a deadline", async () => {
    const made = await fallbackScene({ providers: [empty()] }, { handlers: hanging() });
    const running = made.start(method);
    await made.link.pass(60_000);
    expect(made.decisions).toEqual([]);
    running.cancel();
    await made.link.until(running.ended, 1e6);
  });
});

describe("the time that the service is told", () => {
  it("is less by the reserve for a single response, and whole for a stream, which may use it", async () => {
    const told: number[] = [];
    const remaining: ConformanceServiceServer = {
      ...echo,
      unary: (call, callback) => {
        told.push(Number(call.getDeadline()));
        echo.unary(call, callback);
      },
      serverStream: (call) => {
        told.push(Number(call.getDeadline()));
        echo.serverStream(call);
      },
    };
    const made = await fallbackScene(
      { reserveMs: 300, providers: [empty()] },
      { handlers: remaining },
    );
    for (const method of replaceable) {
      const deadline = made.clock.wallNow() + 1_000;
      await made.call(method, { deadline });
      told.push(Math.round((told.pop() ?? 0) - deadline));
    }
    expect(told).toEqual([-300, 0]);
  });

  it("is all of the call's where no provider is for a call whose time is over", async () => {
    const told: number[] = [];
    const made = await fallbackScene(
      { reserveMs: 300, providers: [empty({ when: () => false })] },
      {
        handlers: {
          ...echo,
          unary: (call, callback) => {
            told.push(Number(call.getDeadline()));
            callback(null, call.request);
          },
        },
      },
    );
    const deadline = made.clock.wallNow() + 1_000;
    await made.call("unary", { deadline });
    expect(told.map((each) => Math.round(each - deadline))).toEqual([0]);
  });

  it("does not end a stream that has begun before its deadline", async () => {
    const slow: ConformanceServiceServer = {
      ...echo,
      serverStream: (call) => {
        call.write(message(1));
        made.clock.schedule(900, () => {
          call.write(message(2));
          call.end();
        });
      },
    };
    const made = await fallbackScene({ reserveMs: 400, providers: [empty()] }, { handlers: slow });
    const { code, received: got } = await made.call("serverStream", within(made, 1_000));
    expect([code, got]).toEqual([Status.OK, [1, 2]]);
    expect(made.decisions).toEqual([]);
  });
});

it.each(replaceable)(
  "a %s for which no time is kept ends at its deadline without a fallback",
  async (method) => {
    const transport = inMemoryTransport();
    const { clock } = transport;
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: hanging(),
      clientOptions: {
        interceptors: [
          fallback({
            clock,
            reserveMs: 0,
            providers: [staticValue(message(7), { when: () => true })],
          }),
        ],
      },
      serverInterceptors: [],
    });
    const client = link.client(ConformanceServiceClient);
    const { ended } = startCall(client, method, within(transport, 500), new Metadata());
    const { code, received: got } = await link.until(ended, 1e6);
    expect([code, got]).toEqual([Status.DEADLINE_EXCEEDED, []]);
  },
);

it("a stream keeps no time for a fallback any more once it has begun", async () => {
  const began = withResolvers<unknown>();
  const made = await fallbackScene(
    { reserveMs: 400, providers: [empty()] },
    { handlers: { ...echo, serverStream: (call) => call.write(message(1)) } },
  );
  const call = made.client.serverStream(message(1), new Metadata(), within(made, 1_000));
  call.on("error", () => {}).once("data", began.resolve);
  const before = made.clock.pending.refs;
  await made.link.until(began.promise, 1e6);
  expect(made.clock.pending.refs).toBe(before - 1);
  call.cancel();
});

describe("what comes from a service whose time is over", () => {
  /** A service that goes on after its call was cancelled, and the listener that it answers to. */
  async function stubborn(onCancel: (below: Partial<ClientListener>) => void = () => {}) {
    const transport = inMemoryTransport();
    const { clock } = transport;
    let below: Partial<ClientListener> = {};
    const deaf: Interceptor = (options, nextCall) =>
      new InterceptingCall(nextCall(options), {
        start: (metadata, listener, next) => {
          below = listener;
          next(metadata, {});
        },
        cancel: () => onCancel(below),
      });
    const failures: Status[] = [];
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: hanging(),
      clientOptions: {
        interceptors: [
          fallback({
            clock,
            reserveMs: 300,
            providers: [
              alternative(async (_, context) => {
                failures.push(context.failure.code);
                await new Promise<void>((resolve) => clock.schedule(100, resolve));
                return given(context, 7);
              }),
            ],
          }),
          deaf,
        ],
      },
      serverInterceptors: [],
    });
    const client = link.client(ConformanceServiceClient);
    return { transport, link, client, failures, late: () => below };
  }

  it("is no second failure, though it ends in the middle of its cancellation", async () => {
    const { transport, link, client, failures } = await stubborn((below) => {
      const metadata = new Metadata();
      below.onReceiveStatus?.({ code: Status.UNAVAILABLE, details: "cancelled", metadata });
    });
    const { ended } = startCall(client, "unary", within(transport, 1_000), new Metadata());
    expect((await link.until(ended, 1e6)).received).toEqual([7]);
    expect(failures).toEqual([Status.DEADLINE_EXCEEDED]);
  });

  it.each(replaceable)(
    "is dropped, and a %s has the answer of its fallback alone",
    async (method) => {
      const { transport, link, client, late } = await stubborn();
      const { ended } = startCall(client, method, within(transport, 1_000), new Metadata());
      await link.pass(750);
      const headers = new Metadata();
      headers.set("from", "service");
      late().onReceiveMetadata?.(headers);
      late().onReceiveMessage?.(message(1));
      late().onReceiveStatus?.({ code: Status.OK, details: "", metadata: new Metadata() });
      const { code, received: got } = await link.until(ended, 1e6);
      expect([code, got]).toEqual([Status.OK, received(method, 7)]);
    },
  );
});

describe("another client's method", () => {
  async function twoServers(implementation: ConformanceServiceServer) {
    let other: ConformanceServiceClient | undefined;
    // The scene makes the transport, and the policy is made with the scene.
    const late = {
      unary: (...args: Parameters<ConformanceServiceClient["unary"]>) => other?.unary(...args),
    } as unknown as ConformanceServiceClient;
    const providers = [alternative(late, "unary", { timeoutMs: 200 })];
    const made = await fallbackScene({ providers });
    const link = await made.transport.open({
      service: ConformanceServiceService,
      implementation,
      clientOptions: {},
      serverInterceptors: [],
    });
    other = link.client(ConformanceServiceClient);
    return { made, other, link };
  }

  it("answers, with the request and metadata of the call, and a deadline", async () => {
    const seen: { tenant: unknown; leftMs: number }[] = [];
    const { made } = await twoServers({
      ...echo,
      unary: (call, callback) => {
        const leftMs = Number(call.getDeadline()) - made.clock.wallNow();
        seen.push({ tenant: call.metadata.get("tenant")[0], leftMs });
        callback(null, { ...call.request, sequence: call.request.sequence + 100 });
      },
    });
    const metadata = new Metadata();
    metadata.set("tenant", "blue");
    const { code, received: got } = await made.call("unary", {}, metadata);
    expect([code, got]).toEqual([Status.OK, [103]]);
    expect(seen).toMatchObject([{ tenant: "blue" }]);
    // With the net behind the policy's own timer.
    expect(seen[0]?.leftMs).toBeLessThanOrEqual(250);
  });

  it("is cancelled when it takes too long, and its failure is no defect", async () => {
    const ended: string[] = [];
    const { made, link } = await twoServers({
      ...echo,
      unary: (call) => call.on("cancelled", () => ended.push("cancelled")),
    });
    const { code, details } = await made.call("unary");
    expect([code, details]).toEqual([Status.UNAVAILABLE, "not now"]);
    await made.link.pass(100);
    expect(ended).toEqual(["cancelled"]);
    expect(link.inFlight()).toBe(0);
    expect(made.provider("alternative")).toMatchObject({ running: 0, timedOut: 1 });
  });

  it("fails like a service, which is not reported", async () => {
    const { made } = await twoServers({
      ...echo,
      unary: (_call, callback) => callback({ code: Status.UNAVAILABLE, details: "also down" }),
    });
    expect((await made.call("unary")).details).toBe("not now");
    expect(made.provider("alternative")).toMatchObject({ failed: 1 });
  });

  it("must be one", () => {
    expect(() => alternative({} as ConformanceServiceClient, "unary")).toThrow(
      'alternative("unary") must be a method of the client',
    );
  });
});

it("streams of another client are read, cancelled and let fail", async () => {
  const made = await fallbackScene({
    providers: [
      alternative((request, context) => {
        const stream = other.serverStream(
          { payload: Buffer.alloc(0), sequence: (request as { sequence: number }).sequence + 1 },
          context.metadata,
        );
        context.signal.addEventListener("abort", () => stream.cancel());
        return stream;
      }),
    ],
  });
  const link = await made.transport.open({
    service: ConformanceServiceService,
    implementation: echo,
    clientOptions: {},
    serverInterceptors: [],
  });
  const other = link.client(ConformanceServiceClient);
  const { code, received: got } = await made.call("serverStream");
  expect([code, got]).toEqual([Status.OK, [1, 2, 3, 4]]);
  expect(received("serverStream", 1)).toEqual([1, 2]);
});
