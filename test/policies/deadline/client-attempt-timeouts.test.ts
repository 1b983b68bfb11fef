import { Metadata, type NextCall, status as Status } from "@grpc/grpc-js";
import { describe, expect, it, vi } from "vitest";
import { currentCall } from "../../../src/grpc/context/inbound-call.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import { timeouts } from "../../../src/policies/deadline/client-attempt-timeouts.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { callOf, ended, fakeBelow, Hearer, optionsOf } from "../../grpc/client/fake-call.js";
import { echo, handlers, kinds, payload, scene } from "../../scene.js";

describe.each(kinds)("timeouts of %s", (method) => {
  it("end an attempt that takes too long, which is retried where the method is idempotent", async () => {
    for (const [idempotent, code, attempts] of [
      [true, Status.OK, 2],
      [false, Status.DEADLINE_EXCEEDED, 1],
    ] as const) {
      let calls = 0;
      const { call, clock, link, decisions } = await scene({
        client: {
          timeouts: { attemptMs: 100 },
          retry: { idempotent, backoff: { baseMs: 10, jitter: "none" } },
        },
        handlers: handlers((_call, answer) => {
          calls += 1;
          if (calls > 1) answer();
        }),
      });
      const beganMs = clock.now();
      const ended = await call(method);
      expect(ended.code).toBe(code);
      expect(calls).toBe(attempts);
      expect(decisions).toContainEqual(
        expect.objectContaining({ verdict: "expire", reason: "ATTEMPT_TIMEOUT", enforced: true }),
      );
      expect(clock.now() - beganMs).toBe(idempotent ? 110 : 100);
      if (!idempotent) {
        expect(rejectionOf(ended.error ?? {})).toMatchObject({
          reason: "ATTEMPT_TIMEOUT",
          local: true,
        });
      }
      await link.pass(10);
      expect(link.inFlight()).toBe(0);
      expect(clock.pending.refs).toBe(0);
    }
  });

  it("leave alone what a server says of a deadline before theirs", async () => {
    const { call, decisions } = await scene({
      client: { timeouts: { attemptMs: 100 }, retry: false },
      handlers: handlers((running) =>
        running.fail({ code: Status.DEADLINE_EXCEEDED, details: "the database was slow" }),
      ),
    });
    const { code, details } = await call(method);
    expect([code, details]).toEqual([Status.DEADLINE_EXCEEDED, "the database was slow"]);
    expect(decisions).toEqual([]);
  });

  it("end an attempt whose first response is late", async () => {
    const { call, clock } = await scene({
      client: { timeouts: { firstResponseMs: 80 }, retry: false },
      handlers: handlers(() => {}),
    });
    const beganMs = clock.now();
    const ended = await call(method);
    expect(rejectionOf(ended.error ?? {})?.reason).toBe("FIRST_RESPONSE_TIMEOUT");
    expect(clock.now() - beganMs).toBe(80);
  });

  it("of an attempt leave it the deadline of its call, where that is sooner", async () => {
    for (const [deadlineMs, leftMs] of [
      [40, 40],
      [60_000, 100],
    ] as const) {
      const left: number[] = [];
      const { call, clock } = await scene({
        client: { timeouts: { attemptMs: 100 }, retry: false },
        server: {},
        handlers: handlers((_call, answer) => {
          left.push(currentCall()?.remainingMs() ?? Number.NaN);
          answer();
        }),
      });
      expect((await call(method, { deadline: clock.wallNow() + deadlineMs })).code).toBe(Status.OK);
      expect(left).toEqual([leftMs]);
    }
  });

  it("bound a call that sets a later deadline", async () => {
    const { call, clock } = await scene({
      client: { timeouts: { totalMs: 300 }, retry: false },
      handlers: handlers(() => {}),
    });
    const beganMs = clock.now();
    const ended = await call(method, { deadline: clock.wallNow() + 5_000 });
    expect(ended.code).toBe(Status.DEADLINE_EXCEEDED);
    expect(clock.now() - beganMs).toBe(300);
  });

  it("end an attempt that waits too long for a connection, as one that never left", async () => {
    const { call, clock, transport } = await scene({
      client: { timeouts: { connectionMs: 200 }, retry: false, breaker: false },
    });
    transport.server.crash();
    const metadata = new Metadata({ waitForReady: true });
    const beganMs = clock.now();
    const ended = await call(method, {}, metadata);
    expect(ended.code).toBe(Status.UNAVAILABLE);
    expect(rejectionOf(ended.error ?? {})?.reason).toBe("CONNECTION_TIMEOUT");
    expect(clock.now() - beganMs).toBe(200);
  });

  it("watch the channel once for all calls that wait for a connection, and no longer than they wait", async () => {
    const { start, client, transport, link } = await scene({
      client: { timeouts: { connectionMs: 200 }, retry: false, breaker: false },
    });
    const channel = client.getChannel();
    const watched = vi.spyOn(channel, "watchConnectivityState");
    const asked = vi.spyOn(channel, "getConnectivityState");
    transport.server.crash();
    const metadata = new Metadata({ waitForReady: true });
    const calls = Array.from({ length: 30 }, () => start(method, {}, metadata));
    await link.until(Promise.all(calls.map(({ ended }) => ended)));
    // Once from the start, and once for each change: to CONNECTING and to TRANSIENT_FAILURE.
    expect(watched).toHaveBeenCalledTimes(3);
    expect(asked).not.toHaveBeenCalledWith(true);
  });

  it("end with the channel's own status when the client is closed, and do not ask it to connect", async () => {
    const { start, client, clock, transport, link } = await scene({
      client: { timeouts: { connectionMs: 60_000 }, retry: false, breaker: false },
    });
    transport.server.crash();
    const asked = vi.spyOn(client.getChannel(), "getConnectivityState");
    const running = start(method, {}, new Metadata({ waitForReady: true }));
    await link.pass(100);
    client.close();
    const closedAtMs = clock.now();
    const ended = await link.until(running.ended);
    expect(ended.code).toBe(Status.UNAVAILABLE);
    expect(ended.details).toMatch(/^Channel closed before call started/);
    expect(clock.now()).toBe(closedAtMs);
    await link.pass(100_000);
    expect(asked).not.toHaveBeenCalledWith(true);
    expect(clock.pending.refs).toBe(0);
  });

  it("do not count the wait in a bulkhead as the attempt's", async () => {
    const { start, link, clock } = await scene({
      client: {
        timeouts: { attemptMs: 100 },
        retry: false,
        bulkhead: { maxConcurrent: 1, maxWaitMs: 1_000 },
      },
      handlers: handlers((_call, answer) => clock.schedule(90, answer)),
    });
    const calls = [start(method), start(method), start(method)];
    const ended = await link.until(Promise.all(calls.map((call) => call.ended)));
    expect(ended.map(({ code }) => code)).toEqual([0, 0, 0]);
  });
});

describe("the idle timeout of a streamed response", () => {
  const streaming = (
    gapMs: number,
    clock: () => { schedule(ms: number, task: () => void): unknown },
  ) => ({
    ...echo,
    serverStream: (call: Parameters<typeof echo.serverStream>[0]) => {
      let sequence = 0;
      const next = () => {
        sequence += 1;
        call.write({ payload, sequence });
        if (sequence < 3) clock().schedule(gapMs, next);
        else call.end();
      };
      clock().schedule(500, next);
    },
  });

  it("ends a stream whose next message is late, and not one that begins late", async () => {
    for (const [gapMs, code] of [
      [50, Status.OK],
      [150, Status.DEADLINE_EXCEEDED],
    ] as const) {
      const world: Awaited<ReturnType<typeof scene>> = await scene({
        client: { timeouts: { idleMs: 100 }, retry: false },
        handlers: streaming(gapMs, () => world.clock),
      });
      const ended = await world.call("serverStream");
      expect(ended.code).toBe(code);
      if (code !== Status.OK) {
        expect(rejectionOf(ended.error ?? {})?.reason).toBe("IDLE_TIMEOUT");
      }
    }
  });

  it("is for streams: a single response may come long after its headers", async () => {
    const world: Awaited<ReturnType<typeof scene>> = await scene({
      client: { timeouts: { idleMs: 100 }, retry: false },
      handlers: {
        ...echo,
        unary: (call, callback) => {
          call.sendMetadata(new Metadata());
          world.clock.schedule(500, () => callback(null, call.request));
        },
      },
    });
    expect((await world.call("unary")).code).toBe(Status.OK);
  });

  it("does not run while the consumer takes its time", async () => {
    const world: Awaited<ReturnType<typeof scene>> = await scene({
      client: { timeouts: { idleMs: 100 } },
      handlers: streaming(10, () => world.clock),
    });
    const stream = world.client.serverStream({ payload, sequence: 3 });
    const seen: number[] = [];
    const consumed = (async () => {
      for await (const message of stream as AsyncIterable<{ sequence: number }>) {
        seen.push(message.sequence);
        await new Promise<void>((resolve) => {
          world.clock.schedule(400, resolve);
        });
      }
    })();
    await world.link.until(consumed);
    expect(seen).toEqual([1, 2, 3]);
  });
});

/** An attempt with timeouts and no channel to ask, over a call that the test plays. */
function alone(options: Parameters<typeof timeouts>[0], peer = "dns:///shop") {
  const clock = new VirtualClock();
  const below = fakeBelow();
  const errors: unknown[] = [];
  const onError = (_error: unknown, where: string) => errors.push(where);
  const interceptor = timeouts({ ...options, clock, onError });
  const nextCall: NextCall = (given) => {
    const made = below.nextCall(given);
    callOf(below.calls, below.calls.length - 1).peer = peer;
    return made;
  };
  const call = interceptor(optionsOf("server-stream"), nextCall);
  const hearer = new Hearer();
  call.start(new Metadata(), hearer);
  return {
    clock,
    call,
    errors,
    played: callOf(below.calls),
    heard: hearer.heard,
    reasons: () => hearer.statuses.map((status) => rejectionOf(status)?.reason),
  };
}

describe("the timeout of the first response", () => {
  it.each(["headers", "a message"])("is over with %s, whatever follows", async (what) => {
    const { clock, played, heard } = alone({ firstResponseMs: 80 });
    await clock.pass(79);
    if (what === "headers") played.headers();
    else played.message("a");
    await clock.pass(500);
    expect(heard).toEqual([what === "headers" ? "headers" : "message a"]);
  });
});

describe("the idle timeout of a stream that the test plays", () => {
  const idle = { idleMs: 100 };

  it("runs from the headers on, where a message has been asked for before", async () => {
    const { clock, call, played, reasons } = alone(idle);
    call.startRead();
    await clock.pass(500);
    played.headers();
    await clock.pass(99);
    expect(reasons()).toEqual([]);
    await clock.pass(1);
    expect(reasons()).toEqual(["IDLE_TIMEOUT"]);
  });

  it("does not run before a message is asked for, nor behind the one that was", async () => {
    const { clock, call, played, reasons } = alone(idle);
    played.headers();
    await clock.pass(500);
    call.startRead();
    await clock.pass(50);
    call.startRead();
    await clock.pass(40);
    played.message("a");
    await clock.pass(500);
    expect(reasons()).toEqual([]);
  });

  it("does not run behind the end, though a message is asked for", async () => {
    const { clock, call, played } = alone(idle);
    call.startRead();
    played.headers();
    played.end(ended(Status.OK));
    call.startRead();
    expect(clock.pending.refs).toBe(0);
  });
});

it("the timeout of a connection says nothing of how long a connected call takes", async () => {
  const { call, clock } = await scene({
    client: { timeouts: { connectionMs: 200 }, retry: false, breaker: false },
    handlers: handlers((_call, answer) => void clock.schedule(500, answer)),
  });
  // The first one makes the channel connect, and the second one finds it connected.
  for (const _nth of [1, 2]) expect((await call("unary")).code).toBe(Status.OK);
});

describe("the timeout of a connection without a channel to ask", () => {
  const connecting = { connectionMs: 200 };

  it.each([
    ["dns:///shop", "dns:///shop", ["CONNECTION_TIMEOUT"]],
    ["dns:///shop", "unknown", ["CONNECTION_TIMEOUT"]],
    ["dns:///shop", "10.0.0.1:443", []],
  ])("goes by the peer: from %s to %s it ends the attempt with %j", async (from, to, ends) => {
    const { clock, played, reasons, errors } = alone(connecting, from);
    played.peer = to;
    await clock.pass(200);
    expect(reasons()).toEqual(ends);
    expect(errors).toEqual([]);
  });

  it("does not run where no peer is ever told, which is reported", async () => {
    const { clock, reasons, errors } = alone(connecting, "unknown");
    expect(clock.pending.refs).toBe(0);
    await clock.pass(500);
    expect(reasons()).toEqual([]);
    expect(errors).toEqual(["timeouts.connectionMs"]);
  });

  it("is over with the response", async () => {
    const { clock, played, reasons } = alone(connecting);
    played.headers();
    await clock.pass(500);
    expect(reasons()).toEqual([]);
  });
});

it("a timeouts interceptor that stands alone has no total", () => {
  const given = { totalMs: 5 } as Parameters<typeof timeouts>[0];
  expect(() => timeouts(given)).toThrow(expect.objectContaining({ option: "timeouts.totalMs" }));
});
