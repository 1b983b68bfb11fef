import { type InterceptingCall, Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { hedge, timeouts } from "../../src/client.js";
import { InvalidOptionError } from "../../src/core/options.js";
import { environmentOf } from "../../src/grpc/environment.js";
import { rejectionOf } from "../../src/index.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { createWeir } from "../../src/weir.js";
import { callOf, fakeBelow, Hearer, optionsOf, settled } from "../grpc/client/fake-call.js";
import { handlers, kinds, type Scene, scene } from "../scene.js";

/** Two losers may be cancelled at once, and three timeouts. */
const resets = { burst: 4, ratePerSecond: 1 };
const hedged = {
  resets,
  breaker: false,
  retry: { idempotent: true, budget: false },
  hedge: { delayMs: 50 },
} as const;

/** Answers the second attempt of each call at once, and the first after this time. */
function slowFirst(firstMs: number): {
  scene: Promise<Scene>;
  calls: () => number;
} {
  let calls = 0;
  const made = scene({
    client: hedged,
    handlers: handlers((_call, answer) => {
      calls += 1;
      if (calls % 2 === 0) answer();
      else void made.then(({ clock }) => clock.schedule(firstMs, answer));
    }),
  });
  return { scene: made, calls: () => calls };
}

/** Attempts that both sides know of. */
const onTheWire = ({ link }: Pick<Scene, "link">) => link.inFlight() / 2;

const spent = ({ decisions }: Scene) =>
  decisions
    .filter(({ reason, enforced }) => reason === "RESET_BUDGET" && enforced)
    .map(({ policy, verdict }) => [policy, verdict]);

/** Uses up what the connection bears, by cancellations of the caller. */
async function cancelMany({ start, link }: Scene, calls = 5): Promise<void> {
  for (let i = 0; i < calls; i += 1) {
    const { cancel, ended } = start("unary");
    await link.pass(20);
    cancel();
    expect((await link.until(ended)).code).toBe(Status.CANCELLED);
    await link.pass(5);
    expect(link.inFlight()).toBe(0);
  }
}

describe.each(kinds)("the attempts of a hedged %s that lost", (method) => {
  it("are cancelled while their connection bears it, and run out then", async () => {
    const made = slowFirst(500);
    const at = await made.scene;
    const left: number[] = [];
    for (let i = 0; i < 3; i += 1) {
      expect((await at.call(method)).code).toBe(Status.OK);
      await at.link.pass(5);
      left.push(onTheWire(at));
    }
    expect(left).toEqual([0, 0, 1]);
    expect(spent(at)).toEqual([["hedge", "skip"]]);
    await at.link.pass(500);
    expect(onTheWire(at)).toBe(0);
    expect(at.clock.pending.refs + at.clock.pending.unrefs).toBe(0);
  });

  it("and never end are cancelled in their turn", async () => {
    const made = slowFirst(1e9);
    const at = await made.scene;
    for (let i = 0; i < 4; i += 1) expect((await at.call(method)).code).toBe(Status.OK);
    await at.link.pass(5);
    expect(onTheWire(at)).toBe(2);
    await at.link.pass(1_000);
    expect(onTheWire(at)).toBe(1);
    await at.link.pass(1_000);
    expect(onTheWire(at)).toBe(0);
  });

  it("are never held back where the caller cancels", async () => {
    const at = await scene({ client: hedged, handlers: handlers(() => {}) });
    await cancelMany(at);
    expect(spent(at)).toEqual([]);
    // Nothing is left: no attempt is sent that may have to be reset.
    const { cancel, ended } = at.start(method);
    await at.link.pass(200);
    expect(onTheWire(at)).toBe(1);
    expect(spent(at)).toEqual([["hedge", "stop"]]);
    cancel();
    await at.link.until(ended);
    await at.link.pass(5);
    expect(onTheWire(at)).toBe(0);
  });

  it("are not sent any more where they still wait for a place in the bulkhead", async () => {
    let calls = 0;
    const at = await scene({
      client: { ...hedged, bulkhead: { maxConcurrent: 1, maxQueued: 5 } },
      handlers: handlers((_call, answer) => {
        calls += 1;
        if (calls > 2) at.clock.schedule(100, answer);
      }),
    });
    // Too little is left for losers, and enough for a hedge to be sent.
    await cancelMany(at, 2);
    expect((await at.call(method)).code).toBe(Status.OK);
    await at.link.pass(20);
    expect(calls).toBe(3);
    expect(onTheWire(at)).toBe(0);
    expect(spent(at)).toEqual([]);
    expect(JSON.stringify(at.weir.snapshot().policies.bulkhead)).toMatch(/"running":0/);
    expect(at.clock.pending.refs + at.clock.pending.unrefs).toBe(0);
  });

  it("are cancelled at once where resets do not matter", async () => {
    let calls = 0;
    const { call, link } = await scene({
      client: { ...hedged, resets: false },
      handlers: handlers((_call, answer) => {
        calls += 1;
        if (calls % 2 === 0) answer();
      }),
    });
    for (let i = 0; i < 10; i += 1) {
      expect((await call(method)).code).toBe(Status.OK);
      await link.pass(5);
      expect(link.inFlight()).toBe(0);
    }
  });
});

describe("an attempt that lost and runs out", () => {
  it("keeps its place in the bulkhead until it has ended", async () => {
    let calls = 0;
    const at = await scene({
      client: { ...hedged, bulkhead: { maxConcurrent: 10 } },
      handlers: handlers((_call, answer) => {
        calls += 1;
        if (calls % 2 === 0) answer();
        else at.clock.schedule(500, answer);
      }),
    });
    const taken = () => JSON.stringify(at.weir.snapshot().policies.bulkhead);
    for (let i = 0; i < 3; i += 1) await at.call("unary");
    expect(taken()).toMatch(/"running":1/);
    await at.link.pass(500);
    expect(taken()).toMatch(/"running":0/);
  });

  it("sends no more of its request", () => {
    const clock = new VirtualClock();
    const target = "dns:server";
    // Less than half is left, and losers leave half to others.
    const { resets: budgets } = environmentOf({ clock }, "test");
    for (let i = 0; i < 500; i += 1) budgets?.ended(target, {}, "10.0.0.1:443");
    const below = fakeBelow();
    const interceptor = hedge({ delayMs: 50, clock, target, retry: { idempotent: true } });
    const call = interceptor(optionsOf("bidi"), below.nextCall);
    call.start(new Metadata(), new Hearer());
    for (const message of ["a", "b"]) call.sendMessage(message);
    clock.advance(50);
    callOf(below.calls, 1).headers();
    // The one that lost could go on, and the one that won has something to wait for.
    callOf(below.calls, 0).written();
    call.sendMessage("c");
    const lost = callOf(below.calls, 0).log;
    expect(lost.filter((line) => !line.startsWith("read"))).toEqual(["start", "message a"]);
    callOf(below.calls, 1).written();
    expect(callOf(below.calls, 1).log).toContain("message b");
  });
});

describe("an attempt's own timeout", () => {
  const timed = {
    resets,
    breaker: false,
    retry: false,
    timeouts: { firstResponseMs: 100 },
  } as const;

  it("waits for its turn when the connection bears no further reset", async () => {
    const at = await scene({ client: timed, handlers: handlers(() => {}) });
    const tookMs: number[] = [];
    for (let i = 0; i < 4; i += 1) {
      const beganMs = at.clock.now();
      const { code, error } = await at.call("unary");
      tookMs.push(at.clock.now() - beganMs);
      expect(code).toBe(Status.DEADLINE_EXCEEDED);
      expect(rejectionOf(error)?.reason).toBe("FIRST_RESPONSE_TIMEOUT");
      await at.link.pass(5);
      expect(onTheWire(at)).toBe(0);
    }
    expect(tookMs.slice(0, 3)).toEqual([100, 100, 100]);
    expect(tookMs[3]).toBeGreaterThan(500);
    expect(spent(at)).toEqual([["timeouts", "skip"]]);
    expect(at.clock.pending.refs + at.clock.pending.unrefs).toBe(0);
  });

  it("is forgotten where the answer comes while it waits", async () => {
    let calls = 0;
    const at = await scene({
      client: timed,
      handlers: handlers((_call, answer) => {
        calls += 1;
        if (calls > 3) at.clock.schedule(300, answer);
      }),
    });
    for (let i = 0; i < 3; i += 1) await at.call("unary");
    expect((await at.call("unary")).code).toBe(Status.OK);
    expect(at.clock.pending.refs + at.clock.pending.unrefs).toBe(0);
  });

  it("waits for nothing while there is no connection that could bear it", async () => {
    const at = await scene({
      client: { ...timed, waitForReady: true },
      handlers: handlers(() => {}),
    });
    await cancelMany(at);
    await at.link.crash();
    await at.link.pass(50);
    const beganMs = at.clock.now();
    const { error } = await at.call("unary");
    expect(rejectionOf(error)?.reason).toBe("FIRST_RESPONSE_TIMEOUT");
    expect(at.clock.now() - beganMs).toBe(100);
  });
});

it("an attempt whose timeout makes an observer cancel the call counts as one reset", async () => {
  const clock = new VirtualClock();
  const { nextCall } = fakeBelow();
  const running: { call?: InterceptingCall } = {};
  const interceptor = timeouts({
    clock,
    target: "dns:server",
    firstResponseMs: 100,
    onDecision: () => running.call?.cancelWithStatus(Status.CANCELLED, "enough"),
  });
  running.call = interceptor(optionsOf(), nextCall);
  const above = new Hearer();
  running.call.start(new Metadata(), above);
  clock.advance(100);
  await settled();
  expect(above.statuses.map(({ code }) => code)).toEqual([Status.CANCELLED]);
  const { resets: budgets } = environmentOf({ clock }, "test");
  let left = 0;
  while (left < 800 && budgets?.take("dns:server", "loser", {}) === true) left += 1;
  // Of 800, losers leave half to others.
  expect(left).toBe(399);
});

describe("resets as an option of a client", () => {
  it("are refused with a word of what is wrong", () => {
    const weir = createWeir();
    expect(() => weir.client({ resets: { burst: 1 } })).toThrow(InvalidOptionError);
    expect(() => weir.client({ resets: { burst: 1 } })).toThrow(/client\.resets\.burst/);
  });
});
