import { type Interceptor, Metadata, type NextCall, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { breaker, bulkhead, retry } from "../../src/client.js";
import { environmentOf } from "../../src/grpc/environment.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import {
  callOf,
  ended,
  fakeBelow,
  Hearer,
  kinds,
  optionsOf,
  settled,
} from "../grpc/client/fake-call.js";

/** The call of some interceptors, the outermost first, as grpc-js puts them together. */
function stacked(interceptors: readonly Interceptor[], bottom: NextCall): NextCall {
  return interceptors.reduceRight<NextCall>(
    (below, interceptor) => (options) => interceptor(options, below),
    bottom,
  );
}

const target = "dns:server";

/** The metadata of a status that a server has sent. */
function trailersOnly(): Metadata {
  const metadata = new Metadata();
  metadata.set("content-type", "application/grpc");
  return metadata;
}

/** How many resets are counted for the target. */
function counted(clock: VirtualClock): number {
  const { resets } = environmentOf({ clock }, "test");
  let left = 0;
  while (left < 800 && resets?.take(target, "timeout", {}) === true) left += 1;
  // Nobody has a budget before the first reset. Of 800, timeouts leave 200 to callers.
  return left === 800 ? 0 : 600 - left;
}

describe.each(kinds)("gates that stand alone above retries (%s)", (kind) => {
  const scene = () => {
    const clock = new VirtualClock();
    const below = fakeBelow();
    const options = { clock, target };
    const interceptors = [
      breaker(options),
      bulkhead({ ...options, maxConcurrent: 10 }),
      retry({ ...options, idempotent: true, backoff: { jitter: "none", baseMs: 100 } }),
    ];
    const call = stacked(interceptors, below.nextCall)(optionsOf(kind));
    call.start(new Metadata(), new Hearer());
    return { clock, call, calls: below.calls };
  };

  it("count one reset where the caller cancels", async () => {
    const { clock, call, calls } = scene();
    expect(calls.length).toBe(1);
    call.cancelWithStatus(Status.CANCELLED, "enough");
    await settled();
    expect(counted(clock)).toBe(1);
  });

  it("count none where the caller cancels between two attempts", async () => {
    const { clock, call, calls } = scene();
    callOf(calls).end(ended(Status.UNAVAILABLE, "not now", trailersOnly()));
    await settled();
    call.cancelWithStatus(Status.CANCELLED, "enough");
    await settled();
    expect(calls.length).toBe(1);
    expect(counted(clock)).toBe(0);
  });

  it("make no call to learn the target but the one that is sent", () => {
    const clock = new VirtualClock();
    const below = fakeBelow();
    const interceptors = [breaker({ clock }), retry({ clock, idempotent: true })];
    const call = stacked(interceptors, below.nextCall)(optionsOf(kind));
    call.start(new Metadata(), new Hearer());
    expect(below.calls.map(({ log }) => log[0])).toEqual(["start"]);
  });
});
