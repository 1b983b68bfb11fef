import { InterceptingCall, type Interceptor, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { currentCall } from "../../../src/grpc/context/inbound-call.js";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import { bulkhead } from "../../../src/policies/bulkhead/client.js";
import { deadline } from "../../../src/policies/deadline/client.js";
import { timeouts } from "../../../src/policies/deadline/client-attempt-timeouts.js";
import { retry } from "../../../src/policies/retry/client.js";
import { type HandlerCall, handlers, kinds, type SceneOptions, scene } from "../../scene.js";

const deadlineMs = 1_000;

/** What a server is told: how much time is left by its clock when a call reaches it, and by the caller's. */
async function told(
  client: ClientPolicy | false,
  more: SceneOptions & { readonly does?: (nth: number, call: HandlerCall) => boolean } = {},
) {
  const seen: { readonly leftMs: number; readonly trulyMs: number }[] = [];
  let dueMs = 0;
  const { does = () => false, ...rest } = more;
  const world = await scene({
    ...(client === false ? {} : { client }),
    server: { admission: false },
    ...rest,
    handlers: handlers((call, answer) => {
      const leftMs = currentCall()?.remainingMs() ?? Number.NaN;
      seen.push({ leftMs, trulyMs: dueMs - world.clock.now() });
      if (!does(seen.length, call)) answer();
    }),
  });
  return {
    ...world,
    seen,
    begin(kind: (typeof kinds)[number]) {
      dueMs = world.clock.now() + deadlineMs;
      return world.call(kind, { deadline: world.clock.wallNow() + deadlineMs });
    },
  };
}

/** What a server is told can not be less by more than rounding, nor more by more than what the request took to come. */
function expectTrue(
  seen: readonly { readonly leftMs: number; readonly trulyMs: number }[],
  onTheWayMs: number,
) {
  for (const { leftMs, trulyMs } of seen) {
    expect(leftMs - onTheWayMs).toBeLessThanOrEqual(trulyMs + 1);
    expect(leftMs - onTheWayMs).toBeGreaterThan(trulyMs - 2);
  }
}

describe.each(kinds)("the time that a server is told with a %s call", (kind) => {
  it("is what the caller still waits when the request leaves, behind the making of a connection", async () => {
    const world = await told({}, { network: { latencyMs: 40 } });
    await world.begin(kind);
    await world.begin(kind);
    expect(world.seen).toHaveLength(2);
    // The first waits for its connection before it leaves.
    expectTrue(world.seen, 40);
  });

  it("is the same behind retries and their waits", async () => {
    const world = await told(
      { retry: { idempotent: true, maxAttempts: 3, backoff: { baseMs: 200, jitter: "none" } } },
      {
        does: (nth, call) => {
          if (nth < 3) call.fail({ code: Status.UNAVAILABLE, details: "not now" });
          return nth < 3;
        },
      },
    );
    expect((await world.begin(kind)).code).toBe(Status.OK);
    expect(world.seen.map(({ leftMs }) => Math.round(leftMs))).toEqual([1_000, 800, 400]);
    expectTrue(world.seen, 0);
  });

  it("is the attempt's own, where that is less", async () => {
    const world = await told({ timeouts: { attemptMs: 300 } });
    await world.begin(kind);
    expect(world.seen.map(({ leftMs }) => leftMs)).toEqual([300]);
  });

  it("is the same behind a queue", async () => {
    const free: (() => void)[] = [];
    const world = await told(
      { bulkhead: { maxConcurrent: 1, maxQueued: 10, maxWaitMs: 900 } },
      {
        does: (nth, call) => {
          if (nth > 1) return false;
          free.push(() => call.fail({ code: Status.NOT_FOUND, details: "late" }));
          return true;
        },
      },
    );
    const first = world.begin(kind);
    const second = world.begin(kind);
    world.clock.schedule(250, () => free[0]?.());
    expect((await first).code).toBe(Status.NOT_FOUND);
    expect((await second).code).toBe(Status.OK);
    expect(world.seen[1]?.leftMs).toBe(750);
  });

  it("is the same with interceptors that stand alone", async () => {
    const world = await told(false, {
      network: { latencyMs: 20 },
      ownClient: {
        interceptors: [
          deadline(),
          retry(),
          bulkhead({ maxConcurrent: 1 }),
          timeouts({ idleMs: 10 }),
        ],
      },
    });
    await world.begin(kind);
    expectTrue(world.seen, 20);
  });
});

/** Notes what a foreign interceptor reads in its options, when it is made and when it is started. */
function reader(read: unknown[]): Interceptor {
  return (options, nextCall) => {
    const look = () => {
      const { deadline: due } = options;
      if (due === undefined) throw new Error("no deadline");
      read.push(due instanceof Date ? due.getTime() : due, Number(due), new Date(due).getTime());
      read.push(JSON.parse(JSON.stringify(due instanceof Date ? due : new Date(due))));
    };
    look();
    return new InterceptingCall(nextCall(options), {
      start: (metadata, listener, next) => {
        look();
        next(metadata, listener);
      },
    });
  };
}

describe("a foreign interceptor below a weir", () => {
  it("reads the true deadline in every way, whenever it looks", async () => {
    const read: unknown[] = [];
    const world = await scene({ client: { timeouts: { attemptMs: 60_000 } } });
    const { interceptors = [] } = world.weir.client();
    const due = world.clock.wallNow() + deadlineMs;
    await world.call("unary", { deadline: due, interceptors: [...interceptors, reader(read)] });
    const iso = new Date(due).toISOString();
    expect(read).toEqual([due, due, due, iso, due, due, due, iso]);
  });

  it("may shorten it, and then that is told and holds", async () => {
    const { seen, call, clock, weir } = await told({}, { does: () => true });
    const shorten: Interceptor = (options, nextCall) =>
      new InterceptingCall(
        nextCall({ ...options, deadline: Number(options.deadline ?? Infinity) - 600 }),
      );
    const { interceptors = [] } = weir.client();
    const beganMs = clock.now();
    const { code } = await call("unary", {
      deadline: clock.wallNow() + deadlineMs,
      interceptors: [...interceptors, shorten],
    });
    expect([code, clock.now() - beganMs]).toEqual([Status.DEADLINE_EXCEEDED, 400]);
    expect(seen[0]?.leftMs).toBe(400);
  });
});

it("a wall clock that is set while a call waits changes nothing of what is told", async () => {
  const world = await told({}, { network: { latencyMs: 50 } });
  const ended = world.begin("unary");
  world.clock.schedule(10, () => world.clock.stepWall(3_600_000));
  expect((await ended).code).toBe(Status.OK);
  expectTrue(world.seen, 50);
});
