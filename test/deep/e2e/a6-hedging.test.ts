import { status as Status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import type { HedgeOptions } from "../../../src/policies/retry/options.js";
import { kinds } from "../../scene.js";
import { type A6, type Act, a6, closeAll, serverSaid } from "./a6-scene.js";

const { UNAVAILABLE, INVALID_ARGUMENT, ABORTED, OK } = Status;

/** Longer than any test may take: a hedge that waits for the regular timer is not missed. */
const neverMs = 6_000;
/** Node's timers count whole milliseconds. */
const tickMs = 1;

function hedging(hedge: HedgeOptions): ClientPolicy {
  return { breaker: false, retry: { idempotent: true, budget: false }, hedge };
}

const hanging: Act = { end: "never" };
const unavailable: Act = { end: UNAVAILABLE };
const echoed = {
  unary: [3],
  clientStream: [1, 2, 3],
  serverStream: [1, 2, 3],
  bidiStream: [1, 2, 3],
};

const sent = { ...echoed, serverStream: [3] };

/** The others, once the network has told them. */
async function expectCancelled({ arrivals }: A6, expected: readonly boolean[]): Promise<void> {
  await expect
    .poll(() => arrivals.map(({ cancelled }) => cancelled), { timeout: 5_000 })
    .toEqual(expected);
}

afterEach(closeAll);

describe.each(kinds)("hedges of %s", (method) => {
  it("are sent at each delay, and an OK of one cancels the others", async () => {
    const scene = await a6(hedging({ maxAttempts: 3, delayMs: 30 }), [hanging, hanging, {}]);
    const ended = await scene.call(method);
    expect([ended.code, ended.received]).toEqual([OK, echoed[method]]);
    expect(scene.arrivals.map(({ previous }) => previous)).toEqual([undefined, "1", "2"]);
    expect(scene.decisions.map(({ waitMs }) => waitMs)).toEqual([30, 30]);
    // The server sees them as far apart as its own queue lets it; the caller waited for both delays.
    expect(ended.ms).toBeGreaterThanOrEqual(2 * (30 - tickMs));
    await expectCancelled(scene, [true, true, false]);
  });

  it("each send the whole request", async () => {
    const { call, arrivals } = await a6(hedging({ maxAttempts: 2, delayMs: 30 }), [
      hanging,
      { afterMs: 30 },
    ]);
    await call(method);
    expect(arrivals.map(({ messages }) => messages)).toEqual([sent[method], sent[method]]);
  });

  it("are all sent at once without a delay, and no more than maxAttempts", async () => {
    const { call, arrivals } = await a6(hedging({ maxAttempts: 4, delayMs: 0 }), [
      { afterMs: 300 },
    ]);
    expect((await call(method)).code).toBe(OK);
    expect(arrivals).toHaveLength(4);
  });

  it("end with a fatal code, which cancels the others", async () => {
    const scene = await a6(hedging({ maxAttempts: 3, delayMs: 30 }), [
      hanging,
      hanging,
      { end: INVALID_ARGUMENT },
    ]);
    const { code, details } = await scene.call(method);
    expect([code, details]).toEqual([INVALID_ARGUMENT, serverSaid]);
    await expectCancelled(scene, [true, true, false]);
  });

  it("go on at once after a code that is not fatal, and then at the delay again", async () => {
    const nonFatalCodes = [ABORTED];
    const { call, decisions, gaps } = await a6(
      hedging({ maxAttempts: 3, delayMs: 1_000, nonFatalCodes }),
      [{ end: ABORTED }, hanging, {}],
    );
    expect((await call(method)).code).toBe(OK);
    expect(decisions.map(({ waitMs }) => waitMs)).toEqual([0, 1_000]);
    const [first = 0, second = 0] = gaps();
    expect(first).toBeLessThan(900);
    expect(first + second).toBeGreaterThanOrEqual(1_000 - tickMs);
  });

  it("end with the last failure when all have failed, with no retry behind them", async () => {
    const { call, arrivals, decisions } = await a6(hedging({ maxAttempts: 3, delayMs: neverMs }), [
      unavailable,
    ]);
    const { code, details, ms } = await call(method);
    expect([code, details]).toEqual([UNAVAILABLE, serverSaid]);
    expect(ms).toBeLessThan(neverMs / 2);
    expect(arrivals).toHaveLength(3);
    expect(decisions.at(-1)).toMatchObject({ verdict: "stop", reason: "RETRY_ATTEMPTS_SPENT" });
  });

  it("stop at maxAttempts, whatever the pushback", async () => {
    const { call, arrivals } = await a6(hedging({ maxAttempts: 2, delayMs: neverMs }), [
      { end: UNAVAILABLE, pushback: "1" },
    ]);
    expect((await call(method)).code).toBe(UNAVAILABLE);
    expect(arrivals).toHaveLength(2);
  });

  it.each(["-1", "soon", ""])(
    "stop after the pushback %j, and the one in flight may still answer",
    async (pushback) => {
      const { call, arrivals } = await a6(hedging({ maxAttempts: 4, delayMs: 250 }), [
        { afterMs: 900 },
        { end: UNAVAILABLE, pushback },
        {},
      ]);
      const ended = await call(method);
      expect([ended.code, ended.received]).toEqual([OK, echoed[method]]);
      expect(arrivals.map(({ cancelled }) => cancelled)).toEqual([false, false]);
    },
  );

  it("are not sent after a pushback that said stop, when the one in flight has failed as well", async () => {
    const { call, arrivals } = await a6(hedging({ maxAttempts: 4, delayMs: 250 }), [
      { end: UNAVAILABLE, afterMs: 800 },
      { end: UNAVAILABLE, pushback: "-1" },
      {},
    ]);
    const { code, details } = await call(method);
    expect([code, details]).toEqual([UNAVAILABLE, serverSaid]);
    expect(arrivals).toHaveLength(2);
  });

  it("end with a pushback that says stop when none is in flight", async () => {
    const { call, arrivals, decisions } = await a6(hedging({ maxAttempts: 4, delayMs: neverMs }), [
      { end: UNAVAILABLE, pushback: "-1" },
      {},
    ]);
    const { code, details } = await call(method);
    expect([code, details]).toEqual([UNAVAILABLE, serverSaid]);
    expect(arrivals).toHaveLength(1);
    expect(decisions).toMatchObject([{ verdict: "stop", reason: "RETRY_PUSHBACK_STOP" }]);
  });

  it("come as much later as a pushback says, in place of the regular one, and then at the delay", async () => {
    const { call, decisions, gaps } = await a6(hedging({ maxAttempts: 4, delayMs: 250 }), [
      hanging,
      { end: UNAVAILABLE, pushback: "500" },
      hanging,
      {},
    ]);
    expect((await call(method)).code).toBe(OK);
    expect(decisions.map(({ waitMs }) => waitMs)).toEqual([250, 500, 250]);
    expect(gaps()[1]).toBeGreaterThanOrEqual(500 - tickMs);
  });

  it("come as early as a pushback says, ahead of the delay", async () => {
    const { call, decisions, gaps } = await a6(hedging({ maxAttempts: 3, delayMs: neverMs }), [
      { end: UNAVAILABLE, pushback: "60" },
      {},
    ]);
    expect((await call(method)).code).toBe(OK);
    expect(decisions).toMatchObject([{ verdict: "hedge", waitMs: 60 }]);
    const [gap = 0] = gaps();
    expect(gap).toBeGreaterThanOrEqual(60 - tickMs);
    expect(gap).toBeLessThan(neverMs / 2);
  });

  it("end with a fatal code that has a pushback, too", async () => {
    const { call, arrivals } = await a6(hedging({ maxAttempts: 3, delayMs: neverMs }), [
      { end: INVALID_ARGUMENT, pushback: "1" },
      {},
    ]);
    expect((await call(method)).code).toBe(INVALID_ARGUMENT);
    expect(arrivals).toHaveLength(1);
  });

  it("are all cancelled with the call", async () => {
    const scene = await a6(hedging({ maxAttempts: 3, delayMs: 10 }), [hanging]);
    const running = scene.start(method);
    await expect.poll(() => scene.arrivals.length).toBe(3);
    running.cancel();
    expect((await running.ended).code).toBe(Status.CANCELLED);
    await expectCancelled(scene, [true, true, true]);
  });
});

describe.each(["serverStream", "bidiStream"] as const)("the headers of a %s response", (method) => {
  it("commit the attempt that they come from, before it has answered", async () => {
    const scene = await a6(hedging({ maxAttempts: 3, delayMs: 300 }), [
      hanging,
      { headers: true, afterMs: 900 },
      {},
    ]);
    expect((await scene.call(method)).code).toBe(OK);
    expect(scene.arrivals).toHaveLength(2);
    await expectCancelled(scene, [true, false]);
  });
});
