import { type Client, Metadata, type ServiceError, status as Status } from "@grpc/grpc-js";
import { describe, expect, it, vi } from "vitest";
import { ConformanceServiceClient } from "../../src/gen/weir/v1/conformance.js";
import { rejectionOf } from "../../src/grpc/status/rejection.js";
import { value } from "../../src/policies/fallback/client-providers.js";
import type { AnswerCache } from "../../src/policies/fallback/stale-cache/answer-cache.js";
import { staleCache } from "../../src/policies/fallback/stale-cache/client-cache.js";
import {
  type Ended,
  failing,
  handlers,
  kinds,
  type Method,
  payload,
  type Scene,
  type SceneOptions,
  scene,
  startCall,
} from "../scene.js";

const never = Number.POSITIVE_INFINITY;
const unanswered = new Promise<never>(() => {});
const waitForReady = new Metadata({ waitForReady: true });
/** A store that never says whether it has an answer. */
const mute: AnswerCache = { get: () => unanswered, set: () => {} };

interface Wait {
  readonly options: SceneOptions;
  /** Of the kinds that can wait so. @defaultValue all */
  readonly methods?: readonly Method[];
  readonly prepare?: (made: Scene, method: Method) => void;
  readonly metadata?: Metadata;
}

const noRetry = { retry: false, breaker: false } as const;

/** Everything that a call can wait for while it is on no connection. */
const waits: Record<string, Wait> = {
  "the backoff before a retry": {
    options: {
      client: {
        breaker: false,
        retry: { backoff: { baseMs: 60_000, jitter: "none", maxMs: 60_000 } },
      },
      handlers: failing(never).handlers,
    },
  },
  "a pushback of the server's": {
    options: {
      client: { breaker: false },
      handlers: failing(never, {
        code: Status.UNAVAILABLE,
        details: "not now",
        metadata: Metadata.fromHttp2Headers({ "grpc-retry-pushback-ms": "50000" }),
      }).handlers,
    },
  },
  "the connection that a retry waits for": {
    options: { client: { breaker: false, timeouts: { connectionMs: 60_000 } } },
    prepare: ({ transport }) => transport.server.crash(),
  },
  "a connection, with wait-for-ready": {
    options: { client: noRetry },
    prepare: ({ transport }) => transport.server.crash(),
    metadata: waitForReady,
  },
  "a connection, within connectionMs": {
    options: { client: { ...noRetry, timeouts: { connectionMs: 60_000 } } },
    prepare: ({ transport }) => transport.server.crash(),
    metadata: waitForReady,
  },
  "its turn in a bulkhead": {
    options: {
      client: { ...noRetry, bulkhead: { maxConcurrent: 1, maxWaitMs: 60_000 } },
      handlers: handlers(() => {}),
    },
    prepare: ({ start }, method) => start(method),
  },
  "a token of a rate": {
    options: {
      client: { ...noRetry, rate: { ratePerSecond: 0.02, burst: 1, maxWaitMs: 60_000 } },
    },
    prepare: ({ start }, method) => start(method),
  },
  "the hedge of an attempt that failed": {
    options: {
      client: {
        breaker: false,
        retry: { idempotent: true },
        hedge: { delayMs: 60_000, nonFatalCodes: [Status.UNAVAILABLE] },
      },
      handlers: failing(never, {
        code: Status.UNAVAILABLE,
        details: "not now",
        metadata: Metadata.fromHttp2Headers({ "grpc-retry-pushback-ms": "50000" }),
      }).handlers,
    },
  },
  "the lookup of a fresh answer": {
    options: {
      client: {
        ...noRetry,
        fallback: {
          providers: [staleCache({ shared: true, freshMs: 1_000, store: mute, timeoutMs: 50_000 })],
        },
      },
    },
    methods: ["unary", "serverStream"],
  },
  "a fallback, after a failure": {
    options: {
      client: {
        ...noRetry,
        fallback: { providers: [value(() => unanswered, { timeoutMs: 50_000 })] },
      },
      handlers: failing(never).handlers,
    },
    methods: ["unary", "serverStream"],
  },
  "a call that it shares, which waits for its retry": {
    options: {
      client: {
        breaker: false,
        retry: { backoff: { baseMs: 60_000, jitter: "none", maxMs: 60_000 } },
        fallback: { providers: [staleCache({ shared: true, freshMs: 1_000 })] },
      },
      handlers: failing(never).handlers,
    },
    methods: ["unary"],
    prepare: ({ start }, method) => start(method),
  },
};

const cases = Object.entries(waits).flatMap(([name, wait]) =>
  (wait.methods ?? kinds).map((method) => [name, method, wait] as const),
);

describe("a client that is closed while its call waits for", () => {
  it.each(cases)("%s ends it at once with UNAVAILABLE (%s)", async (_name, method, wait) => {
    const made = await scene(wait.options);
    const { client, clock, link, start, weir } = made;
    // A connection first, where there is to be one.
    await link.pass(10);
    wait.prepare?.(made, method);
    await link.pass(20);
    const running = start(method, {}, wait.metadata);
    await link.pass(1_000);
    const attempts = vi.spyOn(client.getChannel(), "createCall");
    const asked = vi.spyOn(client.getChannel(), "getConnectivityState");
    let end: Ended | undefined;
    void running.ended.then((ended) => {
      end = ended;
    });
    await link.pass(0);
    expect(end).toBeUndefined();
    client.close();
    await link.pass(0);
    expect(end?.code).toBe(Status.UNAVAILABLE);
    expect(weir.snapshot().waiting).toBe(0);
    await link.pass(10);
    expect(clock.pending.refs).toBe(0);
    await link.pass(200_000);
    expect(attempts).not.toHaveBeenCalled();
    expect(asked).not.toHaveBeenCalledWith(true);
  });
});

describe.each(kinds)("a call of kind %s on a closed client", (method) => {
  it("ends with UNAVAILABLE and is not retried, whichever policies there are", async () => {
    for (const client of [
      undefined,
      noRetry,
      { retry: { idempotent: true }, hedge: { delayMs: 5 } },
    ]) {
      const {
        call,
        client: closed,
        clock,
        decisions,
      } = await scene(client === undefined ? {} : { client });
      closed.close();
      const beganMs = clock.now();
      const ended = await call(method);
      expect(ended.code).toBe(Status.UNAVAILABLE);
      expect(ended.details).toBe("Channel has been shut down [CLOSED]");
      expect(clock.now()).toBe(beganMs);
      expect(clock.pending.refs).toBe(0);
      expect(decisions.map(({ verdict }) => verdict)).not.toContain("retry");
    }
  });

  it("that was closed in the same tick ends in grpc-js's words and is not retried", async () => {
    for (const metadata of [new Metadata(), waitForReady]) {
      const { start, client, clock, decisions, link } = await scene();
      const running = start(method, {}, metadata);
      client.close();
      const ended = await link.until(running.ended);
      expect(ended.code).toBe(Status.UNAVAILABLE);
      expect(ended.details).toMatch(/^Channel closed before call started/);
      expect(decisions.map(({ verdict, reason }) => `${verdict} ${reason}`)).toEqual([
        "stop CLOSED",
      ]);
      await link.pass(1);
      expect(clock.pending.refs).toBe(0);
    }
  });

  it("runs on where it is on the wire, and is not retried when it fails there", async () => {
    let fail = () => {};
    let answer = () => {};
    let calls = 0;
    const { start, client, link } = await scene({
      client: { breaker: false, retry: { idempotent: true } },
      handlers: handlers((call, go) => {
        calls += 1;
        answer = go;
        fail = () => call.fail({ code: Status.UNAVAILABLE, details: "gone" });
      }),
    });
    const first = start(method);
    await link.pass(50);
    const answered = answer;
    const second = start(method);
    await link.pass(50);
    client.close();
    fail();
    answered();
    expect((await link.until(first.ended)).code).toBe(Status.OK);
    expect(await link.until(second.ended)).toMatchObject({
      code: Status.UNAVAILABLE,
      details: "gone",
    });
    expect(calls).toBe(2);
  });

  it("is not revived by a channel that is", async () => {
    const { call, client, link } = await scene({ client: noRetry });
    const channel = client.getChannel();
    // As by a name that resolves late.
    await call(method);
    client.close();
    vi.spyOn(channel, "getConnectivityState").mockReturnValue(2);
    const created = vi.spyOn(channel, "createCall");
    expect((await link.until(startCall(client, method, {}, new Metadata()).ended)).code).toBe(
      Status.UNAVAILABLE,
    );
    expect(created).not.toHaveBeenCalled();
  });
});

describe("a call that shares another client's", () => {
  it("asks for itself when that client is closed, and its own is not", async () => {
    const { client, link, weir } = await scene({
      client: {
        breaker: false,
        retry: { backoff: { baseMs: 2_000, jitter: "none" } },
        fallback: { providers: [staleCache({ shared: true, freshMs: 1_000 })] },
      },
      handlers: failing(1).handlers,
    });
    const other = link.client(ConformanceServiceClient);
    const ask = (of: ConformanceServiceClient & Client) =>
      new Promise<ServiceError | null>((resolve) => {
        of.unary({ payload, sequence: 3 }, new Metadata(), {}, resolve);
      });
    const opener = ask(client);
    await link.pass(100);
    const second = ask(other);
    await link.pass(100);
    expect(weir.policy("fallback").snapshot()).toMatchObject([{ cache: { shared: 1 } }]);
    client.close();
    const [error] = await link.until(Promise.all([opener, second]));
    expect(rejectionOf(error ?? {})?.reason).toBe("CLOSED");
    expect(await second).toBeNull();
  });
});
