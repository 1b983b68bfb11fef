import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import {
  type CallInvocationTransformer,
  type ClientOptions,
  type InterceptorOptions,
  Metadata,
  type NextCall,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import { afterEach, describe, expect, it, vi } from "vitest";
import { systemClock } from "../../src/core/clock.js";
import { OncePermit } from "../../src/core/permit.js";
import { Attempt } from "../../src/grpc/client/attempt.js";
import { PipelineCall } from "../../src/grpc/client/pipeline-call.js";
import * as rejection from "../../src/grpc/status/rejection.js";
import type { ClientCall, ClientListener } from "../../src/grpc/types.js";
import type { ClientPolicy } from "../../src/pipeline/client.js";
import { createWeir } from "../../src/weir.js";
import { optionsOf, settled } from "../grpc/client/fake-call.js";

// What a call costs that can be counted: objects, timers, copies, bytes. No clock is read here; the benches do that.

const ok: StatusObject = { code: Status.OK, details: "", metadata: new Metadata() };
const down: StatusObject = { code: Status.UNAVAILABLE, details: "down", metadata: new Metadata() };
const headers = new Metadata();

/** The call at the bottom: it answers at once, and allocates next to nothing. */
class Bottom implements ClientCall {
  readonly methodDefinition: unknown;
  readonly #answer: StatusObject;
  #listener: Partial<ClientListener> | undefined;

  constructor({ method_definition: definition }: InterceptorOptions, answer: StatusObject) {
    this.methodDefinition = definition;
    this.#answer = answer;
  }

  start(_metadata: Metadata, listener?: Partial<ClientListener>): void {
    this.#listener = listener;
  }

  sendMessageWithContext(): void {}
  sendMessage(): void {}
  startRead(): void {}
  cancelWithStatus(): void {}

  halfClose(): void {
    if (this.#answer.code === Status.OK) {
      this.#listener?.onReceiveMetadata?.(headers);
      this.#listener?.onReceiveMessage?.("answer");
    }
    this.#listener?.onReceiveStatus?.(this.#answer);
  }

  getPeer(): string {
    return "10.0.0.1:443";
  }

  getAuthContext(): null {
    return null;
  }
}

const channel = {
  getTarget: () => "dns:///shop",
  getConnectivityState: () => 2,
  watchConnectivityState() {},
  createCall: (): never => {
    throw new Error("the stub makes no calls of a channel");
  },
  close() {},
  getChannelzRef: (): never => {
    throw new Error("the stub has no channelz");
  },
};

/** Makes unary calls through the options of a client, as grpc-js does. */
function caller(options: ClientOptions, answer: StatusObject = ok) {
  const transform: CallInvocationTransformer =
    options.callInvocationTransformer ?? ((same) => same);
  const interceptors = options.interceptors ?? [];
  const { method_definition: definition } = optionsOf("unary");
  const request = { payload: Buffer.alloc(8), sequence: 1 };
  const statuses: number[] = [];
  const listener: ClientListener = {
    onReceiveMetadata() {},
    onReceiveMessage() {},
    onReceiveStatus: ({ code }) => void statuses.push(code),
  };
  const bottom: NextCall = (below) => new Bottom(below, answer);
  const make = () => {
    const { callOptions, methodDefinition, metadata } = transform({
      metadata: new Metadata(),
      call: undefined as never,
      channel,
      methodDefinition: { ...definition },
      callOptions: {},
    } as Parameters<CallInvocationTransformer>[0]);
    const given = { ...callOptions, method_definition: methodDefinition };
    const first = interceptors.reduceRight<NextCall>(
      (next, interceptor) => (own) => interceptor(own, next),
      bottom,
    );
    const call = first(given);
    call.start(metadata ?? new Metadata(), listener);
    call.sendMessage(request);
    call.halfClose();
  };
  return { make, statuses };
}

const full: ClientPolicy = {
  deadline: { defaultMs: 10_000 },
  bulkhead: { maxConcurrent: 1_000_000 },
};

/** Counts constructions by what each instance needs once: a call of the method that its start or end makes. */
async function counted(options: ClientOptions, answer: StatusObject = ok) {
  const { make, statuses } = caller(options, answer);
  make();
  await settled();
  const starts = vi.spyOn(PipelineCall.prototype, "start");
  const attempts = vi.spyOn(Attempt.prototype, "start");
  const clones = vi.spyOn(Metadata.prototype, "clone");
  const read = vi.spyOn(rejection, "rejectionOf");
  const settles = vi.spyOn(OncePermit.prototype, "settle");
  make();
  await settled();
  return {
    code: statuses.at(-1),
    calls: starts.mock.calls.length,
    attempts: attempts.mock.calls.length,
    clones: clones.mock.calls.length,
    statusesRead: read.mock.calls.length,
    settles: settles.mock.calls.length,
  };
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("an ordinary unary call", () => {
  it.each<[string, ClientPolicy, number]>([
    ["the defaults", {}, 1],
    // The breaker's permit and that of the bulkhead.
    ["deadline, retry, breaker and bulkhead", full, 2],
  ])(
    "costs one call object, one attempt and one copy of its metadata, with %s",
    async (_with, policy, permits) => {
      const found = await counted(createWeir().client(policy));
      expect(found).toMatchObject({
        code: Status.OK,
        calls: 1,
        attempts: 1,
        clones: 1,
        statusesRead: 0,
      });
      // A permit of the breaker is two objects, one of which asks the user's judgement.
      expect(found.settles).toBeLessThanOrEqual(permits + 1);
    },
  );

  it("copies no metadata where no further attempt is possible, and nothing is added", async () => {
    const found = await counted(createWeir().client({ retry: false, breaker: false }));
    expect(found).toMatchObject({ code: Status.OK, calls: 1, attempts: 1, clones: 0 });
  });

  it.each<[string, ClientPolicy, number]>([
    ["the defaults, which give it no deadline", {}, 0],
    ["a deadline, retry, breaker and bulkhead", full, 1],
  ])("arms the timer of its deadline and no other, with %s", async (_with, policy, timers) => {
    let armed = 0;
    const clock = {
      ...systemClock,
      schedule: (...args: Parameters<typeof systemClock.schedule>) => {
        armed += 1;
        return systemClock.schedule(...args);
      },
    };
    const { make } = caller(createWeir({ clock }).client(policy));
    make();
    await settled();
    armed = 0;
    make();
    await settled();
    expect(armed).toBe(timers);
  });

  it("reads the clock when it is made, when it is started and when it ends", async () => {
    const now = vi.fn(() => systemClock.now());
    const { make } = caller(createWeir({ clock: { ...systemClock, now } }).client(full));
    make();
    await settled();
    now.mockClear();
    make();
    await settled();
    expect(now).toHaveBeenCalledTimes(3);
  });

  it("makes no decision", async () => {
    const decisions: unknown[] = [];
    const weir = createWeir({ onDecision: (decision) => decisions.push(decision) });
    const { make } = caller(weir.client(full));
    make();
    await settled();
    expect(decisions).toEqual([]);
  });

  it("allocates a bounded number of bytes", async () => {
    const bare = await bytesOf(caller({}).make);
    const added = async (policy: ClientPolicy) =>
      (await bytesOf(caller(createWeir().client(policy)).make)) - bare;
    // 4,600 to 4,900 and 6,000 to 6,300 on Node 20 to 26.
    expect(await added({})).toBeLessThan(6_000);
    expect(await added(full)).toBeLessThan(7_500);
  });
});

describe("a call that an open breaker refuses", () => {
  it("reaches no call below, arms no timer and copies its metadata once", async () => {
    const weir = createWeir();
    const options = weir.client({ retry: false });
    const failing = caller(options, down);
    for (let n = 0; n < 10; n += 1) {
      failing.make();
      await settled();
    }
    const made = vi.spyOn(Bottom.prototype, "start");
    const found = await counted(options, down);
    expect(found).toMatchObject({ code: Status.UNAVAILABLE, calls: 1, clones: 0 });
    expect(made).not.toHaveBeenCalled();
  });
});

/** The median of the bytes that a call allocates. There is no collection meanwhile: the young generation is large. */
async function bytesOf(make: () => void): Promise<number> {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  if (typeof collect !== "function") throw new Error("no gc");
  for (let n = 0; n < 20_000; n += 1) make();
  await settled();
  const measured: number[] = [];
  for (let round = 0; round < 9; round += 1) {
    collect();
    const before = process.memoryUsage().heapUsed;
    for (let n = 0; n < 200; n += 1) make();
    measured.push((process.memoryUsage().heapUsed - before) / 200);
    await settled();
  }
  measured.sort((a, b) => a - b);
  return measured[4] ?? Number.NaN;
}
