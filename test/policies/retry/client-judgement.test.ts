import { InterceptingCall, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { ServerStreamRequest } from "../../../src/gen/weir/v1/conformance.js";
import {
  type CallRecord,
  type OptionsWithOwn,
  recordKey,
} from "../../../src/grpc/context/call-record.js";
import type { RetryPolicyOptions } from "../../../src/policies/retry/client-policy.js";
import { echo, failing, handlers, kinds, payload, scene } from "../../scene.js";

const quick = { backoff: { baseMs: 10, jitter: "none" } } as const;

describe.each(kinds)("the caller's own judgement of a status (%s)", (method) => {
  it("takes the place of the codes, either way", async () => {
    for (const [code, judged, calls] of [
      [Status.ABORTED, true, 2],
      [Status.UNAVAILABLE, false, 1],
    ] as const) {
      const server = failing(1, { code, details: "drawn" });
      const retry: RetryPolicyOptions = {
        ...quick,
        idempotent: true,
        retryStatus: ({ details, origin, attempt }) => {
          expect([details, origin, attempt]).toEqual(["drawn", "remote", 1]);
          return judged;
        },
      };
      const { call } = await scene({ handlers: server.handlers, client: { retry } });
      expect((await call(method)).code).toBe(judged ? Status.OK : code);
      expect(server.calls()).toBe(calls);
    }
  });

  it("is not asked of a call that its caller cancels, and nothing is noted of it", async () => {
    const asked: Status[] = [];
    const retry: RetryPolicyOptions = {
      ...quick,
      idempotent: true,
      retryStatus: ({ code }) => {
        asked.push(code);
        return true;
      },
    };
    for (const policy of [{ retry }, { retry, hedge: { maxAttempts: 2, delayMs: 60_000 } }]) {
      const { start, link, decisions, weir } = await scene({
        handlers: handlers(() => {}),
        client: { breaker: false, ...policy },
      });
      const running = start(method);
      await link.pass(5);
      running.cancel();
      expect((await link.until(running.ended)).code).toBe(Status.CANCELLED);
      await link.pass(100);
      expect(asked).toEqual([]);
      expect(decisions).toEqual([]);
      const { retry: retries, hedge: hedges } = weir.snapshot().policies;
      for (const counts of [...(retries?.instances ?? []), ...(hedges?.instances ?? [])]) {
        expect(counts).toMatchObject({ retried: 0, stopped: 0 });
      }
      expect(link.inFlight()).toBe(0);
    }
  });

  it("cannot make a method safe that is not", async () => {
    const server = failing(1, { code: Status.ABORTED, details: "drawn" });
    const retry: RetryPolicyOptions = { ...quick, idempotent: false, retryStatus: () => true };
    const { call } = await scene({ handlers: server.handlers, client: { retry } });
    expect((await call(method)).code).toBe(Status.ABORTED);
  });
});

describe("the caller's own judgement of a response", () => {
  const wanting = (idempotent: boolean, maxAttempts = 3): RetryPolicyOptions => ({
    ...quick,
    idempotent,
    maxAttempts,
    retryResponse: (response) => (response as { sequence: number }).sequence < 5,
  });

  it("tries an OK again that is not what is wanted, and gives the one that is", async () => {
    let sequence = 2;
    const { call } = await scene({
      client: { retry: wanting(true) },
      handlers: {
        ...echo,
        unary: (_call, callback) => {
          sequence += 2;
          callback(null, { payload, sequence });
        },
      },
    });
    const ended = await call("unary");
    expect([ended.code, ended.received]).toEqual([Status.OK, [6]]);
  });

  it("gives the response all the same when no attempt is left, or none is allowed", async () => {
    for (const [retry, calls] of [
      [wanting(true, 2), 2],
      [wanting(false), 1],
    ] as const) {
      let seen = 0;
      const { call } = await scene({
        client: { retry },
        handlers: {
          ...echo,
          unary: (_call, callback) => {
            seen += 1;
            callback(null, { payload, sequence: 1 });
          },
        },
      });
      const ended = await call("unary");
      expect([ended.code, ended.received]).toEqual([Status.OK, [1]]);
      expect(seen).toBe(calls);
    }
  });
});

describe("a response that is not wanted, behind which a retry is refused in this process", () => {
  it.each([
    ["the first attempt", 0, ["retry"]],
    ["a failure", 1, ["retry", "retry"]],
  ] as const)("is given after %s, and nothing more is noted", async (_, failures, verdicts) => {
    let seen = 0;
    const { call, decisions } = await scene({
      client: {
        breaker: {
          consecutiveFailures: failures + 1,
          openMs: 60_000,
          outcome: ({ code }) => (code === Status.OK ? "failure" : undefined),
        },
        retry: { ...quick, idempotent: true, maxAttempts: 5, retryResponse: () => true },
      },
      handlers: {
        ...echo,
        unary: (_call, callback) => {
          seen += 1;
          if (seen <= failures) callback({ code: Status.UNAVAILABLE, details: "not now" });
          else callback(null, { payload, sequence: seen });
        },
      },
    });
    const ended = await call("unary");
    expect([ended.code, ended.received]).toEqual([Status.OK, [seen]]);
    expect(seen).toBe(failures + 1);
    const ofRetry = decisions.filter(({ policy }) => policy === "retry");
    expect(ofRetry.map(({ verdict }) => verdict)).toEqual(verdicts);
  });
});

describe("a server-streamed response that is resumed", () => {
  /** Sends the numbers up to the wanted one, and breaks after each third. */
  const breaking = (requests: number[], code: Status = Status.UNAVAILABLE) => ({
    ...echo,
    serverStream: (call: Parameters<typeof echo.serverStream>[0]) => {
      const from = call.request.payload.length;
      requests.push(from);
      for (let sequence = from + 1; sequence <= from + 3; sequence++) {
        call.write({ payload, sequence });
        if (sequence === 8) {
          call.end();
          return;
        }
      }
      call.emit("error", { code, details: "broke" });
    },
  });
  const resume: NonNullable<RetryPolicyOptions["resume"]> = {
    token: (message) => (message as { sequence: number }).sequence,
    request: (first, token) => ({
      ...(first as ServerStreamRequest),
      payload: Buffer.alloc(Number(token)),
    }),
  };

  it("goes on behind the last message, and shows one whole stream", async () => {
    const requests: number[] = [];
    const { call, link, clock } = await scene({
      client: { retry: { ...quick, maxAttempts: 5, resume } },
      handlers: breaking(requests),
    });
    const ended = await call("serverStream");
    expect([ended.code, ended.received]).toEqual([Status.OK, [1, 2, 3, 4, 5, 6, 7, 8]]);
    expect(requests).toEqual([0, 3, 6]);
    await link.pass(10);
    expect(link.inFlight()).toBe(0);
    expect(clock.pending.refs).toBe(0);
  });

  it("ends with the failure when the code is not retried, or there is to be one attempt", async () => {
    for (const [maxAttempts, code] of [
      [5, Status.DATA_LOSS],
      [1, Status.UNAVAILABLE],
    ] as const) {
      const requests: number[] = [];
      const { call } = await scene({
        client: { retry: { ...quick, maxAttempts, resume } },
        handlers: breaking(requests, code),
      });
      const ended = await call("serverStream");
      expect(ended.code).toBe(code);
      expect(requests).toHaveLength(1);
    }
  });

  /** Sends one message in a part, as often as is wanted, and then fails before the first. */
  const parts = (wanted: number, last: (call: Parameters<typeof echo.serverStream>[0]) => void) => {
    const starts: (readonly [from: number, previous: unknown, depth: unknown])[] = [];
    const serverStream: typeof echo.serverStream = (call) => {
      const from = call.request.payload.length;
      const [previous] = call.metadata.get("grpc-previous-rpc-attempts");
      const [depth] = call.metadata.get("x-weir-retry-depth");
      starts.push([from, previous, depth]);
      if (starts.length > wanted) {
        last(call);
        return;
      }
      call.write({ payload, sequence: from + 1 });
      call.emit("error", { code: Status.UNAVAILABLE, details: "moved" });
    };
    return { starts, handlers: { ...echo, serverStream } };
  };

  it("starts attempts, backoff and budget anew behind each part that brought it on", async () => {
    const server = parts(400, (call) => call.end());
    const { call, clock, weir } = await scene({
      client: { breaker: false, retry: { backoff: { baseMs: 20, jitter: "none" }, resume } },
      handlers: server.handlers,
    });
    const beganMs = clock.now();
    const ended = await call("serverStream");
    expect(ended.code).toBe(Status.OK);
    expect(ended.received).toHaveLength(400);
    // Behind a part that delivered, an attempt is the first again, and so is its backoff.
    expect(new Set(server.starts.map(([, previous]) => previous))).toEqual(new Set([undefined]));
    expect(new Set(server.starts.map(([, , depth]) => depth))).toEqual(new Set([undefined]));
    expect(clock.now() - beganMs).toBe(400 * 20);
    const { retry } = weir.snapshot().policies;
    expect(retry?.instances).toMatchObject([
      { budgets: { "dns:127.0.0.1:40001": { tokens: { left: 100 }, ratio: { extras: 0 } } } },
    ]);
  });

  it("counts attempts that do not bring it on, and ends with them", async () => {
    const server = parts(5, (call) =>
      call.emit("error", { code: Status.UNAVAILABLE, details: "in vain" }),
    );
    const { call } = await scene({
      client: { breaker: false, retry: { ...quick, resume } },
      handlers: server.handlers,
    });
    const ended = await call("serverStream");
    expect([ended.code, ended.details]).toEqual([Status.UNAVAILABLE, "in vain"]);
    expect(server.starts.slice(5)).toEqual([
      [5, undefined, undefined],
      [5, "1", "1"],
      [5, "2", "1"],
    ]);
  });

  it("is not brought on by the same message again and again", async () => {
    let calls = 0;
    const { call } = await scene({
      client: { breaker: false, retry: { ...quick, resume } },
      handlers: {
        ...echo,
        serverStream(stream) {
          calls += 1;
          stream.write({ payload, sequence: 1 });
          stream.emit("error", { code: Status.UNAVAILABLE, details: "moved" });
        },
      },
    });
    expect((await call("serverStream")).code).toBe(Status.UNAVAILABLE);
    expect(calls).toBe(4);
  });

  it("keeps the first and the latest of its attempts and decisions, however long it goes on", async () => {
    let record: CallRecord | undefined;
    const server = parts(300, (call) => call.end());
    const { call } = await scene({
      client: { breaker: false, retry: { ...quick, resume } },
      handlers: server.handlers,
      ownClient: {
        interceptors: [
          (options: OptionsWithOwn, nextCall) => {
            record = options[recordKey];
            return new InterceptingCall(nextCall(options));
          },
        ],
      },
    });
    expect((await call("serverStream")).received).toHaveLength(300);
    expect(record?.attemptCount).toBe(301);
    expect(record?.attempts).toHaveLength(128);
    expect(record?.attempts.at(0)?.number).toBe(1);
    expect(record?.attempts.at(-1)?.number).toBe(301);
    expect(record?.decisions).toHaveLength(128);
  });

  it("can be cancelled while it waits to go on", async () => {
    const { start, link, clock } = await scene({
      client: { retry: { backoff: { baseMs: 1_000, jitter: "none" }, resume } },
      handlers: breaking([]),
    });
    const running = start("serverStream");
    await link.pass(500);
    running.cancel();
    expect((await link.until(running.ended)).code).toBe(Status.CANCELLED);
    expect(clock.pending.refs).toBe(0);
  });

  it("ends with the failure when the user's function throws", async () => {
    const errors: unknown[] = [];
    const throwing = () => {
      throw new Error("no token");
    };
    const { call } = await scene({
      client: { retry: { ...quick, resume: { ...resume, token: throwing } } },
      handlers: breaking([]),
      onError: (error) => errors.push(error),
    });
    expect((await call("serverStream")).code).toBe(Status.UNAVAILABLE);
    expect(errors.length).toBeGreaterThan(0);
  });
});
