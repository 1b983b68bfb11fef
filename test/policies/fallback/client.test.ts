import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { degradationOf } from "../../../src/grpc/status/degraded.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import { fallback } from "../../../src/policies/fallback/client.js";
import {
  empty,
  type FallbackContext,
  type FallbackFailure,
  staticValue,
  value,
} from "../../../src/policies/fallback/client-providers.js";
import { staleCache } from "../../../src/policies/fallback/stale-cache/client-cache.js";
import { createWeir } from "../../../src/weir.js";
import { callOf, fakeBelow, optionsOf } from "../../grpc/client/fake-call.js";
import { failing, handlers, path, scene } from "../../scene.js";
import {
  fallbackScene,
  given,
  message,
  received,
  replaceable,
  unary,
  within,
} from "./client-scene.js";

describe.each(replaceable)("a failed call of %s", (method) => {
  it("is answered by the first provider that has an answer, and marked", async () => {
    const { call, decisions, numbers } = await fallbackScene({
      providers: [
        value(() => undefined, { name: "silent" }),
        value((_, context) => given(context, 40)),
        empty(),
      ],
    });
    const { code, received: got, trailers } = await call(method);
    expect([code, got]).toEqual([Status.OK, received(method, 40)]);
    const methodName = path[method].slice(1);
    expect(trailers.get("x-weir-degraded")).toEqual([`fallback=value;method=${methodName}`]);
    expect(degradationOf(trailers)).toEqual([
      { source: "fallback", name: "value", method: methodName },
    ]);
    expect(decisions).toMatchObject([
      {
        policy: "fallback",
        verdict: "fallback",
        enforced: true,
        detail: "value, instead of UNAVAILABLE",
      },
    ]);
    expect(numbers()).toMatchObject({
      unanswered: 0,
      providers: {
        silent: { running: 0, none: 1 },
        value: { running: 0, answered: 1 },
        empty: { answered: 0 },
      },
    });
  });

  it("is answered when the retries have given up, and not before", async () => {
    const server = failing(Number.POSITIVE_INFINITY);
    const { call } = await fallbackScene(
      { providers: [value((_, context) => given(context, 40))] },
      { handlers: server.handlers },
      { retry: { maxAttempts: 3 } },
    );
    expect((await call(method)).received).toEqual(received(method, 40));
    expect(server.calls()).toBe(3);
  });

  it("is told to the provider with its request, its metadata and its failure", async () => {
    const seen: { request: unknown; context: FallbackContext }[] = [];
    const { call } = await fallbackScene({
      providers: [
        value((request, context) => {
          seen.push({ request, context });
          return given(context, 1);
        }),
      ],
    });
    const metadata = new Metadata();
    metadata.set("tenant", "blue");
    await call(method, {}, metadata);
    expect(seen).toMatchObject([
      {
        request: message(3),
        context: {
          method: path[method],
          failure: { code: Status.UNAVAILABLE, details: "not now", origin: "remote" },
          deadline: expect.any(Number),
        },
      },
    ]);
    expect(seen[0]?.context.metadata.get("tenant")).toEqual(["blue"]);
    expect(seen[0]?.context.metadata).not.toBe(metadata);
    expect(seen[0]?.context.signal.aborted).toBe(false);
  });

  it("ends with its own failure, as it was, when no provider has an answer", async () => {
    const trailers = new Metadata();
    trailers.set("reason", "flood");
    const server = failing(9, { code: Status.UNAVAILABLE, details: "closed", metadata: trailers });
    const { call, decisions, numbers } = await fallbackScene(
      { providers: [value(() => undefined)] },
      { handlers: server.handlers },
    );
    const ended = await call(method);
    expect([ended.code, ended.details]).toEqual([Status.UNAVAILABLE, "closed"]);
    expect(ended.trailers.get("reason")).toEqual(["flood"]);
    expect(degradationOf(ended.trailers)).toEqual([]);
    expect(decisions).toMatchObject([
      {
        policy: "fallback",
        verdict: "stop",
        reason: "FALLBACK_UNANSWERED",
        detail: "value: nothing",
      },
    ]);
    expect(numbers().unanswered).toBe(1);
  });

  it("keeps a rejection of ours recognizable when no provider has an answer", async () => {
    const made = await fallbackScene(
      { providers: [value(() => undefined)] },
      {},
      { breaker: { consecutiveFailures: 1, failureRate: false } },
    );
    await made.call(method);
    const { error } = await made.call(method);
    expect(rejectionOf(error)).toMatchObject({ reason: "BREAKER_OPEN", local: true });
  });

  it("has another answer while the breaker is open", async () => {
    const origins: unknown[] = [];
    const when = ({ origin }: FallbackFailure) => {
      origins.push(origin);
      return true;
    };
    const made = await fallbackScene(
      { providers: [value((_, context) => given(context, 40), { when })] },
      {},
      { breaker: { consecutiveFailures: 1, failureRate: false } },
    );
    for (let each = 0; each < 3; each += 1) {
      expect((await made.call(method)).received).toEqual(received(method, 40));
    }
    expect(made.decisions.filter(({ reason }) => reason === "BREAKER_OPEN")).toHaveLength(2);
    expect(origins).toEqual(["remote", "local-policy", "local-policy"]);
  });

  it.each([
    Status.INVALID_ARGUMENT,
    Status.NOT_FOUND,
    Status.PERMISSION_DENIED,
    Status.ABORTED,
    Status.CANCELLED,
  ])("is left alone where the caller has earned it: code %i", async (code) => {
    const server = failing(9, { code, details: "no" });
    const { call, decisions } = await fallbackScene(
      { providers: [staticValue(message(1))] },
      { handlers: server.handlers },
    );
    expect((await call(method)).code).toBe(code);
    expect(decisions).toEqual([]);
  });

  it("goes to the providers that are for its kind", async () => {
    const asked: FallbackFailure[] = [];
    const { call } = await fallbackScene(
      {
        providers: [
          empty({ when: ({ code }) => code === Status.UNAVAILABLE }),
          staticValue(message(8), {
            when: (failure) => {
              asked.push(failure);
              return failure.code === Status.NOT_FOUND;
            },
          }),
        ],
      },
      { handlers: failing(9, { code: Status.NOT_FOUND, details: "no such shop" }).handlers },
    );
    expect((await call(method)).received).toEqual([8]);
    expect(asked.at(-1)).toMatchObject({ code: Status.NOT_FOUND, rejection: undefined });
  });

  it("goes on to the next when a provider throws or is rejected, which is reported", async () => {
    const errors: unknown[] = [];
    const { call, numbers } = await fallbackScene(
      {
        providers: [
          value(
            () => {
              throw new Error("thrown");
            },
            { name: "throws" },
          ),
          value(() => Promise.reject(new Error("rejected")), { name: "rejects" }),
          value((_, context) => Promise.resolve(given(context, 5))),
        ],
      },
      { onError: (error) => errors.push(error) },
    );
    expect((await call(method)).received).toEqual(received(method, 5));
    expect(errors).toEqual([new Error("thrown"), new Error("rejected")]);
    expect(numbers().providers).toMatchObject({
      throws: { failed: 1, running: 0 },
      rejects: { failed: 1, running: 0 },
    });
  });

  it("is asked about as by default when a predicate throws, which is reported", async () => {
    const errors: unknown[] = [];
    const when = () => {
      throw new Error("predicate");
    };
    const { call } = await fallbackScene(
      { providers: [staticValue(message(6), { when })] },
      { onError: (error) => errors.push(error) },
    );
    expect((await call(method)).received).toEqual([6]);
    expect(errors).toEqual([new Error("predicate")]);
  });

  it("goes on to the next when a provider gives what cannot be an answer", async () => {
    const errors: unknown[] = [];
    const wrong = method === "unary" ? (async function* () {})() : message(1);
    const { call } = await fallbackScene(
      { providers: [value(() => wrong), empty()] },
      { onError: (error) => errors.push(error) },
    );
    expect((await call(method)).code).toBe(Status.OK);
    expect(errors).toEqual([expect.any(TypeError)]);
  });

  it("passes over a provider that works for as many calls as it may", async () => {
    const { start, link, provider } = await fallbackScene({
      providers: [
        value(() => new Promise(() => {}), { name: "slow", maxConcurrent: 1, timeoutMs: 50 }),
        staticValue(message(2)),
      ],
    });
    const both = [start(method), start(method)];
    const ends = await link.until(Promise.all(both.map(({ ended }) => ended)), 1e6);
    expect(ends.map((ended) => ended.received)).toEqual([[2], [2]]);
    expect(provider("slow")).toMatchObject({ running: 0, busy: 1, timedOut: 1 });
  });

  it("is not answered once the weir is closed", async () => {
    const held: (() => void)[] = [];
    const gone = { code: Status.UNAVAILABLE, details: "gone" };
    const { weir, start, link } = await fallbackScene(
      { providers: [staticValue(message(2))] },
      { handlers: handlers((call) => held.push(() => call.fail(gone))) },
    );
    const running = start(method);
    await link.pass(5);
    weir.close();
    for (const fail of held) fail();
    expect((await link.until(running.ended, 1e6)).details).toBe("gone");
  });

  it("asks no further provider once the weir is closed", async () => {
    const { weir, start, link, clock, provider } = await fallbackScene({
      providers: [
        value(() => new Promise(() => {}), { name: "slow", timeoutMs: 50 }),
        staticValue(message(2)),
      ],
    });
    const running = start(method);
    await link.pass(20);
    expect(weir.snapshot().waiting).toBe(1);
    const closedMs = clock.now();
    weir.close();
    expect((await link.until(running.ended, 1e6)).details).toBe("not now");
    expect(clock.now()).toBe(closedMs);
    expect(provider("static")).toMatchObject({ answered: 0 });
  });

  it("passes through untouched when the policy is off", async () => {
    const made = await fallbackScene({ mode: "off", providers: [staticValue(message(2))] });
    expect((await made.call(method)).code).toBe(Status.UNAVAILABLE);
    made.weir.policy("fallback").mode = "enforce";
    expect((await made.call(method)).code).toBe(Status.OK);
  });
});

describe("a call that succeeds", () => {
  it.each(replaceable)("of %s is what it is without a fallback", async (method) => {
    const fallback = { providers: [staticValue(message(9))] };
    const { call, decisions, provider } = await fallbackScene(fallback, {
      handlers: failing(0).handlers,
    });
    const { code, received: got, trailers } = await call(method);
    expect([code, got]).toEqual([Status.OK, method === "unary" ? [3] : [1, 2, 3]]);
    expect(degradationOf(trailers)).toEqual([]);
    expect(decisions).toEqual([]);
    expect(provider("static")).toMatchObject({ answered: 0, running: 0 });
  });
});

describe("calls that stream their request", () => {
  it.each(["clientStream", "bidiStream"] as const)(
    "of %s pass through, which is said once",
    async (method) => {
      const errors: unknown[] = [];
      const { call } = await fallbackScene(
        { providers: [empty()] },
        { onError: (error) => errors.push(error) },
      );
      expect((await call(method)).code).toBe(Status.UNAVAILABLE);
      expect((await call(method)).code).toBe(Status.UNAVAILABLE);
      expect(errors).toEqual([expect.any(Error)]);
      expect(String(errors[0])).toContain(`${path[method]} streams its request`);
    },
  );
});

it("of at most a thousand methods it is said that a fallback is not for them", () => {
  const errors: unknown[] = [];
  const interceptor = fallback({
    providers: [empty()],
    onError: (error) => errors.push(error),
  });
  const { nextCall } = fakeBelow();
  for (let method = 0; method < 1_100; method += 1) {
    const { clientStream } = ConformanceServiceService;
    interceptor({ method_definition: { ...clientStream, path: `/a.B/M${method}` } }, nextCall);
  }
  expect(errors).toHaveLength(1_000);
});

it("a call without a fallback, and without a handler that it is made for, is the call below", () => {
  const { calls, nextCall } = fakeBelow();
  const call = fallback({ mode: "off", providers: [empty()] })(optionsOf(), nextCall);
  expect(call).toBe(callOf(calls));
});

it("a provider is asked once, and not for each call, whether it is for a call whose time is over", async () => {
  const asked: Status[] = [];
  const when = ({ code }: FallbackFailure) => {
    asked.push(code);
    return true;
  };
  const made = await fallbackScene(
    { providers: [empty({ when })] },
    { handlers: failing(0).handlers },
  );
  for (let call = 0; call < 3; call += 1) await made.call("unary", within(made, 1_000));
  expect(asked).toEqual([Status.DEADLINE_EXCEEDED]);
});

describe("the answers that need no function", () => {
  it("empty: the message of defaults, or no messages", async () => {
    const { call } = await fallbackScene({ providers: [empty()] });
    expect((await call("unary")).received).toEqual([0]);
    expect((await call("serverStream")).received).toEqual([]);
  });

  it("static: the message, or the messages of an array", async () => {
    const { call } = await fallbackScene({ providers: [staticValue(message(7))] });
    expect((await call("unary")).received).toEqual([7]);
    expect((await call("serverStream")).received).toEqual([7]);
    const several = await fallbackScene({ providers: [staticValue([message(7), message(8)])] });
    expect((await several.call("serverStream")).received).toEqual([7, 8]);
  });
});

describe("a response of a fallback", () => {
  it("is told from one of the service by itself", async () => {
    const made = await fallbackScene(
      { providers: [value(() => message(5))] },
      { handlers: failing(1).handlers },
    );
    const first = await unary(made, 3);
    const second = await unary(made, 3);
    expect(degradationOf(first.response)).toMatchObject([{ source: "fallback", name: "value" }]);
    expect(degradationOf(second.response)).toEqual([]);
  });
});

describe("a fallback that stands alone", () => {
  it("answers as in a pipeline", async () => {
    const { transport } = await scene();
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: failing(9).handlers,
      clientOptions: {
        interceptors: [fallback({ clock: transport.clock, providers: [staticValue(message(4))] })],
      },
      serverInterceptors: [],
    });
    const client = link.client(ConformanceServiceClient);
    expect((await unary({ client, link }, 1)).sequence).toBe(4);
  });
});

describe("fallback options", () => {
  const provider = empty();

  it.each([
    [{ providers: [] }, "client.fallback.providers must be an array of providers"],
    [{}, "client.fallback.providers must be an array of providers, got undefined"],
    [{ providers: [{}] }, "client.fallback.providers[0] must be made by staleCache"],
    [
      { providers: [provider, empty()] },
      'client.fallback.providers[1].name must be another than those before it, got "empty"',
    ],
    [
      { providers: [staleCache({ shared: true }), staleCache({ shared: true, name: "b" })] },
      "client.fallback.providers[1] must be the only stale cache of the chain",
    ],
    [
      {
        providers: [staleCache({ shared: true }), empty(), staleCache({ shared: true, name: "b" })],
      },
      "client.fallback.providers[2] must be the only stale cache of the chain",
    ],
    [{ providers: [provider], reserveMs: -1 }, "client.fallback.reserveMs must be milliseconds"],
    [{ providers: [provider], mode: "on" }, "client.fallback.mode must be one of"],
    [{ providers: [provider], key: () => "" }, "client.fallback.key must be absent"],
    [
      { providers: [provider], provider },
      "client.fallback.provider is not an option; did you mean providers? The options",
    ],
  ])("refuse %#", (fallback, message) => {
    const build = () => createWeir().client({ fallback: fallback as never });
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(message);
  });

  it.each([
    [() => value("no" as never), "value must be a function"],
    [() => staticValue(undefined), "staticValue must be a response"],
    [() => empty({ timeoutMs: 5 } as never), "empty.timeoutMs is not an option"],
    [() => empty({ when: 5 } as never), "empty.when must be a function"],
    [() => value(() => 1, { maxConcurrent: 0 }), "value.maxConcurrent"],
  ])("of single providers refuse %#", (build, message) => {
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(message);
  });

  it("of a method are laid over those of the client", async () => {
    const { call } = await scene({
      handlers: failing(9).handlers,
      client: {
        retry: false,
        breaker: false,
        fallback: { providers: [staticValue(message(1))] },
        methods: {
          [path.unary]: { fallback: { providers: [staticValue(message(2))] } },
          [path.serverStream]: { fallback: false },
        },
      },
    });
    expect((await call("unary")).received).toEqual([2]);
    expect((await call("serverStream")).code).toBe(Status.UNAVAILABLE);
  });
});
