import { AsyncResource } from "node:async_hooks";
import { EventEmitter } from "node:events";
import { Metadata, type ServerUnaryCall, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { Clock } from "../../../src/core/clock.js";
import { refusal } from "../../../src/core/permit.js";
import { ConformanceServiceClient } from "../../../src/gen/weir/v1/conformance.js";
import { type OptionsWithOwn, recordKey } from "../../../src/grpc/context/call-record.js";
import { detached, InboundCall, runInbound } from "../../../src/grpc/context/inbound-call.js";
import { localRejection, rejectionOf } from "../../../src/grpc/status/rejection.js";
import {
  type DeadlineOptions,
  deadline,
  resolveDeadlineOptions,
} from "../../../src/policies/deadline/client.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { callOf, ended, fakeBelow, Hearer, optionsOf } from "../../grpc/client/fake-call.js";
import { echo, handlers, kinds, path, type Running, scene, startCall } from "../../scene.js";

describe.each(kinds)("deadline of %s", (method) => {
  it("is the default where the call sets none", async () => {
    const { call, clock, link } = await scene({
      client: { deadline: { defaultMs: 700 } },
      handlers: handlers(() => {}),
    });
    const beganMs = clock.now();
    const ended = await call(method);
    expect(ended.code).toBe(Status.DEADLINE_EXCEEDED);
    expect(ended.details).toBe("Deadline exceeded after 0.700s, 1 attempt [DEADLINE_EXCEEDED]");
    expect(clock.now() - beganMs).toBe(700);
    expect(rejectionOf(ended.error ?? {})).toMatchObject({
      reason: "DEADLINE_EXCEEDED",
      local: true,
    });
    await link.pass(100);
    expect(link.inFlight()).toBe(0);
    expect(clock.pending.refs).toBe(0);
  });

  it("is the call's own where it sets one, even a later one", async () => {
    const { call, clock } = await scene({
      client: { deadline: { defaultMs: 700 } },
      handlers: handlers(() => {}),
    });
    const beganMs = clock.now();
    await call(method, { deadline: clock.wallNow() + 900 });
    expect(clock.now() - beganMs).toBe(900);
  });

  it("is that of its method where the policy names one", async () => {
    const { call, clock } = await scene({
      client: {
        deadline: { defaultMs: 700 },
        methods: { [path[method]]: { deadline: { defaultMs: 50 } } },
      },
      handlers: handlers(() => {}),
    });
    const beganMs = clock.now();
    await call(method);
    expect(clock.now() - beganMs).toBe(50);
  });

  it.each([false, undefined])(
    "is none where the policy of its method says %s",
    async (defaultMs) => {
      const { start, link } = await scene({
        client: {
          deadline: { defaultMs: 700 },
          methods: { [path[method]]: { deadline: { defaultMs } as DeadlineOptions } },
        },
        handlers: handlers(() => {}),
      });
      const running = start(method);
      await link.pass(5_000);
      expect(link.inFlight()).toBeGreaterThan(0);
      running.cancel();
      expect((await link.until(running.ended)).code).toBe(Status.CANCELLED);
    },
  );

  it("of a millisecond is enough for a call to be sent, and for its handler to begin", async () => {
    let handled = 0;
    const { call, clock } = await scene({
      server: {},
      handlers: handlers((_call, answer) => {
        handled += 1;
        answer();
      }),
    });
    expect((await call(method, { deadline: clock.wallNow() + 1 })).code).toBe(Status.OK);
    expect(handled).toBe(1);
  });

  it("is over at its very millisecond", async () => {
    const { call, clock, decisions } = await scene();
    const ended = await call(method, { deadline: clock.wallNow() });
    expect(rejectionOf(ended.error ?? {})?.reason).toBe("DEADLINE_EXPIRED");
    expect(decisions).toMatchObject([{ policy: "deadline", verdict: "reject" }]);
  });

  it("refuses a call whose time is over, and sends nothing", async () => {
    let handled = 0;
    const { call, clock, decisions } = await scene({
      handlers: handlers(() => {
        handled += 1;
      }),
    });
    const ended = await call(method, { deadline: clock.wallNow() - 1 });
    expect(ended.code).toBe(Status.DEADLINE_EXCEEDED);
    expect(rejectionOf(ended.error ?? {})?.reason).toBe("DEADLINE_EXPIRED");
    expect(handled).toBe(0);
    expect(decisions).toMatchObject([{ policy: "deadline", verdict: "reject", enforced: true }]);
  });

  it.each([Number.NaN, new Date(Number.NaN)])(
    "ends a call at once whose deadline is %s",
    async (deadline) => {
      const { call } = await scene();
      const ended = await call(method, { deadline });
      expect(ended.code).toBe(Status.INTERNAL);
      expect(ended.details).toContain("deadline is not a time");
    },
  );

  it("clamps a deadline that grpc-js cannot carry", async () => {
    const { call } = await scene();
    expect((await call(method, { deadline: new Date(8.64e15) })).code).toBe(Status.OK);
  });

  it("is not moved by a step of the system clock", async () => {
    const { start, clock, link } = await scene({ handlers: handlers(() => {}) });
    const beganMs = clock.now();
    const running = start(method, { deadline: clock.wallNow() + 500 });
    clock.stepWall(-3_600_000);
    expect((await link.until(running.ended)).code).toBe(Status.DEADLINE_EXCEEDED);
    expect(clock.now() - beganMs).toBe(500);
  });
});

/** A front service whose handler calls the echo service of another scene on the same clock. */
async function chain(
  method: (typeof kinds)[number],
  make: (start: () => Running) => Running,
  deadline: DeadlineOptions = {},
) {
  const back = await scene({ handlers: handlers(() => {}), client: { retry: false, deadline } });
  const inner: Running[] = [];
  const front = await scene({
    clock: back.clock,
    server: {},
    client: { retry: false },
    handlers: {
      ...echo,
      unary: () => {
        inner.push(make(() => back.start(method)));
      },
    },
  });
  return { back, front, inner };
}

describe.each(kinds)("an outbound %s made by a handler", (method) => {
  it("inherits the inbound deadline less a margin, and ends DEADLINE_EXCEEDED", async () => {
    const { front, inner } = await chain(method, (start) => start());
    const { clock, link } = front;
    const beganMs = clock.now();
    const running = front.start("unary", { deadline: clock.wallNow() + 400 });
    await link.pass(390);
    const ended = await link.until(inner[0]?.ended ?? Promise.reject(new Error("no inner call")));
    expect(ended.code).toBe(Status.DEADLINE_EXCEEDED);
    expect(clock.now() - beganMs).toBeLessThanOrEqual(400);
    expect((await link.until(running.ended)).code).toBe(Status.DEADLINE_EXCEEDED);
  });

  it("ends with the inbound deadline itself where there is no margin, and is not cancelled for it", async () => {
    const { front, inner, back } = await chain(method, (start) => start(), { marginMs: 0 });
    const running = front.start("unary", { deadline: front.clock.wallNow() + 400 });
    await front.link.pass(10);
    const ended = await front.link.until(
      inner[0]?.ended ?? Promise.reject(new Error("no inner call")),
    );
    expect(ended.code).toBe(Status.DEADLINE_EXCEEDED);
    await front.link.until(running.ended);
    await front.link.pass(10);
    expect(back.decisions).toMatchObject([{ reason: "DEADLINE_EXCEEDED", enforced: true }]);
  });

  it("is cancelled when the inbound call is", async () => {
    const { front, inner, back } = await chain(method, (start) => start());
    const running = front.start("unary");
    await front.link.pass(10);
    running.cancel();
    const ended = await front.link.until(
      inner[0]?.ended ?? Promise.reject(new Error("no inner call")),
    );
    expect(ended.code).toBe(Status.CANCELLED);
    expect(rejectionOf(ended.error ?? {})?.reason).toBe("PARENT_CANCELLED");
    await front.link.pass(10);
    expect(back.link.inFlight()).toBe(0);
  });

  it("is cancelled by whoever made it, and not by the inbound call, when both were in the same tick", async () => {
    let later: () => Running = () => {
      throw new Error("no handler ran");
    };
    const { front, back } = await chain(method, (start) => {
      later = AsyncResource.bind(start);
      return start();
    });
    const running = front.start("unary");
    await front.link.pass(10);
    running.cancel();
    await front.link.pass(10);
    const parentCancelled = () =>
      back.decisions.filter(({ reason }) => reason === "PARENT_CANCELLED").length;
    expect(parentCancelled()).toBe(1);
    const late = later();
    late.cancel();
    const ended = await front.link.until(late.ended);
    expect([ended.code, rejectionOf(ended.error ?? {})]).toEqual([Status.CANCELLED, undefined]);
    await front.link.pass(10);
    expect(parentCancelled()).toBe(1);
    // One that is not cancelled is, and that is noted.
    const next = await front.link.until(later().ended);
    expect(rejectionOf(next.error ?? {})?.reason).toBe("PARENT_CANCELLED");
    expect(parentCancelled()).toBe(2);
    expect(back.link.inFlight()).toBe(0);
  });

  it("goes its own way when it is detached", async () => {
    const { front, inner, back } = await chain(method, (start) => detached(start));
    const running = front.start("unary", { deadline: front.clock.wallNow() + 100 });
    await front.link.pass(10);
    running.cancel();
    await front.link.pass(1_000);
    expect(back.link.inFlight()).toBeGreaterThan(0);
    inner[0]?.cancel();
    await front.link.pass(10);
    expect(back.link.inFlight()).toBe(0);
  });
});

describe("an outbound call", () => {
  it("goes on when the inbound call ends well", async () => {
    const back = await scene({
      handlers: handlers((_call, answer) => back.clock.schedule(100, answer)),
    });
    let inner: Running | undefined;
    const front = await scene({
      clock: back.clock,
      server: {},
      handlers: {
        ...echo,
        unary: (call, callback) => {
          inner = back.start("unary");
          callback(null, call.request);
        },
      },
    });
    expect((await front.call("unary")).code).toBe(Status.OK);
    expect((await front.link.until(inner?.ended ?? Promise.reject(new Error("none")))).code).toBe(
      Status.OK,
    );
  });

  it("never tells the next service a later deadline than the inbound one", async () => {
    const seen: number[] = [];
    const inbound: number[] = [];
    const back = await scene({
      handlers: {
        ...echo,
        unary: (call, callback) => {
          seen.push(Number(call.getDeadline()));
          callback(null, call.request);
        },
      },
    });
    const front = await scene({
      clock: back.clock,
      server: {},
      handlers: {
        ...echo,
        unary: (call, callback) => {
          inbound.push(Number(call.getDeadline()));
          const client = back.link.client(ConformanceServiceClient);
          const own = { deadline: back.clock.wallNow() + 60_000 };
          void startCall(client, "unary", own, new Metadata()).ended.then(() =>
            callback(null, call.request),
          );
        },
      },
    });
    const deadline = front.clock.wallNow() + 300;
    expect((await front.call("unary", { deadline })).code).toBe(Status.OK);
    expect(seen).toHaveLength(1);
    // The wire carries whole milliseconds, rounded up.
    expect(seen[0]).toBeLessThanOrEqual((inbound[0] ?? 0) + 1);
  });
});

it.each([1_000, Number.POSITIVE_INFINITY, Number.NaN])(
  "a call leaves nothing behind at the call that its option names as the parent, which has %d ms left",
  async (leftMs) => {
    const { client, link, clock } = await scene({ handlers: echo });
    const getDeadline = () => clock.wallNow() + leftMs;
    const parent = Object.assign(new EventEmitter(), { getDeadline });
    const options = { parent: parent as unknown as ServerUnaryCall<unknown, unknown> };
    const running = startCall(client, "unary", options, new Metadata());
    expect(parent.listenerCount("cancelled")).toBe(1);
    expect((await link.until(running.ended)).code).toBe(Status.OK);
    expect(parent.listenerCount("cancelled")).toBe(0);
  },
);

describe("the options of a deadline", () => {
  it("have no default deadline, and a margin of 5 ms", () => {
    expect(resolveDeadlineOptions()).toEqual({
      defaultMs: undefined,
      totalMs: undefined,
      marginMs: 5,
    });
  });

  it("may be as short as a millisecond, and no margin", () => {
    const least = { defaultMs: 1, marginMs: 0 };
    expect(resolveDeadlineOptions(least)).toMatchObject(least);
  });

  it.each<[string, object]>([
    ["deadline.defaultMs", { defaultMs: 0 }],
    ["deadline.marginMs", { marginMs: -1 }],
    ["deadline.ms", { ms: 1 }],
  ])("name %s where it is nonsense", (option, given) => {
    expect(() => resolveDeadlineOptions(given)).toThrow(expect.objectContaining({ option }));
  });
});

describe("a deadline that stands alone", () => {
  /** A call of half a second, over one that the test plays. */
  function alone() {
    const clock = new VirtualClock();
    const below = fakeBelow();
    const reasons: unknown[] = [];
    const interceptor = deadline({ clock, onDecision: ({ reason }) => reasons.push(reason) });
    const own = { deadline: clock.wallNow() + 500 };
    const call = interceptor({ ...optionsOf(), ...own }, below.nextCall);
    const hearer = new Hearer();
    call.start(new Metadata(), hearer);
    return { clock, below, hearer, reasons };
  }

  it("knows no attempts, and tells of none", async () => {
    const { clock, hearer } = alone();
    await clock.pass(500);
    expect(hearer.statuses).toMatchObject([
      {
        code: Status.DEADLINE_EXCEEDED,
        details: "Deadline exceeded after 0.500s [DEADLINE_EXCEEDED]",
      },
    ]);
  });

  it("is over as well where the server is the first to say so", async () => {
    const { clock, below, hearer, reasons } = alone();
    clock.schedule(500, () => callOf(below.calls).end(ended(Status.DEADLINE_EXCEEDED, "too slow")));
    await clock.pass(500);
    expect(hearer.statuses).toMatchObject([
      { details: "Deadline exceeded after 0.500s [DEADLINE_EXCEEDED]" },
    ]);
    expect(reasons).toEqual(["DEADLINE_EXCEEDED"]);
  });

  it("leaves a status as it is that a policy below made at that moment", async () => {
    const { clock, below, hearer, reasons } = alone();
    const expired = localRejection(refusal("ATTEMPT_TIMEOUT", "too slow"));
    clock.schedule(500, () => callOf(below.calls).end(expired));
    await clock.pass(500);
    expect(hearer.statuses.map((status) => rejectionOf(status)?.reason)).toEqual([
      "ATTEMPT_TIMEOUT",
    ]);
    expect(reasons).toEqual([]);
  });
});

describe("an outbound call whose inbound call runs out of time before its own timer fires", () => {
  it.each([
    [395, false],
    [415, false],
    [430, true],
  ])(
    "ends %d ms after its start by a deadline of 400 ms, and was held up: %s",
    async (endedMs, held) => {
      const clock = new VirtualClock();
      const late: Clock = {
        now: () => clock.now(),
        wallNow: () => clock.wallNow(),
        afterPoll: (task) => clock.afterPoll(task),
        schedule: (ms, task, options) => clock.schedule(ms + 500, task, options),
      };
      const inbound = new InboundCall({
        method: path.unary,
        kind: "unary",
        caller: { getPeer: () => "above", getAuthContext: () => ({}) },
        clock,
        report: () => {},
        startedAtMs: clock.now(),
        deadlineMs: clock.now() + 400,
      });
      const below = fakeBelow();
      const hearer = new Hearer();
      runInbound(inbound, () => {
        const interceptor = deadline({ clock: late, marginMs: 0 });
        interceptor(optionsOf(), below.nextCall).start(new Metadata(), hearer);
      });
      await clock.pass(endedMs);
      inbound.finish("deadline");
      await clock.pass(0);
      expect(hearer.statuses.map(({ details }) => details)).toEqual([
        `Deadline exceeded after 0.${endedMs}s [DEADLINE_EXCEEDED]`,
      ]);
      const made: OptionsWithOwn = callOf(below.calls).options;
      expect(made[recordKey]?.heldUp).toBe(held);
      expect(clock.pending.refs).toBe(0);
    },
  );
});
