import { InterceptingCall, type Interceptor, Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { degradationOf } from "../../../src/grpc/status/degraded.js";
import { fallback } from "../../../src/policies/fallback/client.js";
import {
  alternative,
  empty,
  staticValue,
  value,
} from "../../../src/policies/fallback/client-providers.js";
import { staleCache } from "../../../src/policies/fallback/stale-cache/client-cache.js";
import { retry } from "../../../src/policies/retry/client.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { callOf, ended, settled } from "../../grpc/client/fake-call.js";
import { echo, failing, handlers } from "../../scene.js";
import { answer, below } from "./below-scene.js";
import { fallbackScene, message, replaceable, within } from "./client-scene.js";

describe.each(replaceable)("a fallback that observes calls of %s", (method) => {
  it("records what it would have answered, and lets the call fail", async () => {
    const made = await fallbackScene({
      mode: "observe",
      providers: [staticValue(message(1), { when: () => false, name: "other" }), empty()],
    });
    const { code, trailers } = await made.call(method);
    expect([code, degradationOf(trailers)]).toEqual([Status.UNAVAILABLE, []]);
    expect(made.decisions).toMatchObject([
      {
        policy: "fallback",
        verdict: "fallback",
        enforced: false,
        detail: "empty, instead of UNAVAILABLE",
      },
    ]);
    expect(made.decisions[0]).not.toHaveProperty("reason");
    expect(made.provider("empty")).toMatchObject({ observed: 1, answered: 0, running: 0 });
    expect(made.numbers().unanswered).toBe(0);
  });

  it("would replace headers alone for a single response only: a stream has begun with them", async () => {
    const fails = { code: Status.UNAVAILABLE, details: "after headers" };
    const made = await fallbackScene(
      { mode: "observe", providers: [empty()] },
      {
        handlers: {
          ...echo,
          unary: (call, callback) => {
            call.sendMetadata(new Metadata());
            made.clock.schedule(10, () => callback(fails));
          },
          serverStream: (call) => {
            call.sendMetadata(new Metadata());
            made.clock.schedule(10, () => call.emit("error", fails));
          },
        },
      },
    );
    expect((await made.call(method)).code).toBe(Status.UNAVAILABLE);
    expect(made.provider("empty")?.observed).toBe(method === "unary" ? 1 : 0);
  });

  it("records nothing while it is off", async () => {
    const made = await fallbackScene({ mode: "off", providers: [empty()] });
    expect((await made.call(method)).code).toBe(Status.UNAVAILABLE);
    expect(made.decisions).toEqual([]);
    expect(made.provider("empty")).toMatchObject({ observed: 0 });
  });

  it("says nothing of a failure that none of its providers is for", async () => {
    const made = await fallbackScene({
      mode: "observe",
      providers: [empty({ when: () => false })],
    });
    expect((await made.call(method)).code).toBe(Status.UNAVAILABLE);
    expect(made.decisions).toEqual([]);
  });

  it("hands on the headers of the response, before its messages", async () => {
    const headers = new Metadata();
    headers.set("x-served-by", "replica-7");
    const made = await fallbackScene(
      { mode: "observe", providers: [empty()] },
      {
        handlers: {
          ...echo,
          unary: (call, callback) => {
            call.sendMetadata(headers);
            callback(null, call.request);
          },
          serverStream: (call) => {
            call.sendMetadata(headers);
            echo.serverStream(call);
          },
        },
      },
    );
    const heard: unknown[] = [];
    const ended = new Promise((resolve) => {
      const call =
        method === "unary"
          ? made.client.unary(message(1), () => heard.push("message"))
          : made.client.serverStream(message(1)).on("data", () => heard.push("message"));
      call.on("metadata", (metadata: Metadata) => heard.push(metadata.get("x-served-by")[0]));
      call.on("status", resolve);
    });
    await made.link.until(ended, 1e6);
    expect(heard).toEqual(["replica-7", "message"]);
  });

  it("calls no function of the user's", async () => {
    let asked = 0;
    const made = await fallbackScene({
      mode: "observe",
      providers: [
        alternative(() => {
          asked += 1;
          return message(1);
        }),
        value(() => message(2)),
      ],
    });
    expect((await made.call(method)).code).toBe(Status.UNAVAILABLE);
    expect(asked).toBe(0);
    expect(made.provider("alternative")).toMatchObject({ observed: 1 });
    expect(made.provider("value")).toMatchObject({ observed: 0 });
  });

  it("stores answers and looks them up, shares no call and gives none that is fresh", async () => {
    const server = failing(2);
    const made = await fallbackScene(
      { mode: "observe", providers: [staleCache({ shared: true, freshMs: 10_000 })] },
      { handlers: server.handlers },
    );
    await made.call(method);
    expect(made.decisions).toMatchObject([
      { verdict: "stop", reason: "FALLBACK_UNANSWERED", enforced: false },
    ]);
    await made.call(method);
    await made.call(method);
    const both = [made.start(method), made.start(method)];
    await made.link.until(Promise.all(both.map(({ ended }) => ended)), 1e6);
    expect(server.calls()).toBe(5);
    expect(made.numbers().cache).toMatchObject({ stored: 3, fresh: 0, shared: 0, missed: 2 });
  });

  it("says how old the answer is that it would give", async () => {
    const server = { down: false };
    const made = await fallbackScene(
      { mode: "observe", providers: [staleCache({ shared: true })] },
      {
        handlers: handlers((call, answer) => {
          if (server.down) call.fail({ code: Status.UNAVAILABLE, details: "down" });
          else answer();
        }),
      },
    );
    await made.call(method);
    server.down = true;
    await made.link.pass(400);
    await made.call(method);
    expect(made.decisions).toMatchObject([
      { detail: expect.stringMatching(/^stale-cache, 4\d\d ms old, instead of UNAVAILABLE$/) },
    ]);
  });

  it("stores the answers to each caller, and none to a caller without a name", async () => {
    const tenant = (name: string) => {
      const metadata = new Metadata();
      metadata.set("tenant", name);
      return metadata;
    };
    const vary = ({ metadata }: { metadata: Metadata }) => metadata.get("tenant")[0]?.toString();
    const made = await fallbackScene(
      { mode: "observe", providers: [staleCache({ vary })] },
      { handlers: echo },
    );
    for (const name of ["a", "b", "a"]) await made.call(method, {}, tenant(name));
    await made.call(method);
    expect(made.numbers().cache).toMatchObject({ entries: 2, stored: 3 });
  });

  it("lets the caller cancel the call, and would not replace that", async () => {
    const made = await fallbackScene(
      { mode: "observe", providers: [empty({ when: () => true })] },
      { handlers: handlers(() => {}) },
    );
    const running = made.start(method);
    await made.link.pass(10);
    running.cancel();
    expect((await made.link.until(running.ended, 1e6)).code).toBe(Status.CANCELLED);
    await made.link.pass(10);
    expect([made.decisions, made.link.inFlight()]).toEqual([[], 0]);
  });

  it("takes none of the call's time", async () => {
    const made = await fallbackScene(
      { mode: "observe", reserveMs: 500, providers: [empty()] },
      { handlers: handlers(() => {}) },
    );
    const startMs = made.clock.now();
    const { code } = await made.call(method, within(made, 1_000));
    expect([code, made.clock.now() - startMs]).toEqual([Status.DEADLINE_EXCEEDED, 1_000]);
    expect(made.decisions.filter(({ policy }) => policy === "fallback")).toEqual([]);
  });

  it("keeps its cache when it is switched on", async () => {
    const server = { down: false };
    const made = await fallbackScene(
      { mode: "observe", providers: [staleCache({ shared: true })] },
      {
        handlers: handlers((call, answer) => {
          if (server.down) call.fail({ code: Status.UNAVAILABLE, details: "down" });
          else answer();
        }),
      },
    );
    const { received } = await made.call(method);
    server.down = true;
    made.weir.policy("fallback").mode = "enforce";
    expect((await made.call(method)).received).toEqual(received);
  });
});

it("a response that has begun with its message would not be replaced", () => {
  const made = below({ mode: "observe", providers: [empty()] });
  const { heard } = made.start();
  const service = callOf(made.calls);
  answer(service, 5);
  service.end(ended(Status.UNAVAILABLE, "broke off"));
  expect(heard).toEqual(["message 5", "UNAVAILABLE broke off"]);
  expect(made.decisions).toEqual([]);
});

it("a provider that fails is reported, and would not answer", async () => {
  const broken = new Error("no empty message");
  const responseDeserialize = () => {
    throw broken;
  };
  const made = below({ mode: "observe", providers: [empty()] });
  made.start("unary", { own: { responseDeserialize } });
  callOf(made.calls).end(ended(Status.UNAVAILABLE));
  await settled();
  expect(made.errors).toEqual([broken]);
  expect(made.decisions).toMatchObject([
    { verdict: "stop", detail: "no provider would have an answer" },
  ]);
});

it.each(["enforce", "observe"] as const)(
  "in mode %s a request is sent again as it was, though its caller uses the object again",
  async (mode) => {
    const transport = inMemoryTransport();
    const { clock, random } = transport;
    const requests: unknown[] = [];
    const foreign: Interceptor = (options, nextCall) =>
      new InterceptingCall(nextCall(options), {
        sendMessage(request, next) {
          requests.push({ ...request });
          next(request);
        },
      });
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: failing(1).handlers,
      clientOptions: {
        interceptors: [
          fallback({ mode, clock, providers: [staleCache({ shared: true, singleFlight: false })] }),
          retry({ maxAttempts: 2, idempotent: true, clock, random }),
          foreign,
        ],
      },
      serverInterceptors: [],
    });
    const request = message(3);
    const response = new Promise((resolve) => {
      link.client(ConformanceServiceClient).unary(request, resolve);
    });
    request.sequence = 4;
    expect(await link.until(response, 1e6)).toBe(null);
    expect(requests).toEqual([message(3), message(3)]);
  },
);
