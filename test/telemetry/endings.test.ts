import { InterceptingCall, type Interceptor, Metadata, status as Status } from "@grpc/grpc-js";
import { SpanStatusCode } from "@opentelemetry/api";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import type { Transport } from "../../src/testing/transport.js";
import { PlainCall } from "../grpc/client/put-off-call.js";
import { transports } from "../transports.js";
import { type Handlers, kinds, openScene, type Scene, type SceneOptions, unary } from "./scene.js";
import { decisionsOf, startTracing, type TracingUnderTest } from "./tracing.js";

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
  tracing.stop();
});

/** Handlers that are called and never answer. */
const silent: Required<Handlers> = {
  unary: () => {},
  clientStream: () => {},
  serverStream: () => {},
  bidiStream: () => {},
};

/** Tells grpc-js and the server a second more than a call has. Otherwise it is a race who says first that time is up. */
const toldMore: Interceptor = (options, nextCall) => {
  const deadline = Number(options.deadline) + 1_000;
  return new InterceptingCall(nextCall({ ...options, deadline }));
};

/** Waits until no span is open. */
async function allEnded(scene: Scene): Promise<void> {
  for (let turn = 0; turn < 1_000 && tracing.open().length > 0; turn += 1) await scene.link.pass(5);
  expect(tracing.open()).toEqual([]);
}

/** Statuses of all spans, by the side that they tell of. */
function codes() {
  const of = (spans: ReturnType<TracingUnderTest["spans"]>) =>
    spans.map((span) => span.attributes["rpc.status_code"]);
  return {
    calls: of(tracing.calls()),
    attempts: of(tracing.attempts()),
    servers: of(tracing.servers()),
  };
}

describe.each(transports)("%s", (_way, makeTransport) => {
  it("a call that its caller cancels ends its spans on both sides", async () => {
    const scene = await open(makeTransport(), { handlers: silent });
    let cancel = () => {};
    const ended = unary(scene, {
      cancelAfter: (given) => {
        cancel = given;
      },
    });
    for (let turn = 0; turn < 1_000 && tracing.open().length < 3; turn += 1)
      await scene.link.pass(2);
    cancel();
    expect(await scene.link.until(ended)).toBe("CANCELLED");
    await allEnded(scene);
    expect(codes()).toEqual({
      calls: ["CANCELLED"],
      attempts: ["CANCELLED"],
      servers: ["CANCELLED"],
    });
    expect(tracing.attempts()[0]?.attributes["weir.attempt.origin"]).toBe("caller");
    expect(tracing.servers()[0]?.status.code).toBe(SpanStatusCode.UNSET);
  });

  it("a call whose deadline passes ends its spans, and says that time was up", async () => {
    const transport = makeTransport();
    const scene = await open(transport, { handlers: silent, innermost: [toldMore] });
    const ended = unary(scene, { deadlineIn: 500 }, transport.clock);
    expect(await scene.link.until(ended)).toBe("DEADLINE_EXCEEDED");
    await allEnded(scene);
    expect(codes()).toEqual({
      calls: ["DEADLINE_EXCEEDED"],
      attempts: ["DEADLINE_EXCEEDED"],
      servers: ["CANCELLED"],
    });
    expect(decisionsOf(tracing.calls()[0])).toEqual(["deadline expire DEADLINE_EXCEEDED"]);
    expect(tracing.attempts()[0]?.attributes["weir.attempt.origin"]).toBe("deadline");
  });

  it("a call whose time is over before it starts has one span", async () => {
    const transport = makeTransport();
    const scene = await open(transport);
    expect(await scene.link.until(unary(scene, { deadlineIn: -5 }, transport.clock))).toBe(
      "DEADLINE_EXCEEDED",
    );
    await allEnded(scene);
    expect(codes()).toEqual({ calls: ["DEADLINE_EXCEEDED"], attempts: [], servers: [] });
    expect(tracing.calls()[0]?.attributes["weir.rejection.reason"]).toBe("DEADLINE_EXPIRED");
  });

  it.each(Object.entries(kinds))(
    "a server that crashes ends the spans of a %s call",
    async (_kind, run) => {
      const scene = await open(makeTransport(), { handlers: silent, maxAttempts: 1 });
      const ended = run(scene);
      for (let turn = 0; turn < 1_000 && tracing.open().length < 3; turn += 1)
        await scene.link.pass(2);
      await scene.link.crash();
      expect(await scene.link.until(ended)).toBe("UNAVAILABLE");
      await allEnded(scene);
      expect(codes()).toEqual({
        calls: ["UNAVAILABLE"],
        attempts: ["UNAVAILABLE"],
        servers: ["CANCELLED"],
      });
      expect(tracing.attempts()[0]?.attributes["weir.attempt.origin"]).toBe("transport");
    },
  );

  it("a call whose caller cancels it between two attempts ends its span", async () => {
    const scene = await open(makeTransport(), {
      handlers: { unary: (_call, callback) => callback({ code: Status.UNAVAILABLE }) },
      maxAttempts: 100,
    });
    let cancel = () => {};
    const ended = unary(scene, {
      cancelAfter: (given) => {
        cancel = given;
      },
    });
    for (let turn = 0; turn < 1_000 && tracing.attempts().length < 2; turn += 1)
      await scene.link.pass(2);
    cancel();
    expect(await scene.link.until(ended)).toBe("CANCELLED");
    await allEnded(scene);
    expect(codes().calls).toEqual(["CANCELLED"]);
  });

  it("an outer layer that ends the call early ends its spans", async () => {
    class Impatient extends PlainCall {
      protected override begin(): void {
        super.begin();
        const overdue = { code: Status.ABORTED, details: "enough", metadata: new Metadata() };
        transport.clock.schedule(20, () => this.finish(overdue));
      }
    }
    const transport = makeTransport();
    const scene = await open(transport, {
      handlers: silent,
      outermost: [(options, nextCall) => new Impatient(options, nextCall)],
    });
    expect(await scene.link.until(unary(scene))).toBe("ABORTED");
    await allEnded(scene);
    expect(codes()).toMatchObject({ calls: ["ABORTED"], attempts: ["ABORTED"] });
  });

  it("a stream that its reader leaves ends its spans", async () => {
    const answer = { payload: Buffer.alloc(0), sequence: 1 };
    const scene = await open(makeTransport(), {
      handlers: {
        serverStream: (call) => {
          for (let number = 0; number < 10; number += 1) call.write(answer);
        },
      },
    });
    const call = scene.client.serverStream(answer);
    call.on("error", () => {});
    const left = new Promise((resolve) => call.on("status", resolve));
    call.once("data", () => call.cancel());
    await scene.link.until(left);
    await allEnded(scene);
    expect(codes()).toEqual({
      calls: ["CANCELLED"],
      attempts: ["CANCELLED"],
      servers: ["CANCELLED"],
    });
  });
});

it("an interceptor below that throws ends the spans with the status that the caller gets", async () => {
  const broken: Interceptor = () => {
    throw new Error("broken");
  };
  const scene = await open(inMemoryTransport(), { innermost: [broken] });
  expect(await scene.link.until(unary(scene))).toBe("INTERNAL");
  await allEnded(scene);
  expect(codes()).toEqual({ calls: ["INTERNAL"], attempts: ["INTERNAL"], servers: [] });
});

it("a call on a channel that was closed ends its spans", async () => {
  const scene = await open(inMemoryTransport());
  scene.client.close();
  expect(await scene.link.until(unary(scene))).toBe("UNAVAILABLE");
  await allEnded(scene);
  expect(codes().calls).toEqual(["UNAVAILABLE"]);
});

it("a call that is created and never started has no span", async () => {
  const idle: Interceptor = (options, nextCall) => {
    nextCall(options);
    return new InterceptingCall(nextCall(options));
  };
  const scene = await open(inMemoryTransport(), { outermost: [idle] });
  expect(await scene.link.until(unary(scene))).toBe("OK");
  await allEnded(scene);
  expect(tracing.calls()).toHaveLength(1);
});

it("a call that is cancelled before it starts has no span", async () => {
  const early: Interceptor = (options, nextCall) => {
    const call = nextCall(options);
    call.cancelWithStatus(Status.CANCELLED, "never mind");
    return new InterceptingCall(call);
  };
  const scene = await open(inMemoryTransport(), { outermost: [early] });
  expect(await scene.link.until(unary(scene))).toBe("CANCELLED");
  await allEnded(scene);
  expect(tracing.spans()).toEqual([]);
});

it("a handler that answers after its caller has left does not change its span", async () => {
  let answer = () => {};
  const scene = await open(inMemoryTransport(), {
    handlers: {
      unary: (_call, callback) => {
        answer = () => callback({ code: Status.INTERNAL, details: "too late" });
      },
    },
  });
  const ended = unary(scene, {
    cancelAfter: (cancel) => {
      scene.environment.clock.schedule(20, cancel);
    },
  });
  await scene.link.until(ended);
  await allEnded(scene);
  answer();
  await scene.link.pass(20);
  expect(codes().servers).toEqual(["CANCELLED"]);
});
