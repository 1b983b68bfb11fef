import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { echo, handlers, kinds, path, scene } from "../scene.js";

const idempotent = { retry: { idempotent: true } } as const;

describe.each(kinds)("a hedged %s", (method) => {
  it("that is on the wire is left to end when the weir is closed", async () => {
    // While it waits for its next hedge, and when it has sent all.
    for (const [delayMs, attempts] of [
      [1_000, 1],
      [50, 3],
    ] as const) {
      let calls = 0;
      const { start, clock, link, weir } = await scene({
        client: { ...idempotent, hedge: { delayMs, maxAttempts: 3 } },
        handlers: handlers((_call, answer) => {
          calls += 1;
          clock.schedule(200, answer);
        }),
      });
      const beganMs = clock.now();
      const running = start(method);
      await link.pass(120);
      weir.close();
      expect((await link.until(running.ended)).code).toBe(Status.OK);
      expect(clock.now() - beganMs).toBe(200);
      expect(calls).toBe(attempts);
      await link.pass(1_000);
      expect(weir.snapshot().waiting).toBe(0);
      expect(link.inFlight()).toBe(0);
      expect(clock.pending.refs).toBe(0);
    }
  });

  it("sends no further hedge once the weir is closed", async () => {
    let calls = 0;
    const { start, clock, link, weir } = await scene({
      client: { ...idempotent, hedge: { delayMs: 50, maxAttempts: 3 } },
      handlers: handlers((_call, answer) => {
        calls += 1;
        clock.schedule(200, answer);
      }),
    });
    const running = start(method);
    await link.pass(70);
    weir.close();
    expect((await link.until(running.ended)).code).toBe(Status.OK);
    expect(calls).toBe(2);
  });

  it.each(["off", "observe"] as const)(
    "is retried as without hedges while these are %s",
    async (mode) => {
      let calls = 0;
      const { call, clock, decisions } = await scene({
        client: {
          retry: { idempotent: true, backoff: { baseMs: 10, jitter: "none" } },
          hedge: { delayMs: 50, mode },
        },
        handlers: handlers(({ fail }, answer) => {
          calls += 1;
          if (calls > 1) answer();
          else {
            clock.schedule(100, () => fail({ code: Status.UNAVAILABLE, details: "not now" }));
          }
        }),
      });
      const beganMs = clock.now();
      expect((await call(method)).code).toBe(Status.OK);
      expect(calls).toBe(2);
      expect(clock.now() - beganMs).toBe(110);
      const told = decisions.map(({ policy, verdict, enforced }) => [policy, verdict, enforced]);
      expect(told).toContainEqual(["retry", "retry", true]);
      const hedges = told.filter(([policy]) => policy === "hedge");
      if (mode === "off") expect(hedges).toEqual([]);
      else {
        expect(hedges).toContainEqual(["hedge", "hedge", false]);
        expect(hedges.every(([, , enforced]) => enforced === false)).toBe(true);
      }
      expect(clock.pending.refs).toBe(0);
    },
  );

  it("that the budget stops ends with that reason, and not with one of the server's", async () => {
    let calls = 0;
    const { call, clock, decisions } = await scene({
      client: {
        breaker: false,
        retry: { idempotent: true, budget: { maxTokens: 2, tokenRatio: 0.1, ratio: false } },
        hedge: { delayMs: 50, maxAttempts: 3 },
      },
      handlers: handlers(({ fail }) => {
        calls += 1;
        clock.schedule(200, () => fail({ code: Status.UNAVAILABLE, details: "not now" }));
      }),
    });
    for (let n = 0; n < 3; n++) expect((await call(method)).code).toBe(Status.UNAVAILABLE);
    const stops = decisions.filter(({ verdict }) => verdict === "stop");
    const reasons = stops.map(({ reason }) => reason);
    expect(reasons).not.toContain("RETRY_PUSHBACK_STOP");
    expect(reasons.at(-1)).toBe("RETRY_BUDGET");
    // The second and third call sent no hedge.
    expect(calls).toBe(5);
  });
});

describe("a hedge that was decided", () => {
  it("goes out although one beside it times out in the bulkhead's queue", async () => {
    const metadata = new Metadata();
    metadata.set("grpc-retry-pushback-ms", "300");
    let calls = 0;
    const { start, client, clock, link, decisions } = await scene({
      client: {
        ...idempotent,
        breaker: false,
        bulkhead: { maxConcurrent: 2, maxQueued: 5, maxWaitMs: 60 },
        hedge: { delayMs: 80, maxAttempts: 3 },
        methods: { [path.bidiStream]: { hedge: false, retry: false } },
      },
      handlers: {
        ...echo,
        unary: (call, callback) => {
          calls += 1;
          if (calls > 1) callback(null, call.request);
          else {
            const error = { code: Status.UNAVAILABLE, details: "later", metadata };
            clock.schedule(100, () => callback(error));
          }
        },
      },
    });
    /** Keeps a place until it is cancelled. */
    const blocker = () => {
      const stream = client.bidiStream();
      stream.on("error", () => {}).on("data", () => {});
      return stream;
    };
    const beganMs = clock.now();
    const running = start("unary");
    await link.pass(1);
    const first = blocker();
    await link.pass(78);
    // Waits ahead of the hedge for the place that the first attempt leaves at 100.
    const second = blocker();
    await link.pass(121);
    // At 140 the hedge gave up its wait. The one that the server asked for at 100 is due at 400.
    expect(decisions).toContainEqual(expect.objectContaining({ reason: "QUEUE_TIMEOUT" }));
    first.cancel();
    expect((await link.until(running.ended)).code).toBe(Status.OK);
    expect(clock.now() - beganMs).toBe(400);
    expect(calls).toBe(2);
    second.cancel();
    await link.pass(10);
    expect(link.inFlight()).toBe(0);
    expect(clock.pending.refs).toBe(0);
  });
});
