import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { Guard } from "../../src/guard/guard.js";
import { echo, scene } from "../scene.js";

/** A handler whose guarded work takes as long as it is told, and what the breaker of the guard says of it. */
async function working(workMs: () => number) {
  let guard: Guard | undefined;
  const made = await scene({
    client: { retry: false, breaker: false },
    server: {},
    handlers: {
      ...echo,
      unary(call, callback) {
        const work = () =>
          new Promise((resolve) => made.clock.schedule(workMs(), () => resolve(1)));
        guard?.run(work).then(() => callback(null, call.request), callback);
      },
    },
  });
  guard = made.weir.guard("db", { breaker: { consecutiveFailures: 1 } });
  return {
    within: (ms: number) => made.call("unary", { deadline: made.clock.wallNow() + ms }),
    settled: () => made.link.pass(100),
    breaker: () =>
      made.weir
        .policy("breaker")
        .snapshot()
        .flatMap(({ breakers }) => Object.values(breakers))
        .map(({ state }) => state),
  };
}

describe("a guard whose caller's deadline passes", () => {
  it("holds it against nobody when half of the successes take longer, and counts it otherwise", async () => {
    let workMs = 50;
    const { within, settled, breaker } = await working(() => workMs);
    for (let served = 0; served < 100; served += 1) {
      expect((await within(1_000)).code).toBe(Status.OK);
    }
    expect((await within(30)).code).toBe(Status.DEADLINE_EXCEEDED);
    await settled();
    expect(breaker()).toEqual(["closed"]);
    workMs = 1_000;
    expect((await within(200)).code).toBe(Status.DEADLINE_EXCEEDED);
    await settled();
    expect(breaker()).toEqual(["open"]);
  });

  it("leaves it to the caller as long as nobody knows how long a success takes", async () => {
    const { within, settled, breaker } = await working(() => 50);
    await within(30);
    await settled();
    expect(breaker()).toEqual(["closed"]);
  });
});
