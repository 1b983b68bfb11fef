import { status } from "@grpc/grpc-js";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { CallKind } from "../../../src/grpc/types.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { kinds } from "./fake-call.js";
import { type Relaunch, relaunching } from "./relaunching-call.js";
import { type AttemptPlan, callWith, message, openPlanned } from "./replay-network.js";

interface World {
  readonly kind: CallKind;
  readonly seed: number;
  readonly latencyMs: number;
  /** Bytes of each message of the request. */
  readonly sizes: readonly number[];
  /** What becomes of the attempts before the one that answers. */
  readonly failures: readonly AttemptPlan[];
  readonly relaunch: Relaunch;
}

const limits = fc.record({
  maxBufferMessages: fc.constantFrom(0, 1, 3, 1_000),
  maxBufferBytes: fc.constantFrom(0, 200, 1 << 20),
});

const worlds: fc.Arbitrary<World> = fc
  .record({
    kind: fc.constantFrom(...kinds),
    seed: fc.nat(1e6),
    latencyMs: fc.constantFrom(0, 1, 7),
    sizes: fc.array(fc.constantFrom(0, 10, 300), { minLength: 1, maxLength: 12, size: "max" }),
    failures: fc.array(
      fc.record({ failAfter: fc.nat(4), headers: fc.boolean() }, { requiredKeys: ["failAfter"] }),
      { maxLength: 3, size: "max" },
    ),
    waitMs: fc.constantFrom(undefined, 0, 3),
    limits,
  })
  .map(({ failures, waitMs, limits: kept, ...rest }) => ({
    ...rest,
    // Headers of a streamed response decide the call: those who want another attempt send none.
    failures: failures.map(({ failAfter, headers }) =>
      headers === true && (rest.kind === "unary" || rest.kind === "client-stream")
        ? { failAfter, headers }
        : { failAfter },
    ),
    relaunch: { attempts: 4, limits: kept, ...(waitMs === undefined ? {} : { waitMs }) },
  }));

async function run(world: World, own: boolean, cancelAfterMs?: number) {
  const transport = inMemoryTransport({
    seed: world.seed,
    network: { latencyMs: world.latencyMs },
  });
  const { interceptor, calls } = relaunching(transport.clock, world.relaunch);
  const request = world.sizes.map((bytes, index) => message(index + 1, bytes));
  const { link, client, handled } = await openPlanned(
    transport,
    own ? interceptor : undefined,
    own ? world.failures : [],
  );
  const call = callWith(client, world.kind, request);
  if (cancelAfterMs !== undefined) transport.clock.schedule(cancelAfterMs, () => call.cancel());
  await link.until(call.ended);
  // What comes twice or too late is only seen by waiting for it.
  await link.pass(100);
  const { result } = call;
  const left = { inFlight: link.inFlight(), timers: transport.clock.pending.refs };
  await link.close();
  return { result, handled, request, left, attempts: calls[0]?.attempts.length ?? 0 };
}

describe("a call of several attempts over any network", () => {
  it("gives the answer of a single attempt, or fails once after what it could not send again", async () => {
    await fc.assert(
      fc.asyncProperty(worlds, async (world) => {
        const got = await run(world, true);
        const wanted = await run(world, false);
        const { result, handled } = got;
        expect(result.statuses).toHaveLength(1);
        expect(got.left).toEqual({ inFlight: 0, timers: 0 });
        expect(result.writes).toEqual(wanted.result.writes);
        const code = result.statuses[0]?.code;
        if (code === status.OK) {
          expect(result.responses).toEqual(wanted.result.responses);
          expect(result.headers).toBe(wanted.result.headers);
          expect(handled.at(-1)?.requests).toEqual(wanted.handled.at(-1)?.requests);
          expect(handled.at(-1)?.halfClosed).toBe(wanted.handled.at(-1)?.halfClosed);
        } else {
          // Only a request that outgrew its buffer fails for good before the attempts are spent.
          expect(code).toBe(status.UNAVAILABLE);
          expect(result.responses).toEqual([]);
          const { maxBufferBytes = 0, maxBufferMessages = 0 } = world.relaunch.limits ?? {};
          const bytes = world.sizes.reduce((sum, size) => sum + size + 10, 0);
          const fits = world.sizes.length <= maxBufferMessages && bytes <= maxBufferBytes;
          expect(fits && world.kind !== "unary" && world.kind !== "server-stream").toBe(false);
        }
        // No attempt but the last has been sent more than the request, or anything else.
        for (const { requests } of handled) {
          expect(requests).toEqual(got.request.slice(0, requests.length));
        }
        const previous = handled.map(({ metadata }) => metadata.get("grpc-previous-rpc-attempts"));
        expect(previous).toEqual(handled.map((_, index) => (index === 0 ? [] : [String(index)])));
      }),
      { numRuns: 300 },
    );
  });

  it("ends once when it is cancelled at any time, and leaves nothing behind", async () => {
    await fc.assert(
      fc.asyncProperty(worlds, fc.nat(60), async (world, afterMs) => {
        const { result, left, handled, attempts, request } = await run(world, true, afterMs);
        expect(result.statuses).toHaveLength(1);
        expect(left).toEqual({ inFlight: 0, timers: 0 });
        expect(result.writes.every((times) => times === 1)).toBe(true);
        expect(handled.length).toBeLessThanOrEqual(attempts);
        for (const { requests } of handled) {
          expect(requests).toEqual(request.slice(0, requests.length));
        }
      }),
      { numRuns: 300 },
    );
  });
});
