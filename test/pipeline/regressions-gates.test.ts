import { InterceptingCall, type Interceptor, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { handlers, kinds, scene } from "../scene.js";

/** An interceptor of the user's that calls off what lasts longer than 10 ms, with a code of its own. */
function cancelling(clock: () => VirtualClock, goingDown: () => boolean): Interceptor {
  return (options, nextCall) => {
    const call = new InterceptingCall(nextCall(options), {
      start: (metadata, listener, next) => {
        next(metadata, listener);
        if (!goingDown()) return;
        clock().schedule(10, () => call.cancelWithStatus(Status.UNAVAILABLE, "going down"));
      },
    });
    return call;
  };
}

describe.each(kinds)("a %s that its caller calls off with a code of its own", (method) => {
  it("does not count for the breaker", async () => {
    let shuttingDown = true;
    const world = await scene({
      client: { breaker: { consecutiveFailures: 2 } },
      ownClient: {
        interceptors: [
          cancelling(
            () => world.clock,
            () => shuttingDown,
          ),
        ],
      },
      handlers: handlers((_call, answer) => world.clock.schedule(50, answer)),
    });
    const { call, weir, link, clock, decisions } = world;
    for (let n = 0; n < 5; n++) {
      const ended = await call(method);
      expect([ended.code, ended.details]).toEqual([Status.UNAVAILABLE, "going down"]);
    }
    expect(JSON.stringify(weir.snapshot().policies.breaker)).toContain('"state":"closed"');
    shuttingDown = false;
    expect((await call(method)).code).toBe(Status.OK);
    expect(decisions).toEqual([]);
    await link.pass(50);
    expect(link.inFlight()).toBe(0);
    expect(clock.pending.refs).toBe(0);
  });

  it("does not hide the failures of the server around it", async () => {
    let calls = 0;
    const world = await scene({
      client: { retry: false, breaker: { consecutiveFailures: 2 } },
      ownClient: {
        interceptors: [
          cancelling(
            () => world.clock,
            () => true,
          ),
        ],
      },
      handlers: handlers(({ fail }) => {
        calls += 1;
        // The second call is the one that its caller calls off.
        if (calls !== 2) fail({ code: Status.UNAVAILABLE, details: "not now" });
      }),
    });
    const details: string[] = [];
    for (let n = 0; n < 4; n++) details.push((await world.call(method)).details);
    expect(details.slice(0, 3)).toEqual(["not now", "going down", "not now"]);
    expect(calls).toBe(3);
    expect(world.decisions).toMatchObject([{ policy: "breaker", reason: "BREAKER_OPEN" }]);
  });
});
