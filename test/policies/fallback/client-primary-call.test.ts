import { InterceptingCall, type Interceptor, Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { refusal } from "../../../src/core/permit.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { type OptionsWithOwn, recordKey } from "../../../src/grpc/context/call-record.js";
import { InboundCall, runInbound } from "../../../src/grpc/context/inbound-call.js";
import { localRejection, rejectionOf } from "../../../src/grpc/status/rejection.js";
import { fallback } from "../../../src/policies/fallback/client.js";
import type { FallbackPolicyOptions } from "../../../src/policies/fallback/client-policy.js";
import { empty, staticValue, value } from "../../../src/policies/fallback/client-providers.js";
import {
  type AnswerCache,
  encodeAnswer,
} from "../../../src/policies/fallback/stale-cache/answer-cache.js";
import { staleCache } from "../../../src/policies/fallback/stale-cache/client-cache.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { createWeir } from "../../../src/weir.js";
import { callOf, ended, fakeBelow, settled, Writes } from "../../grpc/client/fake-call.js";
import { echo, path } from "../../scene.js";
import { answer, below, from } from "./below-scene.js";
import { message } from "./client-scene.js";

const never = () => new Promise<undefined>(() => {});

describe.each(["enforce", "observe"] as const)("the responses in mode %s", (mode) => {
  const { nextCall } = fakeBelow();
  const isWatched = (options: FallbackPolicyOptions) => {
    const definition = { ...ConformanceServiceService.unary };
    const { responseDeserialize } = definition;
    fallback({ ...options, mode })({ method_definition: definition }, nextCall);
    return definition.responseDeserialize !== responseDeserialize;
  };

  it("are watched for the sake of a cache alone", () => {
    expect(isWatched({ providers: [staleCache({ shared: true })] })).toBe(true);
    expect(isWatched({ providers: [empty()] })).toBe(false);
  });
});

describe("a call of its own", () => {
  it("shows the headers of a single response once, before its message", () => {
    const made = below({ providers: [empty()] });
    const { heard } = made.start();
    const service = callOf(made.calls);
    service.headers(from("service"));
    expect(heard).toEqual([]);
    answer(service, 5);
    service.end(ended(Status.OK));
    expect(heard).toEqual(["headers service", "message 5", "OK "]);
  });

  it("ends as its service says if that comes before its cancellation has been answered", async () => {
    const made = below({ providers: [empty()] });
    const { call, heard } = made.start();
    call.cancelWithStatus(Status.CANCELLED, "by its caller");
    callOf(made.calls).end(ended(Status.CANCELLED, "as the service saw it"));
    await settled();
    expect(heard).toEqual(["message null", "CANCELLED as the service saw it"]);
  });

  it.each(["unary", "server-stream"] as const)(
    "of kind %s gets nothing more of a service that has failed",
    async (kind) => {
      const made = below({ providers: [value(never)] });
      const { heard } = made.start(kind);
      const service = callOf(made.calls);
      service.end(ended(Status.UNAVAILABLE));
      service.headers(from("late"));
      answer(service, 5);
      await settled();
      expect(heard).toEqual([]);
    },
  );

  it("is not read any more once a provider answers in its place", async () => {
    const made = below({ providers: [staticValue([message(7), message(8)])] });
    const { call, heard } = made.start("server-stream");
    const service = callOf(made.calls);
    call.startRead();
    service.end(ended(Status.UNAVAILABLE));
    await settled();
    call.startRead();
    await settled();
    expect(heard).toEqual(["headers ", "message 7", "message 8"]);
    expect(service.log.filter((entry) => entry === "read")).toHaveLength(1);
  });

  it("gets no message of a provider before it reads one", async () => {
    const made = below({ providers: [staticValue([message(7)])] });
    const { call, heard } = made.start("server-stream");
    callOf(made.calls).end(ended(Status.UNAVAILABLE));
    await settled();
    expect(heard).toEqual(["headers "]);
    call.startRead();
    await settled();
    expect(heard).toEqual(["headers ", "message 7"]);
  });

  it("sets no timer where no time is kept for its fallback", () => {
    const made = below({ reserveMs: 0, providers: [empty()] });
    made.start("unary", made.within(1_000));
    made.start("unary");
    expect(made.clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("is cut short by a millisecond if that is what is kept", async () => {
    const made = below({ reserveMs: 1, providers: [staticValue(message(7))] });
    const { heard } = made.start("unary", made.within(1_000));
    made.clock.advance(998);
    expect(heard).toEqual([]);
    made.clock.advance(1);
    expect(heard).toEqual(["headers ", "message 7", "OK OK"]);
  });

  it.each([
    ["alone", [empty()], 900],
    ["shared", [staleCache({ shared: true })], 1_800],
  ] as const)(
    "%s is timed by the fallback first, and by grpc-js later",
    (_how, providers, untilMs) => {
      const made = below({ reserveMs: 100, providers });
      const nowMs = made.clock.wallNow();
      made.start("unary", made.within(1_000));
      expect(made.timers[0]).toBeGreaterThan(nowMs + untilMs);
      expect(Number(callOf(made.calls).options.deadline)).toBe(nowMs + untilMs);
    },
  );

  it("that has begun ends as its service says, though the time of the service is over", () => {
    const made = below({ reserveMs: 400, providers: [staticValue([message(7)])] });
    const { heard } = made.start("server-stream", made.within(1_000));
    const service = callOf(made.calls);
    answer(service, 1);
    made.clock.advance(900);
    service.end(ended(Status.DEADLINE_EXCEEDED, "the service's own"));
    expect(heard).toEqual(["message 1", "DEADLINE_EXCEEDED the service's own"]);
    expect(made.decisions).toEqual([]);
  });

  it.each([
    [0, "DEADLINE_EXCEEDED the service's own"],
    [1, "OK OK"],
  ])(
    "with %d ms for its fallback ends with %s if its service ends when its time is over",
    async (reserveMs, end) => {
      const made = below({ reserveMs, providers: [staticValue(message(7))] });
      const { heard } = made.start("unary", made.within(1_000));
      const service = callOf(made.calls);
      // Before the fallback's own timer, which lets the sockets be read first.
      made.clock.schedule(1_000 - reserveMs, () =>
        service.end(ended(Status.DEADLINE_EXCEEDED, "the service's own")),
      );
      made.clock.advance(1_000 - reserveMs);
      expect(heard.at(-1)).toBe(end);
      expect(made.decisions).toHaveLength(reserveMs === 0 ? 0 : 2);
    },
  );
});

describe("a call that shares another", () => {
  const shared = { providers: [staleCache({ shared: true })] };

  it("has its write called back", async () => {
    const made = below(shared);
    made.start();
    const writes = new Writes();
    const { call } = made.start("unary", { send: false });
    call.sendMessageWithContext(writes.context(), message(1));
    await settled();
    expect([made.calls.length, writes.counts]).toEqual([1, [1]]);
  });

  it("is with the peer of that call, and one alone with its own", () => {
    const made = below(shared);
    const joined = [made.start(), made.start()];
    const other = made.start("server-stream");
    const context = { transportSecurityType: "ssl" };
    for (const [index, call] of made.calls.entries()) {
      call.peer = `10.0.0.${index}:443`;
      Object.assign(call, { getAuthContext: () => ({ ...context, index }) });
    }
    const peers = [...joined, other].map(({ call }) => [call.getPeer(), call.getAuthContext()]);
    expect(peers).toEqual([
      ["10.0.0.0:443", { ...context, index: 0 }],
      ["10.0.0.0:443", { ...context, index: 0 }],
      ["10.0.0.1:443", { ...context, index: 1 }],
    ]);
  });

  it("cancels it as it is cancelled, when it is the last, and leaves no timer", async () => {
    const made = below({ ...shared, reserveMs: 100 });
    const both = [made.start("unary", made.within(500)), made.start("unary", made.within(500))];
    for (const { call } of both) call.cancelWithStatus(Status.DEADLINE_EXCEEDED, "too late");
    expect(callOf(made.calls).log.at(-1)).toBe("cancel DEADLINE_EXCEEDED too late");
    expect(made.clock.pending).toEqual({ refs: 0, unrefs: 0 });
    await settled();
    for (const { heard } of both) {
      expect(heard).toEqual(["message null", "DEADLINE_EXCEEDED too late"]);
    }
  });

  it("leaves it when the time of the service is over, and not when its fallback has answered", () => {
    const made = below({
      reserveMs: 300,
      providers: [staleCache({ shared: true }), value(never)],
    });
    made.start("unary", made.within(1_000));
    made.clock.advance(700);
    const text = "Deadline exceeded after 0.700s, 300 ms are kept for the fallback";
    expect(callOf(made.calls).log.at(-1)).toBe(`cancel DEADLINE_EXCEEDED ${text}`);
  });

  it("has one of its own, as any call, once that has failed for the caller who made it", async () => {
    const made = below(shared);
    made.start();
    const { call, heard } = made.start();
    callOf(made.calls).end(ended(Status.UNAUTHENTICATED));
    await settled();
    const own = callOf(made.calls, 1);
    expect(own.log.map((entry) => entry.split(" ")[0])).toEqual(["start", "message", "half-close"]);
    expect(made.decisions).toMatchObject([
      { verdict: "queue", detail: "shared a call that failed for its first caller" },
    ]);
    own.peer = "10.0.0.7:443";
    expect(call.getPeer()).toBe("10.0.0.7:443");
    call.cancelWithStatus(Status.CANCELLED, "by its caller");
    expect(own.log.at(-1)).toBe("cancel CANCELLED by its caller");
    own.end(ended(Status.CANCELLED, "as the service saw it"));
    await settled();
    expect(heard.at(-1)).toBe("CANCELLED as the service saw it");
  });

  describe("is retried as often as one of its own would be", () => {
    const depth = (retryDepth: number) => {
      const metadata = new Metadata();
      metadata.set("x-weir-retry-depth", String(retryDepth));
      return { metadata };
    };
    const inside = (made: ReturnType<typeof below>, retryDepth: number) => {
      const inbound = new InboundCall({
        method: path.unary,
        kind: "unary",
        caller: { getPeer: () => "", getAuthContext: () => ({}) },
        clock: made.clock,
        report: () => {},
        startedAtMs: 0,
        deadlineMs: Number.POSITIVE_INFINITY,
      });
      inbound.metadata = new Metadata();
      inbound.metadata.set("x-weir-retry-depth", String(retryDepth));
      runInbound(inbound, () => made.start());
    };

    it.each([
      ["by its metadata", (made: ReturnType<typeof below>) => made.start("unary", depth(1))],
      ["by its inbound call", (made: ReturnType<typeof below>) => inside(made, 1)],
    ])("the other is retried above, %s", (_how, other) => {
      const made = below(shared);
      other(made);
      made.start();
      expect(made.calls).toHaveLength(2);
      other(made);
      expect(made.calls).toHaveLength(2);
    });
  });
});

describe("a call that looks for a fresh answer", () => {
  const fresh = (store: Partial<AnswerCache>, vary: () => string | undefined = () => "all") =>
    below({
      providers: [
        staleCache({ vary, freshMs: 1_000, store: { get: never, set: () => {}, ...store } }),
      ],
    });

  it("asks the store once, whatever is sent behind its request", () => {
    let asked = 0;
    const get = () => {
      asked += 1;
      return never();
    };
    const made = fresh({ get });
    const { call } = made.start();
    call.sendMessage(message(2));
    expect([asked, made.calls]).toEqual([1, []]);
  });

  it("does not ask the store if its caller has no name", () => {
    let asked = 0;
    const made = fresh(
      {
        get: () => {
          asked += 1;
          return undefined;
        },
      },
      () => undefined,
    );
    made.start();
    expect([asked, made.calls.length]).toEqual([0, 1]);
  });

  it.each([
    ["an answer", encodeAnswer({ storedAtMs: 1_750_000_000_000, messages: [Buffer.alloc(0)] })],
    ["no answer", undefined],
  ])(
    "asks the service when the store has taken 100 ms, which then has %s",
    async (_what, bytes) => {
      let reply: (found: Uint8Array | undefined) => void = () => {};
      const made = fresh({
        get: () =>
          new Promise((resolve) => {
            reply = resolve;
          }),
      });
      const { heard } = made.start("unary", made.within(1_000));
      made.clock.advance(99);
      expect(made.calls).toHaveLength(0);
      made.clock.advance(1);
      expect(made.calls).toHaveLength(1);
      const { pending } = made.clock;
      reply(bytes);
      await settled();
      expect([heard, made.calls.length, made.clock.pending]).toEqual([[], 1, pending]);
      answer(callOf(made.calls), 5);
      callOf(made.calls).end(ended(Status.OK));
      await settled();
      expect(heard).toEqual(["message 5", "OK "]);
    },
  );

  it("is answered by a stored answer as old as it may be", async () => {
    const stored = new Map<string, Uint8Array>();
    const made = fresh({
      get: (key) => stored.get(key),
      set: (key, bytes) => stored.set(key, bytes),
    });
    const first = made.start();
    answer(callOf(made.calls), 5);
    callOf(made.calls).end(ended(Status.OK));
    await settled();
    expect(first.heard).toEqual(["message 5", "OK "]);
    made.clock.advance(1_000);
    const again = made.start();
    await settled();
    expect(again.heard).toEqual(["headers ", "message 5", "OK OK"]);
    made.clock.advance(1);
    made.start();
    await settled();
    expect(made.calls).toHaveLength(2);
  });

  it("leaves no timer when its caller leaves", () => {
    const made = fresh({});
    const { call } = made.start();
    expect(made.clock.pending.refs).toBe(1);
    call.cancelWithStatus(Status.CANCELLED, "");
    expect(made.clock.pending.refs).toBe(0);
  });

  it.each([
    ["an answer", encodeAnswer({ storedAtMs: 1_750_000_000_000, messages: [Buffer.alloc(0)] })],
    ["no answer", undefined],
  ])("is over if it ends while the store is asked, which has %s", async (_what, bytes) => {
    const made = fresh({
      get: () => {
        call.cancelWithStatus(Status.CANCELLED, "by its store");
        return bytes;
      },
    });
    const { call, heard } = made.start("unary", { send: false });
    call.sendMessage(message(1));
    await settled();
    expect(heard).toEqual(["message null", "CANCELLED by its store"]);
    expect([made.calls, made.decisions]).toEqual([[], []]);
    expect(made.clock.pending.refs).toBe(0);
  });
});

describe("a shared call", () => {
  const stored: string[] = [];
  const store: AnswerCache = { get: () => undefined, set: (key) => stored.push(key) };
  const shared = () => {
    stored.length = 0;
    return below({ providers: [staleCache({ shared: true, store })] });
  };

  it("is joined although the one before it, which waited less long, has ended", async () => {
    const made = shared();
    const short = made.start("unary", made.within(100));
    const patient = made.start();
    answer(callOf(made.calls), 1);
    callOf(made.calls).end(ended(Status.OK));
    await settled();
    expect([short.heard.at(-1), patient.heard]).toEqual(["OK ", []]);
    made.start();
    expect(made.calls).toHaveLength(2);
  });

  it("is cancelled with CANCELLED if its last caller cancels with OK", () => {
    const made = shared();
    made.start().call.cancelWithStatus(Status.OK, "odd");
    expect(callOf(made.calls).log.at(-1)).toBe("cancel CANCELLED odd");
  });

  it("has nothing to tell or to store once all have left", async () => {
    const made = shared();
    const { call, heard } = made.start();
    call.cancelWithStatus(Status.CANCELLED, "");
    answer(callOf(made.calls), 1);
    callOf(made.calls).end(ended(Status.OK));
    await settled();
    expect([heard, stored]).toEqual([["message null", "CANCELLED "], []]);
  });

  it("has nothing to tell to who leaves as it ends", async () => {
    const made = shared();
    made.start();
    const { call, heard } = made.start();
    answer(callOf(made.calls), 1);
    callOf(made.calls).end(ended(Status.OK));
    call.cancelWithStatus(Status.CANCELLED, "");
    await settled();
    expect([heard, made.decisions]).toEqual([["message null", "CANCELLED "], []]);
  });

  it.each([
    ["its message is followed by a failure", true, Status.UNAVAILABLE],
    ["it ends with OK, and without a message", false, Status.OK],
  ])("stores nothing, and reports nothing, if %s", async (_how, withMessage, code) => {
    const made = shared();
    made.start();
    if (withMessage) answer(callOf(made.calls), 1);
    callOf(made.calls).end(ended(code));
    await settled();
    expect([stored, made.errors]).toEqual([[], []]);
  });

  it("shares a refusal of this process, which each can tell from one of the server", async () => {
    const made = shared();
    const both = [made.start(), made.start()];
    callOf(made.calls).end(localRejection(refusal("ATTEMPT_TIMEOUT", "too slow")));
    await settled();
    const rejections = both.map(({ statuses: [status] }) => status && rejectionOf(status));
    expect(rejections).toMatchObject([
      { reason: "ATTEMPT_TIMEOUT", local: true },
      { reason: "ATTEMPT_TIMEOUT", local: true },
    ]);
  });

  it("that cannot be made fails for its caller", async () => {
    const clock = new VirtualClock();
    const interceptor = fallback({ clock, providers: [staleCache({ shared: true })] });
    const call = interceptor({ method_definition: { ...ConformanceServiceService.unary } }, () => {
      throw new Error("cannot be made");
    });
    const codes: Status[] = [];
    call.start(new Metadata(), { onReceiveStatus: ({ code }) => codes.push(code) });
    call.sendMessage(message(1));
    await settled();
    expect(codes).toEqual([Status.INTERNAL]);
  });

  it("is of the target, the priority and twice the time of the call that made it", async () => {
    const transport = inMemoryTransport();
    const { clock, random } = transport;
    const weir = createWeir({ clock, random });
    const { interceptors = [], ...options } = weir.client({
      fallback: { reserveMs: 100, providers: [staleCache({ shared: true })] },
    });
    const seen: unknown[] = [];
    const probe: Interceptor = (own: OptionsWithOwn, nextCall) => {
      const record = own[recordKey];
      seen.push([record?.target, record?.priority, (record?.deadlineMs ?? 0) - clock.now()]);
      return new InterceptingCall(nextCall(own));
    };
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: echo,
      clientOptions: { ...options, interceptors: [...interceptors, probe] },
      serverInterceptors: [],
    });
    const client = link.client(ConformanceServiceClient);
    const called = new Promise((resolve) => {
      const own = weir.with({ deadline: clock.wallNow() + 1_000 }, { priority: "low" });
      client.unary(message(1), new Metadata(), own, resolve);
    });
    expect(await link.until(called, 1e6)).toBe(null);
    expect(seen).toEqual([[client.getChannel().getTarget(), "low", 1_800]]);
  });
});
