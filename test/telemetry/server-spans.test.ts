import { InterceptingCall, type Interceptor, Metadata, status as Status } from "@grpc/grpc-js";
import { context, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import type { Transport } from "../../src/testing/transport.js";
import { transports } from "../transports.js";
import { type Handlers, kinds, openScene, type Scene, type SceneOptions, unary } from "./scene.js";
import { decisionsOf, idOf, parentIdOf, startTracing, type TracingUnderTest } from "./tracing.js";

let tracing: TracingUnderTest;
const scenes: Scene[] = [];

async function open(transport: Transport, options?: SceneOptions): Promise<Scene> {
  const scene = await openScene(transport, options);
  scenes.push(scene);
  return scene;
}

beforeEach(() => {
  tracing = startTracing();
});

afterEach(async () => {
  for (const scene of scenes.splice(0)) await scene.link.close();
  expect(tracing.open()).toEqual([]);
  tracing.stop();
});

/** Makes and ends a span, as an application's own instrumentation would. */
function work(name: string): void {
  trace.getTracer("app").startSpan(name).end();
}

const answer = { payload: Buffer.alloc(0), sequence: 1 };

/** Handlers that do some work in each of their events. */
const working: Handlers = {
  unary: (_call, callback) => {
    work("handler");
    callback(null, answer);
  },
  clientStream: (call, callback) => {
    work("handler");
    call.on("data", () => work("data"));
    call.on("end", () => {
      work("end");
      callback(null, { payload: Buffer.alloc(0), sequences: [] });
    });
  },
  serverStream: (call) => {
    work("handler");
    call.write(answer, () => work("written"));
    call.end();
  },
  bidiStream: (call) => {
    work("handler");
    call.on("data", () => work("data"));
    call.on("end", () => {
      work("end");
      call.end();
    });
  },
};

describe.each(transports)("%s", (_way, makeTransport) => {
  it.each(Object.entries(kinds))(
    "a %s call has one span, below the attempt that it came with",
    async (kind, run) => {
      const scene = await open(makeTransport());
      await scene.link.until(run(scene));
      const [server, ...others] = tracing.servers();
      const [attempt] = tracing.attempts();
      expect(others).toEqual([]);
      expect(server?.name).toBe(`weir.v1.ConformanceService/${kind}`);
      expect(server?.kind).toBe(SpanKind.SERVER);
      expect(parentIdOf(server)).toBe(idOf(attempt));
      expect(server?.spanContext().traceId).toBe(attempt?.spanContext().traceId);
      expect(server?.status).toEqual({ code: SpanStatusCode.UNSET });
    },
  );

  it.each(Object.entries(kinds))(
    "what a %s handler does is below its span, in each of its events",
    async (_kind, run) => {
      const scene = await open(makeTransport(), { handlers: working });
      // Twice: a connection that is open already was opened by somebody else.
      await scene.link.until(run(scene));
      await scene.link.until(run(scene));
      const servers = tracing.servers();
      const own = tracing.spans().filter((span) => span.instrumentationScope.name === "app");
      expect(own.length).toBeGreaterThanOrEqual(2);
      const parents = servers.map((server) => idOf(server));
      expect(own.filter((span) => !parents.includes(parentIdOf(span)))).toEqual([]);
      for (const parent of parents) expect(own.some((s) => parentIdOf(s) === parent)).toBe(true);
    },
  );

  it("what a handler does when its caller leaves is below its span", async () => {
    let told = () => {};
    let leave = () => {};
    const heard = new Promise<void>((resolve) => {
      told = resolve;
    });
    const scene = await open(makeTransport(), {
      handlers: {
        unary: (call) => {
          call.on("cancelled", () => {
            work("cancelled");
            told();
          });
          leave();
        },
      },
    });
    const cancelAfter = (cancel: () => void) => {
      leave = cancel;
    };
    await scene.link.until(Promise.all([unary(scene, { cancelAfter }), heard]));
    const [cancelled] = tracing.spans().filter((span) => span.name === "cancelled");
    expect(parentIdOf(cancelled)).toBe(idOf(tracing.servers()[0]));
  });

  it("a handler that answers twice has the first answer in its span", async () => {
    const scene = await open(makeTransport(), {
      handlers: {
        unary: (_call, callback) => {
          callback({ code: Status.NOT_FOUND });
          callback({ code: Status.INTERNAL });
        },
      },
    });
    expect(await scene.link.until(unary(scene))).toBe("NOT_FOUND");
    expect(tracing.servers()[0]?.attributes["rpc.status_code"]).toBe("NOT_FOUND");
  });

  it("each attempt that arrives has a span, which says how many came before", async () => {
    let failures = 1;
    const scene = await open(makeTransport(), {
      handlers: {
        unary: (_call, callback) => {
          failures -= 1;
          if (failures >= 0) callback({ code: Status.UNAVAILABLE, details: "not now" });
          else callback(null, answer);
        },
      },
    });
    await scene.link.until(unary(scene));
    const [first, second] = tracing.servers();
    expect(tracing.servers().map(parentIdOf)).toEqual(tracing.attempts().map(idOf));
    expect(first?.attributes).not.toHaveProperty("previous-rpc-attempts");
    expect(second?.attributes).toMatchObject({ "previous-rpc-attempts": 1 });
  });

  it("names the method, the address that was called and the caller", async () => {
    const transport = makeTransport();
    const scene = await open(transport);
    const metadata = new Metadata();
    metadata.set("x-request-priority", "low");
    await scene.link.until(unary(scene, { metadata, deadlineIn: 5_000 }, transport.clock));
    const attributes = tracing.servers()[0]?.attributes;
    const [, , port] = scene.client.getChannel().getTarget().split(":");
    expect(attributes).toMatchObject({
      "rpc.system.name": "grpc",
      "rpc.method": "weir.v1.ConformanceService/Unary",
      "rpc.status_code": "OK",
      "server.address": "127.0.0.1",
      "server.port": Number(port),
      "network.peer.address": "127.0.0.1",
      "network.peer.port": expect.any(Number),
      "weir.call.priority": "low",
    });
    expect(Math.abs(Number(attributes?.["weir.call.deadline_ms"]) - 5_000)).toBeLessThan(1_000);
  });

  it("a call that a policy refuses has a span with the reason, and no handler below it", async () => {
    const transport = makeTransport();
    const scene = await open(transport, {
      maxAttempts: 1,
      handlers: working,
      server: { deadlineGuard: { minRemainingMs: 60_000 } },
    });
    await scene.link.until(unary(scene, { deadlineIn: 2_000 }, transport.clock));
    const [server] = tracing.servers();
    expect(parentIdOf(server)).toBe(idOf(tracing.attempts()[0]));
    expect(server?.attributes).toMatchObject({
      "rpc.status_code": "DEADLINE_EXCEEDED",
      "error.type": "DEADLINE_EXCEEDED",
      "weir.rejection.reason": "DEADLINE_INFEASIBLE",
    });
    expect(server?.status.code).toBe(SpanStatusCode.ERROR);
    expect(decisionsOf(server)).toEqual(["deadline-guard reject DEADLINE_INFEASIBLE"]);
    expect(tracing.spans().filter((s) => s.instrumentationScope.name === "app")).toEqual([]);
  });

  it("a call that admission sheds is not an error of the server", async () => {
    const transport = makeTransport();
    const scene = await open(transport, {
      maxAttempts: 1,
      server: { admission: { streams: "together", limit: 1, maxQueued: 0 } },
      handlers: {
        unary: (_call, callback) => {
          transport.clock.schedule(100, () => callback(null, answer));
        },
      },
    });
    await scene.link.until(Promise.all([unary(scene), unary(scene)]));
    const shed = tracing.servers().find((s) => s.attributes["rpc.status_code"] !== "OK");
    expect(shed?.attributes).toMatchObject({
      "rpc.status_code": "RESOURCE_EXHAUSTED",
      "weir.rejection.reason": "LOAD_SHED",
    });
    expect(shed?.attributes).not.toHaveProperty("error.type");
    expect(shed?.status.code).toBe(SpanStatusCode.UNSET);
  });

  it("a call that is answered as an earlier one says so, and the earlier one does not", async () => {
    const scene = await open(makeTransport(), {
      maxAttempts: 1,
      server: {
        idempotency: {
          scope: "shared",
          methods: { "weir.v1.ConformanceService/Unary": { key: () => "one" } },
        },
      },
      handlers: { unary: (_call, callback) => callback(null, answer) },
    });
    await scene.link.until(unary(scene));
    await scene.link.until(unary(scene));
    const [first, second] = tracing.servers();
    expect(first?.attributes).not.toHaveProperty("weir.call.replayed");
    expect(second?.attributes).toMatchObject({ "weir.call.replayed": true });
    expect(decisionsOf(second)).toEqual(["idempotency replay"]);
  });

  describe.each(Object.entries(kinds))("a %s handler", (_kind, run) => {
    it("works below its own span when it had to wait for its turn", async () => {
      const transport = makeTransport();
      const later = (task: () => void) => void transport.clock.schedule(100, task);
      const scene = await open(transport, {
        server: {
          admission: {
            streams: "together",
            limit: 1,
            maxWaitMs: 5_000,
            thresholds: { low: 1, normal: 1, high: 1 },
          },
        },
        handlers: {
          unary: (_call, callback) => {
            work("handler");
            later(() => callback(null, answer));
          },
          clientStream: (_call, callback) => {
            work("handler");
            later(() => callback(null, { payload: Buffer.alloc(0), sequences: [] }));
          },
          serverStream: (call) => {
            work("handler");
            later(() => call.end());
          },
          bidiStream: (call) => {
            work("handler");
            later(() => call.end());
          },
        },
      });
      expect(await scene.link.until(Promise.all([run(scene), run(scene)]))).toEqual(["OK", "OK"]);
      const handlers = tracing.spans().filter((span) => span.name === "handler");
      expect(handlers.map(parentIdOf)).toEqual(tracing.servers().map(idOf));
      expect(tracing.servers().flatMap(decisionsOf)).toEqual(["admission queue"]);
    });
  });

  it("a policy that only observes leaves a decision and no rejection", async () => {
    const transport = makeTransport();
    const scene = await open(transport, {
      server: { deadlineGuard: { minRemainingMs: 60_000, mode: "observe" } },
    });
    await scene.link.until(unary(scene, { deadlineIn: 2_000 }, transport.clock));
    const [server] = tracing.servers();
    expect(server?.events[0]?.attributes).toMatchObject({ "weir.decision.enforced": false });
    expect(server?.attributes).not.toHaveProperty("weir.rejection.reason");
  });

  it("what a client is told by another server is no rejection of this one", async () => {
    const transport = makeTransport();
    const below = await open(transport, {
      maxAttempts: 1,
      server: { deadlineGuard: { minRemainingMs: 60_000 } },
    });
    const front = await open(transport, {
      maxAttempts: 1,
      handlers: {
        unary: (call, callback) => {
          const deadline = transport.clock.wallNow() + 1_000;
          below.client.unary(call.request, new Metadata(), { deadline }, callback);
        },
      },
    });
    await front.link.until(unary(front));
    const [refused, relayed] = tracing.servers();
    expect(refused?.attributes).toHaveProperty("weir.rejection.reason");
    expect(relayed?.attributes).not.toHaveProperty("weir.rejection.reason");
    // One trace over both hops: the second call stands below the first server's span.
    const outbound = tracing.calls().find((call) => parentIdOf(call) === idOf(relayed));
    const hop = tracing.attempts().find((attempt) => parentIdOf(attempt) === idOf(outbound));
    expect(parentIdOf(refused)).toBe(idOf(hop));
    expect(refused?.spanContext().traceId).toBe(relayed?.spanContext().traceId);
  });
});

/** The codes that are the server's fault; the conventions list them. */
const faults = [
  "UNKNOWN",
  "DEADLINE_EXCEEDED",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
];

it.each(
  Object.values(Status).filter((code): code is Status => typeof code === "number" && code > 0),
)("tells with code %i whether the server is at fault", async (code) => {
  const scene = await open(inMemoryTransport(), {
    maxAttempts: 1,
    handlers: { unary: (_call, callback) => callback({ code, details: "so it is" }) },
  });
  const name = await scene.link.until(unary(scene));
  const [server] = tracing.servers();
  const fault = faults.includes(name);
  expect(server?.attributes["rpc.status_code"]).toBe(name);
  expect(server?.attributes["error.type"]).toBe(fault ? name : undefined);
  expect(server?.status).toEqual(
    fault ? { code: SpanStatusCode.ERROR, message: "so it is" } : { code: SpanStatusCode.UNSET },
  );
});

it("does not take what is active where requests arrive for the parent of a call without context", async () => {
  // In memory, the server's events run in the context of the client that caused them.
  const transport = inMemoryTransport();
  const forgetful: Interceptor = (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start(metadata, listener, next) {
        const bare = metadata.clone();
        bare.remove("traceparent");
        next(bare, listener);
      },
    });
  const scene = await open(transport, { innermost: [forgetful] });
  const stranger = trace.getTracer("app").startSpan("stranger");
  const active = trace.setSpan(context.active(), stranger);
  await context.with(active, () => scene.link.until(unary(scene)));
  stranger.end();
  expect(parentIdOf(tracing.servers()[0])).toBeUndefined();
});
