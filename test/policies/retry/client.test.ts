import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { ConformanceServiceServer } from "../../../src/gen/weir/v1/conformance.js";
import { environmentOf } from "../../../src/grpc/environment.js";
import { retriesExhaustedKey } from "../../../src/grpc/metadata.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import { repeatPart } from "../../../src/policies/retry/client.js";
import {
  failing,
  handlers,
  kinds,
  payload,
  type Running,
  scene,
  withResolvers,
} from "../../scene.js";

const expected = {
  unary: [3],
  clientStream: [1, 2, 3],
  serverStream: [1, 2, 3],
  bidiStream: [1, 2, 3],
};

function pushback(value: string): Metadata {
  const metadata = new Metadata();
  metadata.set("grpc-retry-pushback-ms", value);
  return metadata;
}

describe.each(kinds)("retry of %s", (method) => {
  it("tries again after UNAVAILABLE and gives the answer as if nothing had happened", async () => {
    const server = failing(2);
    const { call, link, clock } = await scene({ handlers: server.handlers });
    const ended = await call(method);
    expect(ended.code).toBe(Status.OK);
    expect(ended.received).toEqual(expected[method]);
    expect(server.calls()).toBe(3);
    expect(server.metadata.map((m) => m.get("grpc-previous-rpc-attempts"))).toEqual([
      [],
      ["1"],
      ["2"],
    ]);
    expect(link.inFlight()).toBe(0);
    expect(clock.pending.refs).toBe(0);
  });

  it("stops at maxAttempts with the status of the last attempt", async () => {
    const server = failing(99);
    const { call, decisions } = await scene({
      handlers: server.handlers,
      client: { retry: { maxAttempts: 4 } },
    });
    const ended = await call(method);
    expect([ended.code, ended.details]).toEqual([Status.UNAVAILABLE, "not now"]);
    expect(ended.trailers.get(retriesExhaustedKey)).toEqual(["1"]);
    expect(server.calls()).toBe(4);
    expect(decisions.map(({ verdict, reason }) => reason ?? verdict)).toEqual([
      "retry",
      "retry",
      "retry",
      "RETRY_ATTEMPTS_SPENT",
    ]);
    expect(decisions.at(-1)?.detail).toBe(
      "none after UNAVAILABLE (remote): all 4 attempts are spent",
    );
  });

  it("asks services above for no retry either, once it gives up itself, and not before", async () => {
    const none = { ratio: false, maxTokens: 1, tokenRatio: 0.1 } as const;
    for (const [retry, reason, mark] of [
      [{ budget: none }, "RETRY_BUDGET", ["1"]],
      [{ maxAttempts: 1 }, "RETRY_ATTEMPTS_SPENT", []],
      [{ budget: none, mode: "observe" }, "RETRY_BUDGET", []],
    ] as const) {
      const { call, decisions } = await scene({ handlers: failing(9).handlers, client: { retry } });
      const { trailers } = await call(method);
      expect(decisions.at(-1)).toMatchObject({ verdict: "stop", reason });
      expect(trailers.get(retriesExhaustedKey)).toEqual(mark);
    }
  });

  it("does not retry a code that is not in the set", async () => {
    const server = failing(99, { code: Status.FAILED_PRECONDITION, details: "no" });
    const { call } = await scene({ handlers: server.handlers });
    expect((await call(method)).code).toBe(Status.FAILED_PRECONDITION);
    expect(server.calls()).toBe(1);
  });

  it("waits exactly as long as the server asks", async () => {
    const server = failing(1, {
      code: Status.UNAVAILABLE,
      details: "later",
      metadata: pushback("1234"),
    });
    const { call, clock, decisions } = await scene({ handlers: server.handlers });
    const beganMs = clock.now();
    expect((await call(method)).code).toBe(Status.OK);
    expect(clock.now() - beganMs).toBe(1234);
    expect(decisions[0]?.detail).toBe(
      "retry after UNAVAILABLE (remote), 1234 ms, as the server asked",
    );
  });

  it.each(["-1", "abc", "", "1.5", "1e3", "99999999999", "2147483647", "300001"])(
    "does not retry after the pushback %j",
    async (value) => {
      const server = failing(1, {
        code: Status.UNAVAILABLE,
        details: "no",
        metadata: pushback(value),
      });
      const { call } = await scene({ handlers: server.handlers });
      expect((await call(method)).code).toBe(Status.UNAVAILABLE);
      expect(server.calls()).toBe(1);
    },
  );

  it("ends at once with the real status when the wait does not fit the deadline", async () => {
    const server = failing(99, {
      code: Status.UNAVAILABLE,
      details: "later",
      metadata: pushback("5000"),
    });
    const { call, clock } = await scene({ handlers: server.handlers });
    const beganMs = clock.now();
    const ended = await call(method, { deadline: clock.wallNow() + 1_000 });
    expect(ended.code).toBe(Status.UNAVAILABLE);
    expect(clock.now()).toBe(beganMs);
  });

  it("ends when the caller cancels during the wait, and starts nothing more", async () => {
    const server = failing(99, {
      code: Status.UNAVAILABLE,
      details: "later",
      metadata: pushback("1000"),
    });
    const { start, link, clock } = await scene({ handlers: server.handlers });
    const running = start(method);
    await link.pass(500);
    running.cancel();
    expect((await link.until(running.ended)).code).toBe(Status.CANCELLED);
    await link.pass(5_000);
    expect(server.calls()).toBe(1);
    expect(clock.pending.refs).toBe(0);
  });

  it.each([
    ["retry", {}],
    ["hedge", { hedge: { maxAttempts: 3, delayMs: 60_000 } }],
  ] as const)(
    "sends nothing more where the caller cancels as it is told of the %s",
    async (verdict, policy) => {
      const server = failing(99);
      const made = await scene({
        handlers: server.handlers,
        client: { breaker: false, retry: { idempotent: true }, ...policy },
        onDecision: (decision) => {
          if (decision.verdict === verdict) running?.cancel();
        },
      });
      const { start, link, clock, weir } = made;
      let running: Running | undefined;
      running = start(method);
      expect((await link.until(running.ended)).code).toBe(Status.CANCELLED);
      await link.pass(5_000);
      expect(clock.pending.refs).toBe(0);
      expect(link.inFlight()).toBe(0);
      expect(weir.snapshot().waiting).toBe(0);
      expect(server.calls()).toBe(1);
    },
  );

  it("ends at the deadline when an attempt hangs", async () => {
    let calls = 0;
    const { call, clock, link } = await scene({
      handlers: handlers(({ fail }) => {
        calls += 1;
        if (calls === 1) fail({ code: Status.UNAVAILABLE, details: "once" });
      }),
    });
    const beganMs = clock.now();
    const ended = await call(method, { deadline: clock.wallNow() + 3_000 });
    expect(ended.code).toBe(Status.DEADLINE_EXCEEDED);
    expect(ended.details).toContain("2 attempts");
    expect(rejectionOf(ended.error ?? {})?.reason).toBe("DEADLINE_EXCEEDED");
    expect(clock.now() - beganMs).toBe(3_000);
    await link.pass(100);
    expect(link.inFlight()).toBe(0);
  });

  it("retries a connection that broke only when the method is known to be idempotent", async () => {
    for (const [idempotent, calls] of [
      [true, 2],
      [false, 1],
    ] as const) {
      let seen = 0;
      const { call, transport, link } = await scene({
        client: { retry: { idempotent } },
        handlers: handlers((_call, answer) => {
          seen += 1;
          if (seen > 1) answer();
          else {
            transport.server.crash();
            transport.server.start();
          }
        }),
      });
      const ended = await call(method);
      expect(ended.code).toBe(idempotent ? Status.OK : Status.UNAVAILABLE);
      expect(seen).toBe(calls);
      expect(link.inFlight()).toBe(0);
    }
  });

  it("retries what never left the process, whatever the method", async () => {
    const { start, transport, link } = await scene({
      // grpc-js connects anew after a second or so; until then attempts fail at once.
      client: {
        breaker: false,
        retry: { idempotent: false, maxAttempts: 20, backoff: { baseMs: 300, jitter: "none" } },
      },
    });
    transport.server.crash();
    const running = start(method);
    await link.pass(10);
    transport.server.start();
    expect((await link.until(running.ended, 60_000)).code).toBe(Status.OK);
  });

  it("gives the last remote status when a policy of ours refuses the retry", async () => {
    const server = failing(99, { code: Status.UNAVAILABLE, details: "the server's own" });
    const { call, decisions } = await scene({
      handlers: server.handlers,
      client: { retry: { maxAttempts: 5 }, breaker: { consecutiveFailures: 2 } },
    });
    const ended = await call(method);
    expect([ended.code, ended.details]).toEqual([Status.UNAVAILABLE, "the server's own"]);
    expect(server.calls()).toBe(2);
    expect(decisions.at(-1)).toMatchObject({ policy: "retry", verdict: "stop" });
  });

  it("only records what it would do while it observes", async () => {
    const server = failing(1);
    const { call, decisions, weir } = await scene({ handlers: server.handlers });
    weir.policy("retry").mode = "observe";
    expect((await call(method)).code).toBe(Status.UNAVAILABLE);
    expect(server.calls()).toBe(1);
    expect(decisions).toMatchObject([{ policy: "retry", verdict: "retry", enforced: false }]);
  });

  it("does nothing while it is off", async () => {
    const server = failing(1);
    const { call, decisions, weir } = await scene({ handlers: server.handlers });
    weir.policy("retry").mode = "off";
    expect((await call(method)).code).toBe(Status.UNAVAILABLE);
    expect(decisions).toEqual([]);
  });
});

it("a method without retries and hedges has no layer for them", () => {
  const policies = { retry: undefined, hedge: undefined };
  expect(repeatPart(environmentOf({}, "test"), policies)).toBeUndefined();
});

describe("RESOURCE_EXHAUSTED", () => {
  it("is not retried when the server says nothing of when", async () => {
    const server = failing(1, { code: Status.RESOURCE_EXHAUSTED, details: "quota" });
    const { call } = await scene({
      handlers: server.handlers,
      client: { retry: { idempotent: true, codes: [8, 14] } },
    });
    expect((await call("unary")).code).toBe(Status.RESOURCE_EXHAUSTED);
    expect(server.calls()).toBe(1);
  });

  it("is retried after the pushback of a server", async () => {
    const server = failing(1, {
      code: Status.RESOURCE_EXHAUSTED,
      details: "busy",
      metadata: pushback("40"),
    });
    const { call } = await scene({
      handlers: server.handlers,
      client: { retry: { idempotent: true } },
    });
    expect((await call("unary")).code).toBe(Status.OK);
  });

  it("is retried for any method when a server of ours says that the handler did not run", async () => {
    let handled = 0;
    const { start, link, clock } = await scene({
      client: { retry: { idempotent: false, maxAttempts: 10 } },
      server: { admission: { streams: "together", limit: 1, maxQueued: 0 } },
      handlers: handlers((_call, answer) => {
        handled += 1;
        clock.schedule(30, answer);
      }),
    });
    const running = [start("unary"), start("unary")];
    const ended = await link.until(Promise.all(running.map((one) => one.ended)), 60_000);
    expect(ended.map(({ code }) => code)).toEqual([Status.OK, Status.OK]);
    expect(handled).toBe(2);
  });
});

describe("a failure behind which no attempt can follow", () => {
  const begun = {
    ...handlers(() => {}),
    serverStream: ((call) => {
      call.write({ payload, sequence: 1 });
      call.emit("error", { code: Status.UNAVAILABLE, details: "not now" });
    }) satisfies ConformanceServiceServer["serverStream"],
  };
  const outgrown = { idempotent: true, maxBufferMessages: 1 };

  it.each(["clientStream", "bidiStream"] as const)(
    "is told when the request has outgrown its buffer: %s",
    async (method) => {
      const server = failing(9);
      const { call, decisions, weir } = await scene({
        handlers: server.handlers,
        client: { breaker: false, retry: outgrown },
      });
      const { code, trailers } = await call(method);
      expect([code, server.calls()]).toEqual([Status.UNAVAILABLE, 1]);
      expect(decisions).toMatchObject([
        { policy: "retry", verdict: "stop", reason: "RETRY_COMMITTED", enforced: true },
      ]);
      expect(weir.policy("retry").snapshot()).toMatchObject([{ retried: 0, stopped: 1 }]);
      // Nobody has tried again: whoever made the call for somebody else leaves that to them.
      expect(trailers.get(retriesExhaustedKey)).toEqual([]);
    },
  );

  it("is told when the request outgrows its buffer between two attempts", async () => {
    const server = failing(9);
    const { client, clock, link, decisions } = await scene({
      handlers: server.handlers,
      client: {
        breaker: false,
        retry: { ...outgrown, backoff: { baseMs: 50, jitter: "none" } },
      },
    });
    const ended = withResolvers<void>();
    const call = client.clientStream(() => ended.resolve());
    call.write({ payload, sequence: 1 });
    await clock.pass(20);
    call.write({ payload, sequence: 2 });
    call.write({ payload, sequence: 3 });
    call.end();
    await link.until(ended.promise);
    expect(server.calls()).toBe(2);
    expect(decisions.map(({ verdict, reason }) => reason ?? verdict)).toEqual([
      "retry",
      "RETRY_COMMITTED",
    ]);
  });

  it("is told when the response has begun, where it would be tried again otherwise", async () => {
    for (const [idempotent, reasons] of [
      [true, ["RETRY_COMMITTED"]],
      [false, []],
    ] as const) {
      const { call, decisions } = await scene({
        handlers: begun,
        client: { breaker: false, retry: { idempotent } },
      });
      expect((await call("serverStream")).received).toEqual([1]);
      expect(decisions.map(({ reason }) => reason)).toEqual(reasons);
    }
  });

  it("is told by retries that only observe", async () => {
    const { call, decisions } = await scene({
      handlers: failing(9).handlers,
      client: { breaker: false, retry: { ...outgrown, mode: "observe" } },
    });
    await call("clientStream");
    expect(decisions).toMatchObject([{ reason: "RETRY_COMMITTED", enforced: false }]);
  });
});
