import { AsyncLocalStorage } from "node:async_hooks";
import {
  InterceptingCall,
  type Interceptor,
  type InterceptorOptions,
  Metadata,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import { beforeEach, describe, expect, it, vi } from "vitest";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { type OptionsWithOwn, recordKey } from "../../../src/grpc/context/call-record.js";
import { environmentOf } from "../../../src/grpc/environment.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import {
  type FaultsPolicyOptions,
  faults,
  faultsLayer,
  faultsPolicy,
} from "../../../src/policies/faults/client.js";
import type { FaultsSnapshot } from "../../../src/policies/faults/faults.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import {
  callOf,
  ended,
  fakeBelow,
  Hearer,
  optionsOf,
  settled,
} from "../../grpc/client/fake-call.js";
import {
  echo,
  failing,
  handlers,
  kinds,
  type Method,
  payload,
  type SceneOptions,
  scene,
  startCall,
} from "../../scene.js";

const bare = { retry: false, breaker: false } as const;
const echoed: Readonly<Record<Method, readonly number[]>> = {
  unary: [3],
  clientStream: [1, 2, 3],
  serverStream: [1, 2, 3],
  bidiStream: [1, 2, 3],
};

beforeEach(() => {
  vi.stubEnv("GRPC_WEIR_FAULTS", "1");
  return () => vi.unstubAllEnvs();
});

/** A scene that counts what reaches the handlers. */
async function faulty(
  options: FaultsPolicyOptions,
  policy: ClientPolicy = bare,
  more: SceneOptions = {},
) {
  let handled = 0;
  const world = await scene({
    client: { ...policy, faults: options },
    handlers: handlers((_call, answer) => {
      handled += 1;
      answer();
    }),
    ...more,
  });
  return {
    ...world,
    handled: () => handled,
    snapshot: () => world.weir.policy("faults").snapshot()[0] as FaultsSnapshot,
    /** Nothing is left of the calls: no stream, no timer, no active fault, nobody who waits. */
    async expectQuiet() {
      await world.link.pass(100);
      expect(world.link.inFlight()).toBe(0);
      expect(world.clock.pending.refs).toBe(0);
      expect(world.weir.snapshot().waiting).toBe(0);
      expect((world.weir.policy("faults").snapshot()[0] as FaultsSnapshot).active).toBe(0);
    },
  };
}

it("a reset at the response lets not even its headers through", async () => {
  const { client, link } = await faulty({ reset: { rate: 1, at: "response" } });
  const stream = client.serverStream({ payload, sequence: 3 });
  const seen: string[] = [];
  for (const event of ["metadata", "data"]) stream.on(event, () => seen.push(event));
  const ended = new Promise<string>((resolve) => {
    stream.on("error", ({ message }) => resolve(message));
  });
  expect(await link.until(ended)).toContain("Connection dropped");
  expect(seen).toEqual([]);
});

describe.each(kinds)("faults of a %s client call", (method) => {
  it("hold it back, and lose nothing of it", async () => {
    const world = await faulty({ latency: { rate: 1, ms: 250 } });
    const beganMs = world.clock.now();
    const ended = await world.call(method);
    expect(ended).toMatchObject({ code: Status.OK, received: echoed[method] });
    expect(world.clock.now() - beganMs).toBeGreaterThanOrEqual(250);
    expect(world.clock.now() - beganMs).toBeLessThan(270);
    expect(world.snapshot().injected.latency).toBe(1);
    expect(world.decisions).toMatchObject([
      {
        policy: "faults",
        verdict: "inject",
        reason: "FAULT_INJECTED",
        enforced: true,
        detail: "latency: 250 ms",
      },
    ]);
    await world.expectQuiet();
  });

  it("end it with a status that nobody takes for a local one, and never send it", async () => {
    const world = await faulty({ status: { rate: 1, code: Status.INTERNAL, details: "oh no" } });
    const ended = await world.call(method);
    expect(ended).toMatchObject({ code: Status.INTERNAL, details: "oh no", received: [] });
    expect(rejectionOf(ended.error)).toBeUndefined();
    expect(world.handled()).toBe(0);
    await world.expectQuiet();
  });

  it("are met by retries as a server's answer: tried again where that answer would be", async () => {
    const status = { rate: 1, code: Status.UNAVAILABLE, pushbackMs: 40 };
    const when = ({ attempt }: { attempt: number }) => attempt < 3;
    const world = await faulty({ status, when }, { retry: { maxAttempts: 3 }, breaker: false });
    const beganMs = world.clock.now();
    const ended = await world.call(method);
    expect(ended).toMatchObject({ code: Status.OK, received: echoed[method] });
    expect(world.clock.now() - beganMs).toBeGreaterThanOrEqual(80);
    expect(world.handled()).toBe(1);
    expect(world.decisions.map(({ verdict }) => verdict)).toEqual([
      "inject",
      "retry",
      "inject",
      "retry",
    ]);
    await world.expectQuiet();
  });

  it("can ask for no retries", async () => {
    const status = { rate: 1, pushbackMs: "stop" } as const;
    const world = await faulty({ status }, { retry: { maxAttempts: 3 }, breaker: false });
    expect(await world.call(method)).toMatchObject({ code: Status.UNAVAILABLE });
    expect(world.decisions.map(({ reason }) => reason)).toEqual([
      "FAULT_INJECTED",
      "RETRY_PUSHBACK_STOP",
    ]);
  });

  it("count for the breaker as the failures of a server", async () => {
    const world = await faulty(
      { status: { rate: 1 } },
      { retry: false, breaker: { consecutiveFailures: 2 } },
    );
    await world.call(method);
    await world.call(method);
    expect(rejectionOf((await world.call(method)).error)?.reason).toBe("BREAKER_OPEN");
    expect(world.snapshot().injected.status).toBe(2);
  });

  it("count for the breaker where they reset it before the request, on a client that is connected", async () => {
    let faulted = false;
    const world = await faulty(
      { reset: { rate: 1 }, when: () => faulted },
      { retry: false, breaker: { consecutiveFailures: 1 } },
    );
    expect((await world.call(method)).code).toBe(Status.OK);
    faulted = true;
    await world.call(method);
    const { breakers = {} } = world.weir.policy("breaker").snapshot().at(-1) ?? {};
    expect(Object.values(breakers)).toMatchObject([{ state: "open" }]);
  });

  it("reset it before the request as a broken connection: retried if it is idempotent", async () => {
    for (const idempotent of [true, false]) {
      const world = await faulty(
        { reset: { rate: 1 }, when: ({ attempt }) => attempt === 1 },
        { retry: { idempotent }, breaker: false },
      );
      const ended = await world.call(method);
      expect(ended.code).toBe(idempotent ? Status.OK : Status.UNAVAILABLE);
      if (!idempotent) expect(ended.details).toBe("Connection dropped");
      expect(world.handled()).toBe(idempotent ? 1 : 0);
      await world.expectQuiet();
    }
  });

  it("reset it at the response: the work is done, and nobody hears of it", async () => {
    const world = await faulty({ reset: { rate: 1, at: "response" } });
    const ended = await world.call(method);
    expect(ended).toMatchObject({
      code: Status.UNAVAILABLE,
      details: "Connection dropped",
      received: [],
    });
    expect(world.handled()).toBe(1);
    await world.expectQuiet();
  });

  it("reset an answer of trailers alone too", async () => {
    const world = await faulty({ reset: { rate: 1, at: "response" } }, bare, {
      handlers: handlers((call) => call.fail({ code: Status.NOT_FOUND, details: "none" })),
    });
    expect(await world.call(method)).toMatchObject({ details: "Connection dropped" });
    expect(world.snapshot().injected.reset).toBe(1);
  });

  it("leave an end that no server made as it is, however late a reset was to come", async () => {
    const world = await faulty({ reset: { rate: 1, at: "response" } }, bare, {
      handlers: handlers(() => {}),
    });
    const running = world.start(method);
    await world.link.pass(10);
    running.cancel();
    expect((await world.link.until(running.ended)).code).toBe(Status.CANCELLED);
    expect(world.snapshot().injected.reset).toBe(0);
    await world.expectQuiet();
  });

  it("leave a call that never left as it is", async () => {
    const world = await faulty({ reset: { rate: 1, at: "response" } });
    world.transport.server.crash();
    const ended = await world.call(method);
    expect(ended.code).toBe(Status.UNAVAILABLE);
    expect(ended.details).not.toBe("Connection dropped");
    expect(world.snapshot().injected.reset).toBe(0);
  });

  it("never answer it, until its deadline", async () => {
    const world = await faulty({ drop: { rate: 1 } });
    const beganMs = world.clock.now();
    const running = world.start(method, { deadline: world.clock.wallNow() + 300 });
    await world.link.pass(10);
    // The deadline of the call is watched once.
    expect(world.clock.pending.refs).toBe(1);
    expect((await world.link.until(running.ended)).code).toBe(Status.DEADLINE_EXCEEDED);
    expect(world.clock.now() - beganMs).toBe(300);
    expect(world.handled()).toBe(0);
    await world.expectQuiet();
  });

  it("never answer it, until the attempt runs out of its time and another follows", async () => {
    const world = await faulty(
      { drop: { rate: 1 }, when: ({ attempt }) => attempt === 1 },
      { retry: { idempotent: true }, breaker: false, timeouts: { attemptMs: 200 } },
    );
    expect((await world.call(method)).code).toBe(Status.OK);
    expect(world.decisions.map(({ reason }) => reason)).toContain("ATTEMPT_TIMEOUT");
    await world.expectQuiet();
  });

  it.each<[string, FaultsPolicyOptions]>([
    ["held back", { latency: { rate: 1, ms: 10_000 } }],
    ["left without an answer", { drop: { rate: 1 } }],
    ["both", { latency: { rate: 1, ms: 100 }, drop: { rate: 1 } }],
  ])("let it go at once when it is cancelled while it is %s", async (_how, options) => {
    const world = await faulty(options);
    const running = world.start(method);
    await world.link.pass(150);
    expect(world.snapshot().active).toBe(1);
    const beganMs = world.clock.now();
    running.cancel();
    const ended = await world.link.until(running.ended);
    expect(ended.code).toBe(Status.CANCELLED);
    expect(world.clock.now() - beganMs).toBeLessThan(5);
    expect(world.handled()).toBe(0);
    await world.expectQuiet();
  });

  it("end with the weir", async () => {
    const world = await faulty({ drop: { rate: 1 } });
    const running = world.start(method);
    await world.link.pass(10);
    expect(world.weir.snapshot().waiting).toBe(1);
    world.weir.close();
    const ended = await world.link.until(running.ended);
    expect(rejectionOf(ended.error)?.reason).toBe("CLOSED");
    await world.expectQuiet();
  });

  it("follow a deadline where no deadline interceptor stands above", async () => {
    for (const options of [{ drop: { rate: 1 } }, { latency: { rate: 1, ms: 900 } }]) {
      const { transport, clock } = await scene({ client: bare });
      const alone = faults({ ...options, clock, random: transport.random });
      const link = await transport.open({
        service: ConformanceServiceService,
        implementation: echo,
        clientOptions: { interceptors: [alone] },
      });
      const client = link.client(ConformanceServiceClient);
      const beganMs = clock.now();
      const ended = startCall(
        client,
        method,
        { deadline: clock.wallNow() + 120 },
        new Metadata(),
      ).ended;
      const { code, details } = await link.until(ended);
      expect(code).toBe(Status.DEADLINE_EXCEEDED);
      expect(details).toMatch(/^Deadline exceeded after 0\.12/);
      expect(clock.now() - beganMs).toBe(120);
      await link.pass(2_000);
      expect(clock.pending.refs).toBe(0);
    }
  });

  it("are only noted while they are observed", async () => {
    const world = await faulty({
      mode: "observe",
      latency: { rate: 1, ms: 5_000 },
      status: { rate: 1 },
    });
    const beganMs = world.clock.now();
    const ended = await world.call(method);
    expect(ended).toMatchObject({ code: Status.OK, received: echoed[method] });
    expect(world.clock.now() - beganMs).toBeLessThan(20);
    expect(world.decisions).toMatchObject([
      { enforced: false, detail: "latency: 5000 ms" },
      { enforced: false, detail: "status: UNAVAILABLE" },
    ]);
    expect(world.snapshot().injected).toMatchObject({ latency: 0, status: 0 });
  });

  it.each<[FaultsPolicyOptions, string]>([
    [{ drop: { rate: 1 } }, "drop: no answer"],
    [{ reset: { rate: 1 } }, "reset: at the request"],
    [{ reset: { rate: 1, at: "response" } }, "reset: at the response"],
  ])("%j are noted once while they are observed", async (options, detail) => {
    const world = await faulty({ mode: "observe", ...options });
    const ended = await world.call(method);
    expect(ended).toMatchObject({ code: Status.OK, received: echoed[method] });
    expect(world.decisions).toMatchObject([{ enforced: false, detail }]);
    await world.expectQuiet();
  });

  it("hold it no longer than they delay it", async () => {
    const world = await faulty({ latency: { rate: 1, ms: 100 } }, bare, {
      handlers: handlers((_call, answer) => void world.clock.schedule(500, answer)),
    });
    const running = world.start(method);
    await world.link.pass(50);
    expect([world.snapshot().active, world.weir.snapshot().waiting]).toEqual([1, 1]);
    await world.link.pass(100);
    expect([world.snapshot().active, world.weir.snapshot().waiting]).toEqual([0, 0]);
    expect((await world.link.until(running.ended)).code).toBe(Status.OK);
  });

  it("do nothing in mode off, and stop at a scale of 0", async () => {
    const world = await faulty({ status: { rate: 1 } });
    world.weir.policy("faults").mode = "off";
    expect((await world.call(method)).code).toBe(Status.OK);
    expect(world.decisions).toEqual([]);
    world.weir.policy("faults").mode = "enforce";
    world.weir.policy("faults").scale = 0;
    expect((await world.call(method)).code).toBe(Status.OK);
    world.weir.policy("faults").scale = 1;
    expect((await world.call(method)).code).toBe(Status.UNAVAILABLE);
  });

  it("spare whom the predicate spares, and everybody when it throws", async () => {
    const errors: unknown[] = [];
    const world = await faulty(
      {
        status: { rate: 1 },
        when: ({ priority }) => {
          if (priority === "high") throw new Error("no opinion");
          return priority === "low";
        },
      },
      bare,
      { onError: (error) => errors.push(error) },
    );
    const call = (priority: "low" | "normal" | "high") =>
      world.call(method, world.weir.with({}, { priority }));
    expect((await call("low")).code).toBe(Status.UNAVAILABLE);
    expect((await call("normal")).code).toBe(Status.OK);
    expect((await call("high")).code).toBe(Status.OK);
    expect(errors).toHaveLength(1);
  });

  it("are no more at once than may be", async () => {
    const world = await faulty({ drop: { rate: 1 }, maxActive: 1 });
    const dropped = world.start(method, { deadline: world.clock.wallNow() + 500 });
    await world.link.pass(1);
    expect((await world.call(method)).code).toBe(Status.OK);
    expect(world.snapshot()).toMatchObject({ active: 1, spared: 1 });
    expect((await world.link.until(dropped.ended)).code).toBe(Status.DEADLINE_EXCEEDED);
    await world.expectQuiet();
  });
});

describe("a response that breaks off", () => {
  it.each<[Method, number, readonly number[]]>([
    ["unary", 1, []],
    ["clientStream", 2, []],
    ["serverStream", 0, []],
    ["serverStream", 1, [1]],
    ["serverStream", 2, [1, 2]],
    ["bidiStream", 1, [1]],
  ])("%s, after %i messages, has brought %j", async (method, afterMessages, received) => {
    const world = await faulty({
      midStream: { rate: 1, afterMessages, code: Status.DATA_LOSS, details: "torn" },
    });
    const ended = await world.call(method);
    expect(ended).toMatchObject({ code: Status.DATA_LOSS, details: "torn", received });
    expect(world.snapshot().injected.midStream).toBe(1);
    await world.expectQuiet();
  });

  it("is not broken where it does not begin", async () => {
    const world = await faulty({ midStream: { rate: 1 } }, bare, {
      handlers: handlers((call) => call.fail({ code: Status.NOT_FOUND, details: "none" })),
    });
    for (const method of kinds) expect((await world.call(method)).code).toBe(Status.NOT_FOUND);
  });

  it("is not broken where its caller leaves when it begins", async () => {
    const world = await faulty({ midStream: { rate: 1 } });
    const call = world.client.unary({ payload: Buffer.alloc(0), sequence: 1 }, () => {});
    call.on("metadata", () => call.cancel());
    const status = new Promise<StatusObject>((resolve) => call.on("status", resolve));
    expect((await world.link.until(status)).code).toBe(Status.CANCELLED);
    expect(world.snapshot().injected.midStream).toBe(0);
  });

  it("is not broken where it is over before", async () => {
    const world = await faulty({ midStream: { rate: 1, afterMessages: 4 } });
    const ended = await world.call("serverStream");
    expect(ended).toMatchObject({ code: Status.OK, received: [1, 2, 3] });
    expect(world.snapshot().injected.midStream).toBe(0);
  });

  it("is noted at its place while it is observed", async () => {
    const world = await faulty({ midStream: { rate: 1, afterMessages: 2 }, mode: "observe" });
    expect(await world.call("serverStream")).toMatchObject({ received: [1, 2, 3], code: 0 });
    expect(world.decisions).toMatchObject([{ enforced: false, detail: "midStream: UNAVAILABLE" }]);
  });
});

/** A call with faults over one that the test plays. */
function over(options: FaultsPolicyOptions, given: Partial<InterceptorOptions> = {}) {
  const clock = new VirtualClock();
  const below = fakeBelow();
  const callOptions = { ...optionsOf("server-stream"), ...given };
  const noted: string[] = [];
  const interceptor = faults({
    ...options,
    clock,
    random: () => 0,
    onDecision: ({ detail = "" }) => noted.push(detail),
  });
  const call = interceptor(callOptions, below.nextCall);
  const hearer = new Hearer();
  call.start(new Metadata(), hearer);
  return { clock, below, call, callOptions, hearer, noted };
}

describe("faults of a call whose deadline no layer above watches", () => {
  it("end it at once, in the words of grpc-js, where its deadline has passed", async () => {
    const { clock, hearer } = over(
      { drop: { rate: 1 } },
      { deadline: new VirtualClock().wallNow() - 50 },
    );
    await clock.pass(0);
    expect(hearer.statuses).toMatchObject([
      { code: Status.DEADLINE_EXCEEDED, details: "Deadline exceeded after 0.000s" },
    ]);
  });

  it.each([undefined, Infinity, Number.NaN])(
    "wait for nothing where that is %s: what it means is left to grpc-js",
    async (deadline) => {
      const given = deadline === undefined ? {} : { deadline };
      const dropped = over({ drop: { rate: 1 } }, given);
      expect(dropped.clock.pending).toEqual({ refs: 0, unrefs: 0 });
      const delayed = over({ latency: { rate: 1, ms: 40 } }, given);
      await delayed.clock.pass(39);
      expect(delayed.below.calls).toHaveLength(0);
      await delayed.clock.pass(1);
      expect(callOf(delayed.below.calls).log).toEqual(["start"]);
    },
  );
});

it.each([
  ["enforce", ["latency", "midStream"]],
  ["observe", undefined],
] as const)("faults are noted of their attempt in mode %s: %j", async (mode, noted) => {
  const { clock, below } = over({
    mode,
    latency: { rate: 1, ms: 40 },
    midStream: { rate: 1 },
  });
  await clock.pass(40);
  callOf(below.calls).message("a");
  const made: OptionsWithOwn = callOf(below.calls).options;
  expect(made[recordKey]?.attempts.map(({ faults: kinds }) => kinds)).toEqual([noted]);
});

describe("a response at which a fault was to come", () => {
  const midStream = { midStream: { rate: 1 } };
  const reset = { reset: { rate: 1, at: "response" } } as const;

  it("is lost though it is OK and nothing else", async () => {
    const { below, hearer } = over(reset);
    callOf(below.calls).end(ended(Status.OK));
    await settled();
    expect(hearer.statuses).toMatchObject([{ details: "Connection dropped" }]);
  });

  it("is not waited for by a caller that has ended the call with a code of its own", async () => {
    const { call, hearer, noted } = over(reset);
    call.cancelWithStatus(Status.ABORTED, "enough");
    await settled();
    expect(hearer.statuses).toMatchObject([{ code: Status.ABORTED, details: "enough" }]);
    expect(noted).toEqual([]);
  });

  it("has no fault where an interceptor below goes on after the end", async () => {
    const { below, noted } = over(midStream);
    const call = callOf(below.calls);
    call.end(ended(Status.NOT_FOUND));
    call.message("late");
    expect(noted).toEqual([]);
  });
});

describe("faults of a client", () => {
  it("hand a call on untouched where the environment allows none", () => {
    vi.stubEnv("GRPC_WEIR_FAULTS", undefined);
    const { below, callOptions } = over({ drop: { rate: 1 } });
    expect(callOf(below.calls).options).toBe(callOptions);
  });

  it("are out of the way unless the environment allows them, whatever the code says", async () => {
    for (const value of ["", "0", "true", undefined]) {
      vi.stubEnv("GRPC_WEIR_FAULTS", value);
      const world = await faulty({ status: { rate: 1 } });
      expect((await world.call("unary")).code).toBe(Status.OK);
      expect(world.snapshot()).toMatchObject({ enabled: false, injected: { status: 0 } });
      const environment = environmentOf({}, "test");
      const policy = faultsPolicy({ status: { rate: 1 } }, environment, "faults");
      expect(faultsLayer(environment, policy)).toBeUndefined();
    }
  });

  it("start a call that was held back in the context of its caller", async () => {
    const storage = new AsyncLocalStorage<string>();
    const transport = inMemoryTransport();
    const { clock, random } = transport;
    let below: string | undefined;
    const spy: Interceptor = (options, nextCall) => {
      below = storage.getStore();
      return new InterceptingCall(nextCall(options));
    };
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: echo,
      clientOptions: {
        interceptors: [faults({ latency: { rate: 1, ms: 10 }, clock, random }), spy],
      },
    });
    const client = link.client(ConformanceServiceClient);
    const running = storage.run("caller", () => startCall(client, "unary", {}, new Metadata()));
    await storage.run("somebody else", () => link.until(running.ended));
    expect(below).toBe("caller");
  });

  it("are asked for by method, as any other policy", async () => {
    const world = await scene({
      client: {
        ...bare,
        methods: { "weir.v1.ConformanceService/Unary": { faults: { status: { rate: 1 } } } },
      },
    });
    expect((await world.call("unary")).code).toBe(Status.UNAVAILABLE);
    expect((await world.call("serverStream")).code).toBe(Status.OK);
  });

  it("let a request of many messages wait, one after another, without losing its order", async () => {
    const world = await faulty({ latency: { rate: 1, ms: 50 } });
    const stream = world.client.bidiStream();
    const back: number[] = [];
    let written = 0;
    stream.on("data", ({ sequence }: { sequence: number }) => back.push(sequence));
    for (let sequence = 0; sequence < 40; sequence++) {
      stream.write({ payload: Buffer.alloc(4_096), sequence }, () => {
        written += 1;
      });
    }
    stream.end();
    await world.link.pass(40);
    // Not one of them is anywhere yet, and who writes is not told that it is.
    expect(written).toBe(0);
    await world.link.until(new Promise((resolve) => stream.on("status", resolve)));
    expect(back).toEqual(Array.from({ length: 40 }, (_, sequence) => sequence));
    expect(written).toBe(40);
  });

  it.each<[string, FaultsPolicyOptions]>([
    ["a delay", { latency: { rate: 1, ms: 60_000 }, when: ({ attempt }) => attempt === 2 }],
    ["a drop", { latency: { rate: 1, ms: 100 }, drop: { rate: 1 } }],
    ["a status", { latency: { rate: 1, ms: 100 }, status: { rate: 1 } }],
  ])("keep nothing of a call that whoever is told of %s calls off", async (_what, options) => {
    const world = await faulty(
      options,
      { retry: {}, breaker: false },
      { handlers: failing(1).handlers },
    );
    const { cancel, ended } = world.start("unary");
    const push = world.decisions.push.bind(world.decisions);
    world.decisions.push = (...events) => {
      if (events.some(({ policy }) => policy === "faults")) cancel();
      return push(...events);
    };
    expect((await world.link.until(ended)).code).toBe(Status.CANCELLED);
    await world.expectQuiet();
  });
});
