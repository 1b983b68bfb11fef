import {
  type CallInvocationTransformer,
  type ClientOptions,
  InterceptingCall,
  type Interceptor,
  ServerInterceptingCall,
  type ServerInterceptor,
  status as Status,
} from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../src/core/options.js";
import { rejectionOf } from "../src/grpc/status/rejection.js";
import type { ClientPolicy } from "../src/pipeline/client.js";
import type { ServerPolicy } from "../src/pipeline/server.js";
import { createWeir, type WeirOptions } from "../src/weir.js";
import { failing, kinds, path, scene } from "./scene.js";

function counting(counts: string[], name: string): Interceptor {
  return (options, nextCall) => {
    counts.push(name);
    return new InterceptingCall(nextCall(options));
  };
}

describe("the options for a client", () => {
  it("keep the user's interceptors outside, so that they see one call", async () => {
    const seen: string[] = [];
    const server = failing(2);
    const { call } = await scene({
      handlers: server.handlers,
      ownClient: { interceptors: [counting(seen, "own")] },
    });
    expect((await call("unary")).code).toBe(Status.OK);
    expect(seen).toEqual(["own"]);
    expect(server.calls()).toBe(3);
  });

  it("keep the user's interceptor providers, and the toolkit beside them", async () => {
    const seen: string[] = [];
    const server = failing(1);
    const { call } = await scene({
      handlers: server.handlers,
      ownClient: { interceptor_providers: [() => counting(seen, "own")] },
    });
    expect((await call("unary")).code).toBe(Status.OK);
    expect(seen).toEqual(["own"]);
    expect(server.calls()).toBe(2);
  });

  it("keep the user's transformer and channel options", async () => {
    const seen: string[] = [];
    const transformer: CallInvocationTransformer = (properties) => {
      seen.push(properties.methodDefinition.path);
      return properties;
    };
    const { call } = await scene({ ownClient: { callInvocationTransformer: transformer } });
    await call("unary");
    expect(seen).toEqual([path.unary]);
    const options = createWeir().client({}, { "grpc.keepalive_time_ms": 1_000 });
    expect(options["grpc.keepalive_time_ms"]).toBe(1_000);
    expect(options["grpc.service_config_disable_resolution"]).toBe(1);
  });

  it("let a channel connect again soon, unless they say otherwise themselves", () => {
    const backoff = (own: ClientOptions) => {
      const options = createWeir().client({}, own);
      const { "grpc.initial_reconnect_backoff_ms": initialMs } = options;
      return [initialMs, options["grpc.max_reconnect_backoff_ms"]];
    };
    expect(backoff({})).toEqual([100, 5_000]);
    expect(backoff({ "grpc.initial_reconnect_backoff_ms": 700 })).toEqual([700, 5_000]);
    expect(backoff({ "grpc.max_reconnect_backoff_ms": 900 })).toEqual([100, 900]);
    // What is left out does not contradict what is said.
    expect(backoff({ "grpc.initial_reconnect_backoff_ms": 60_000 })).toEqual([60_000, 60_000]);
    expect(backoff({ "grpc.max_reconnect_backoff_ms": 50 })).toEqual([50, 50]);
  });

  it("have only keys that grpc-js knows, so that channels can be shared", () => {
    const own = Object.keys(createWeir().client());
    expect(own.filter((key) => !key.startsWith("grpc"))).toEqual([
      "interceptors",
      "callInvocationTransformer",
    ]);
  });
});

describe.each(kinds)("a call of %s with interceptors of its own", (method) => {
  it("has them and the toolkit", async () => {
    for (const key of ["interceptors", "interceptor_providers"] as const) {
      const seen: string[] = [];
      const server = failing(1);
      const { call } = await scene({ handlers: server.handlers });
      const own = counting(seen, "own");
      const options =
        key === "interceptors" ? { interceptors: [own] } : { interceptor_providers: [() => own] };
      expect((await call(method, options)).code).toBe(Status.OK);
      expect(seen).toEqual(["own"]);
      expect(server.calls()).toBe(2);
    }
  });
});

describe("the options for a server", () => {
  it("keep the user's interceptors next to the handlers", async () => {
    const seen: string[] = [];
    const own: ServerInterceptor = (method, call) => {
      seen.push(method.path);
      return new ServerInterceptingCall(call);
    };
    const { call } = await scene({ server: {}, ownServer: { interceptors: [own] } });
    await call("unary");
    expect(seen).toEqual([path.unary]);
    expect(createWeir().server({}, { "grpc.max_concurrent_streams": 7 })).toMatchObject({
      "grpc.max_concurrent_streams": 7,
    });
  });
});

describe("policies of single methods", () => {
  it("are laid over those of the client, option by option; the breaker stays shared", async () => {
    const server = failing(99);
    const { call, weir } = await scene({
      handlers: server.handlers,
      client: {
        retry: { maxAttempts: 2, backoff: { baseMs: 1 } },
        breaker: { consecutiveFailures: 1_000, failureRate: false },
        methods: {
          "weir.v1.ConformanceService": { retry: { maxAttempts: 3 } },
          [path.unary]: { retry: { maxAttempts: 4 } },
          [path.bidiStream.slice(1)]: { retry: false },
        },
      },
    });
    const counts: number[] = [];
    for (const method of ["clientStream", "unary", "bidiStream"] as const) {
      const before = server.calls();
      await call(method);
      counts.push(server.calls() - before);
    }
    expect(counts).toEqual([3, 4, 1]);
    expect(weir.snapshot().policies.breaker?.instances).toHaveLength(1);
  });

  it("may have a bulkhead of their own", async () => {
    const { weir } = await scene({
      client: { bulkhead: {}, methods: { [path.unary]: { bulkhead: { maxConcurrent: 3 } } } },
    });
    expect(weir.snapshot().policies.bulkhead?.instances).toHaveLength(2);
  });
});

describe("the hand on a policy", () => {
  it("switches the mode of what is built before and after, and keeps counters", async () => {
    const server = failing(1);
    const { call, weir } = await scene({
      handlers: server.handlers,
      client: { retry: false, breaker: { consecutiveFailures: 1 } },
    });
    await call("unary");
    expect(rejectionOf((await call("unary")).error ?? {})?.reason).toBe("BREAKER_OPEN");
    weir.policy("breaker").mode = "observe";
    expect((await call("unary")).code).toBe(Status.OK);
    weir.policy("breaker").mode = "enforce";
    // What was observed is real: the probes that passed meanwhile have not closed it.
    expect((await call("unary")).code).toBe(Status.UNAVAILABLE);
    weir.policy("breaker").mode = "off";
    weir.client();
    expect(weir.policy("breaker").mode).toBe("off");
    expect((await call("unary")).code).toBe(Status.OK);
  });

  it("refuses a mode or a policy that does not exist", () => {
    const weir = createWeir();
    expect(() => {
      weir.policy("breaker").mode = "on" as "off";
    }).toThrow(InvalidOptionError);
    expect(() => weir.policy("braker" as "breaker")).toThrow(/one of retry, hedge, breaker/);
  });
});

describe("closing the weir", () => {
  it("ends calls that wait between attempts or in a queue, and those that are made later", async () => {
    const server = failing(99);
    const { start, link, weir, clock } = await scene({
      handlers: server.handlers,
      client: { breaker: false, retry: { backoff: { baseMs: 2_000, jitter: "none" } } },
    });
    const waiting = start("unary");
    await link.pass(10);
    expect(weir.snapshot().waiting).toBe(1);
    weir.close();
    const ended = await link.until(waiting.ended);
    expect(rejectionOf(ended.error ?? {})).toMatchObject({ reason: "CLOSED", local: true });
    expect(rejectionOf((await link.until(start("unary").ended)).error ?? {})?.reason).toBe(
      "CLOSED",
    );
    expect(weir.snapshot().waiting).toBe(0);
    expect(clock.pending.refs).toBe(0);
    await link.pass(10_000);
    expect(server.calls()).toBe(1);
  });
});

describe("a client that is closed while a call waits between attempts", () => {
  it.each(kinds)("ends the %s with UNAVAILABLE, reason CLOSED", async (method) => {
    const server = failing(99);
    const { start, link, client } = await scene({
      handlers: server.handlers,
      client: { retry: { backoff: { baseMs: 500, jitter: "none" } } },
    });
    const waiting = start(method);
    await link.pass(10);
    client.close();
    const ended = await link.until(waiting.ended);
    expect(ended.code).toBe(Status.UNAVAILABLE);
    expect(server.calls()).toBe(1);
  });
});

const nonsense: readonly (readonly [string, () => unknown, string])[] = [
  ...(
    [
      [{ retry: { maxAttempts: 0 } }, "client.retry.maxAttempts"],
      [{ retry: { maxAttempts: 2.5 } }, "client.retry.maxAttempts"],
      [{ retry: { maxAttempts: "3" } }, "client.retry.maxAttempts"],
      [{ retry: { maxAttempts: Number.NaN } }, "client.retry.maxAttempts"],
      [{ retry: { codes: [0] } }, "client.retry.codes[0]"],
      [{ retry: { codes: [17] } }, "client.retry.codes[0]"],
      [{ retry: { codes: "UNAVAILABLE" } }, "client.retry.codes"],
      [{ retry: { backoff: { baseMs: -1 } } }, "client.retry.backoff.baseMs"],
      [{ retry: { backoff: { jitter: "lots" } } }, "client.retry.backoff.jitter"],
      [{ retry: { idempotent: "yes" } }, "client.retry.idempotent"],
      [{ retry: { attempts: 3 } }, "client.retry.attempts"],
      [{ retry: { mode: "on" } }, "client.retry.mode"],
      [{ retry: true }, "client.retry"],
      [{ breaker: { failureRate: 1.5 } }, "client.breaker.failureRate"],
      [{ breaker: { openMs: Number.POSITIVE_INFINITY } }, "client.breaker.openMs"],
      [{ breaker: { key: "host" } }, "client.breaker.key"],
      [{ bulkhead: { maxConcurrent: 0 } }, "client.bulkhead.maxConcurrent"],
      [{ bulkhead: { maxWaitMs: -5 } }, "client.bulkhead.maxWaitMs"],
      [{ deadline: { defaultMs: 0 } }, "client.deadline.defaultMs"],
      [{ deadline: { marginMs: 1e12 } }, "client.deadline.marginMs"],
      [{ deadline: { default: 5 } }, "client.deadline.default"],
      [{ hedge: {} }, "client.hedge"],
      [{ methods: { "no spaces allowed": {} } }, 'client.methods["no spaces allowed"]'],
      [
        { methods: { "a.B/C": { retry: { maxAttempts: -1 } } } },
        'client.methods["a.B/C"].retry.maxAttempts',
      ],
      [{ methods: [] }, "client.methods"],
      [null, "client"],
      ["retry", "client"],
    ] as const
  ).map(
    ([policy, option]) =>
      [
        `client ${JSON.stringify(policy)}`,
        () => createWeir().client(policy as unknown as ClientPolicy),
        option,
      ] as const,
  ),
  ...(
    [
      [{ admission: { limit: 0 } }, "server.admission.limit"],
      [{ admission: { thresholds: { low: 0.9, normal: 0.5 } } }, "server.admission.thresholds"],
      [{ admission: { priority: { default: "urgent" } } }, "server.admission.priority.default"],
      [{ admission: { mode: 1 } }, "server.admission.mode"],
      [{ deadlineGuard: { minRemainingMs: "1s" } }, "server.deadlineGuard.minRemainingMs"],
      [{ limit: 5 }, "server.limit"],
    ] as const
  ).map(
    ([policy, option]) =>
      [
        `server ${JSON.stringify(policy)}`,
        () => createWeir().server(policy as unknown as ServerPolicy),
        option,
      ] as const,
  ),
  ...(
    [
      [{ clock: {} }, "createWeir.clock"],
      [{ random: 4 }, "createWeir.random"],
      [{ onDecision: "log" }, "createWeir.onDecision"],
      [{ onEror: () => {} }, "createWeir.onEror"],
    ] as const
  ).map(
    ([options, option]) =>
      [
        `createWeir ${Object.keys(options).join()}`,
        () => createWeir(options as unknown as WeirOptions),
        option,
      ] as const,
  ),
  [
    "with an unknown priority",
    () => createWeir().with({}, { priority: "urgent" as "low" }),
    "with.priority",
  ],
];

describe("nonsense in options", () => {
  it.each(nonsense)("is refused while building, with its name: %s", (_what, build, option) => {
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(new RegExp(`^${option.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}`));
  });
});

describe("functions of the user that throw", () => {
  it("cost the call nothing: an observer, and a key", async () => {
    const errors: string[] = [];
    const { transport, link } = await scene();
    const weir = createWeir({
      clock: transport.clock,
      random: transport.random,
      onError: (_error, where) => errors.push(where),
      onDecision: () => {
        throw new Error("observer");
      },
    });
    const server = failing(1);
    const other = await transport.open({
      service: (await import("../src/gen/weir/v1/conformance.js")).ConformanceServiceService,
      implementation: server.handlers,
      clientOptions: weir.client({
        breaker: {
          key: () => {
            throw new Error("key");
          },
        },
      }),
    });
    const { ConformanceServiceClient } = await import("../src/gen/weir/v1/conformance.js");
    const { startCall } = await import("./scene.js");
    const { Metadata } = await import("@grpc/grpc-js");
    const client = other.client(ConformanceServiceClient);
    const ended = await link.until(startCall(client, "unary", {}, new Metadata()).ended);
    expect(ended.code).toBe(Status.OK);
    expect(new Set(errors)).toEqual(new Set(["breaker.key", "onDecision"]));
  });
});
