import { credentials, Metadata, type ServiceError, status as Status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { ConformanceServiceClient } from "../../../src/gen/weir/v1/conformance.js";
import { echo, withResolvers } from "../../scene.js";
import { a6, closeAll, serve, serverSaid } from "./a6-scene.js";

const hedged = { retry: { idempotent: true, budget: false }, breaker: false } as const;

afterEach(closeAll);

describe("a hedged call that has failed and waits for its next attempt", () => {
  it("goes on when its request outgrows the buffer meanwhile, with that attempt as its last", async () => {
    const { client, arrivals } = await a6(
      {
        ...hedged,
        retry: { ...hedged.retry, maxBufferBytes: 5_000 },
        hedge: { maxAttempts: 3, delayMs: 5_000 },
      },
      [{ end: Status.UNAVAILABLE, pushback: "300" }, {}],
    );
    const { promise, resolve } = withResolvers<[ServiceError | null, number[] | undefined]>();
    const deadline = Date.now() + 8_000;
    const call = client.clientStream(new Metadata(), { deadline }, (error, response) =>
      resolve([error, response?.sequences]),
    );
    const send = (sequence: number, bytes: number) =>
      call.write({ payload: Buffer.alloc(bytes), sequence });
    send(1, 1_000);
    await expect.poll(() => arrivals.length).toBe(1);
    // Meanwhile the failure comes.
    await new Promise((resume) => setTimeout(resume, 100));
    send(2, 10_000);
    send(3, 1_000);
    call.end();
    const [error, sequences] = await promise;
    expect(error).toBe(null);
    expect(sequences).toEqual([1, 2, 3]);
    expect(arrivals).toHaveLength(2);
  });

  it("ends at once in observe mode where nothing is retried, whatever the pushback", async () => {
    const { weir, call, decisions } = await a6(
      { ...hedged, hedge: { maxAttempts: 3, delayMs: 8_000 } },
      [{ end: Status.UNAVAILABLE, pushback: "8000" }],
    );
    weir.policy("hedge").mode = "observe";
    weir.policy("retry").mode = "off";
    const { code, details, ms } = await call("unary");
    expect([code, details]).toEqual([Status.UNAVAILABLE, serverSaid]);
    expect(ms).toBeLessThan(4_000);
    expect(decisions[0]).toMatchObject({ verdict: "hedge", waitMs: 8_000, enforced: false });
  });
});

describe("a hedged call for an inbound call that is retried above already", () => {
  it("ends with its first failure", async () => {
    const { weir, client, arrivals, decisions } = await a6(
      { ...hedged, hedge: { maxAttempts: 3, delayMs: 20 } },
      [{ end: Status.UNAVAILABLE }],
    );
    const address = await serve(
      {
        ...echo,
        unary: ({ request }, callback) => {
          client.unary(request, callback);
        },
      },
      weir.server(),
    );
    const above = new ConformanceServiceClient(address, credentials.createInsecure());
    const metadata = new Metadata();
    metadata.set("x-weir-retry-depth", "1");
    const error = await new Promise<ServiceError | null>((resolve) => {
      const request = { payload: Buffer.alloc(0), sequence: 1 };
      above.unary(request, metadata, { deadline: Date.now() + 6_000 }, resolve);
    });
    above.close();
    expect([error?.code, error?.details]).toEqual([Status.UNAVAILABLE, serverSaid]);
    expect(arrivals).toHaveLength(1);
    expect(decisions[0]).toMatchObject({ verdict: "stop", reason: "RETRY_DEPTH" });
  });
});
