import { type Interceptor, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import * as client from "../../src/client.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../src/gen/weir/v1/conformance.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { echo, ended, open, payload, unary } from "../testing/in-memory/scene.js";
import { PlainCall } from "./client/put-off-call.js";

describe("a policy that stands alone", () => {
  it("does not retry past the deadline that the call sets itself", async () => {
    const transport = inMemoryTransport();
    const { clock } = transport;
    const retry = client.retry({
      clock,
      random: () => 1,
      backoff: { baseMs: 5_000, maxMs: 5_000 },
    });
    const world = await open(
      transport,
      { unary: (_call, callback) => callback({ code: status.UNAVAILABLE, details: "not now" }) },
      { client: retry },
    );
    const startedMs = clock.now();
    const end = await world.link.until(
      unary(world.client, { deadline: clock.wallNow() + 1_000 }),
      60_000,
    );
    expect([end.code, end.details]).toEqual([status.UNAVAILABLE, "not now"]);
    expect(clock.now() - startedMs).toBeLessThan(1_000);
    await world.link.close();
  });

  it("lets no call wait in a queue past the deadline that it sets itself", async () => {
    const transport = inMemoryTransport();
    const { clock } = transport;
    const bulkhead = client.bulkhead({
      clock,
      maxConcurrent: 1,
      maxQueued: 5,
      maxWaitMs: 20_000,
    });
    const world = await open(transport, { unary() {} }, { client: bulkhead });
    const first = world.client.unary({ payload, sequence: 1 }, () => {});
    const startedMs = clock.now();
    await world.link.until(unary(world.client, { deadline: clock.wallNow() + 1_000 }), 60_000);
    expect(clock.now() - startedMs).toBeLessThanOrEqual(1_000);
    first.cancel();
    await world.link.until(ended(first));
    await world.link.close();
  });

  it("tells each attempt the deadline that the call sets itself", async () => {
    const transport = inMemoryTransport();
    const { clock } = transport;
    const deadlines: number[] = [];
    const retry = client.retry({ clock, random: () => 0, maxAttempts: 3 });
    const world = await open(
      transport,
      {
        unary(call, callback) {
          deadlines.push(Number(call.getDeadline()));
          callback({ code: status.UNAVAILABLE, details: "not now" });
        },
      },
      { client: retry },
    );
    const deadline = clock.wallNow() + 1_000;
    await world.link.until(unary(world.client, { deadline }));
    expect(deadlines).toEqual([deadline, deadline, deadline]);
    await world.link.close();
  });
});

describe("an interceptor of somebody else's that throws below the toolkit", () => {
  const throwing: Interceptor = () => {
    throw new Error("broken");
  };

  it("is no evidence against the server, and is not tried again", async () => {
    const transport = inMemoryTransport();
    const { clock } = transport;
    let broken = true;
    let tried = 0;
    const below: Interceptor = (options, nextCall) => {
      tried += 1;
      return broken ? throwing(options, nextCall) : new PlainCall(options, nextCall);
    };
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: echo,
      clientOptions: {
        interceptors: [
          client.retry({ clock, idempotent: true, codes: [status.INTERNAL] }),
          client.breaker({ clock, consecutiveFailures: 1 }),
          below,
        ],
      },
    });
    const surface = link.client(ConformanceServiceClient);
    const failed = await link.until(unary(surface));
    expect([failed.code, failed.details]).toEqual([
      status.INTERNAL,
      "Call could not be started: broken",
    ]);
    expect(tried).toBe(1);
    broken = false;
    expect((await link.until(unary(surface))).code).toBe(status.OK);
    await link.close();
  });
});
