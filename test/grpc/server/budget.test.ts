import { AsyncLocalStorage, AsyncResource } from "node:async_hooks";
import v8 from "node:v8";
import { Metadata, type ServerInterceptor, status as Status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type Clock, systemClock } from "../../../src/core/clock.js";
import { InboundCall } from "../../../src/grpc/context/inbound-call.js";
import { pushbackKey } from "../../../src/grpc/metadata.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { PartialStatus, ServerCall, ServerCallListener } from "../../../src/grpc/types.js";
import type { ServerPolicy } from "../../../src/pipeline/server.js";
import { createWeir } from "../../../src/weir.js";

// What the toolkit does for one inbound call, counted and not timed: a budget that is exceeded is a cost for every call.

const method = {
  path: "/a.B/Unary",
  requestStream: false,
  responseStream: false,
  requestDeserialize: (bytes: Buffer) => bytes,
  responseSerialize: (bytes: Buffer) => bytes,
};
const request = Buffer.alloc(8);
const headers = new Metadata();
const ok: PartialStatus = { code: Status.OK, details: "OK", metadata: null };

/** The call of grpc-js, with a request that has arrived. */
class Wire implements ServerCall {
  readonly metadata = new Metadata();
  listener: ServerCallListener | undefined;
  sent: PartialStatus | undefined;
  headersSent = 0;
  reads = 0;
  readonly #deadline = Date.now() + 10_000;

  start(listener: ServerCallListener): void {
    this.listener = listener;
    listener.onReceiveMetadata(this.metadata);
  }

  sendMetadata(): void {
    this.headersSent += 1;
  }

  sendMessage(_message: unknown, callback: () => void): void {
    callback();
  }

  sendStatus(status: PartialStatus): void {
    this.sent = status;
    this.listener?.onCancel();
  }

  startRead(): void {
    this.reads += 1;
    if (this.reads === 1) this.listener?.onReceiveMessage(request);
    else if (this.reads === 2) this.listener?.onReceiveHalfClose();
  }

  getDeadline(): number {
    return this.#deadline;
  }

  getPeer(): string {
    return "127.0.0.1:1";
  }

  getHost(): string {
    return "localhost";
  }

  getAuthContext(): Record<string, never> {
    return {};
  }

  getConnectionInfo(): Record<string, never> {
    return {};
  }

  getMetricsRecorder(): never {
    throw new Error("a stub has no metrics");
  }
}

function server(policy: ServerPolicy, ownClock = true) {
  const counted = { reads: 0, timers: 0, turns: 0 };
  const clock: Clock = {
    now() {
      counted.reads += 1;
      return systemClock.now();
    },
    wallNow() {
      counted.reads += 1;
      return systemClock.wallNow();
    },
    // None fires: one that watches the process and arms itself again is no timer of a call.
    schedule() {
      counted.timers += 1;
      return () => {};
    },
    afterPoll(task) {
      counted.turns += 1;
      return systemClock.afterPoll(task);
    },
  };
  const weir = createWeir(ownClock ? { clock } : {});
  const interceptors: readonly ServerInterceptor[] = weir.server(policy).interceptors ?? [];
  const arrive = (answers = true) => {
    const wire = new Wire();
    let call: ServerCall = wire;
    for (const interceptor of interceptors) call = interceptor(method, call);
    let begun = 0;
    call.start({
      onReceiveMetadata() {
        begun += 1;
        call.startRead();
      },
      onReceiveMessage: () => call.startRead(),
      onReceiveHalfClose() {
        if (!answers) return;
        call.sendMetadata(headers);
        call.sendMessage(request, () => {});
        call.sendStatus(ok);
      },
      onCancel() {},
    });
    return { wire, call, begun };
  };
  return { weir, counted, arrive };
}

/** A server that refuses all calls but those that it holds. */
function full(ownClock = true) {
  const made = server({ admission: { limit: 1, maxQueued: 0 } }, ownClock);
  made.arrive(false);
  return made;
}

/** How often each thing is done while `task` runs. */
function countsOf(task: () => void): Record<string, number> {
  const spies = {
    "metadata read": vi.spyOn(Metadata.prototype, "get"),
    "metadata cloned": vi.spyOn(Metadata.prototype, "clone"),
    "metadata written": vi.spyOn(Metadata.prototype, "set"),
    "context entered": vi.spyOn(AsyncLocalStorage.prototype, "run"),
    "context gone back to": vi.spyOn(AsyncResource.prototype, "runInAsyncScope"),
    decisions: vi.spyOn(InboundCall.prototype, "decide"),
    ticks: vi.spyOn(process, "nextTick"),
  };
  task();
  const counts = Object.fromEntries(
    Object.entries(spies).map(([name, spy]) => [name, spy.mock.calls.length]),
  );
  vi.restoreAllMocks();
  return counts;
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Bytes that a call allocates, with those of the stub. Of several batches that with the fewest, as long as nothing is freed. */
async function bytesPerCall(arrive: () => unknown): Promise<number> {
  const batch = 100;
  const run = () => {
    for (let call = 0; call < batch; call += 1) arrive();
  };
  for (let round = 0; round < 100; round += 1) {
    run();
    await turn();
  }
  const found: number[] = [];
  for (let round = 0; round < 20; round += 1) {
    const before = v8.getHeapStatistics().used_heap_size;
    run();
    found.push((v8.getHeapStatistics().used_heap_size - before) / batch);
    await turn();
  }
  // Batches in which garbage was collected are below the others, and may be below zero.
  found.sort((a, b) => a - b);
  return found[Math.floor(found.length * 0.75)] ?? Number.POSITIVE_INFINITY;
}

afterEach(() => vi.restoreAllMocks());

describe("an ordinary call with context, deadline guard and admission", () => {
  it("has one call object, which is also the listener of the call of grpc-js", () => {
    const { wire, call } = server({ admission: {} }).arrive();
    expect(call).not.toBe(wire);
    expect(wire.listener).toBe(call);
    expect(wire.sent).toBe(ok);
  });

  it("does nothing twice, and nothing that it does not need", async () => {
    const { arrive } = server({ admission: {} });
    arrive();
    await turn();
    expect(countsOf(arrive)).toEqual({
      // Priority and cohort.
      "metadata read": 2,
      "metadata cloned": 0,
      "metadata written": 0,
      "context entered": 1,
      // For the end of the call.
      "context gone back to": 1,
      decisions: 0,
      // In which its permits are settled.
      ticks: 1,
    });
  });

  it("arms no timer of its own, and reads the clock when something begins or ends", async () => {
    const { arrive, counted } = server({ admission: {} });
    for (let call = 0; call < 50; call += 1) {
      arrive();
      // In a turn of its own: where a turn takes long, the calls that follow in it wait for the next.
      await turn();
    }
    Object.assign(counted, { reads: 0, timers: 0, turns: 0 });
    arrive();
    await turn();
    expect(counted.timers).toBe(0);
    expect(counted.turns).toBeLessThanOrEqual(1);
    expect(counted.reads).toBeLessThanOrEqual(8);
  });

  it("allocates at most 5,500 bytes", async () => {
    const { arrive, weir } = server({ admission: {} }, false);
    expect(await bytesPerCall(arrive)).toBeLessThan(5_500);
    weir.close();
  });

  it("leaves nothing in the lists of the server", async () => {
    const { arrive, weir } = server({ admission: {} });
    for (let call = 0; call < 10; call += 1) arrive();
    await turn();
    expect(weir.snapshot().policies).toMatchObject({
      admission: { instances: [{ running: 0, queued: 0 }] },
    });
  });
});

describe("a refused call", () => {
  it("is answered with trailers only, before its request is read or its handler hears of it", () => {
    const { wire, begun } = full().arrive();
    expect(wire.sent?.code).toBe(Status.RESOURCE_EXHAUSTED);
    expect(rejectionOf(wire.sent)).toMatchObject({ reason: "LOAD_SHED", local: false });
    expect(wire.sent?.metadata?.get(pushbackKey)).toHaveLength(1);
    expect([wire.headersSent, wire.reads, begun]).toEqual([0, 0, 0]);
  });

  it("enters no context, and makes no decision, copy or tick", () => {
    const { arrive } = full();
    arrive();
    expect(countsOf(arrive)).toEqual({
      "metadata read": 2,
      "metadata cloned": 0,
      "metadata written": 0,
      "context entered": 0,
      "context gone back to": 0,
      decisions: 0,
      ticks: 0,
    });
  });

  it("has answers that share their trailers with all others like it", () => {
    const { arrive } = full();
    const answers = Array.from({ length: 300 }, () => arrive().wire.sent);
    const bytes = answers.map((sent) => sent?.metadata?.get("grpc-status-details-bin")[0]);
    expect(new Set(bytes).size).toBeLessThan(150);
  });

  it("arms no timer", () => {
    const { arrive, counted } = full();
    arrive();
    Object.assign(counted, { reads: 0, timers: 0, turns: 0 });
    arrive();
    expect(counted).toMatchObject({ timers: 0, turns: 0 });
    expect(counted.reads).toBeLessThanOrEqual(5);
  });

  it("allocates at most 4,000 bytes", async () => {
    const { arrive, weir } = full(false);
    expect(await bytesPerCall(arrive)).toBeLessThan(4_000);
    weir.close();
  });
});
