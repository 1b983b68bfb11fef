import {
  credentials,
  InterceptingCall,
  type Interceptor,
  Metadata,
  status as Status,
} from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../../src/core/options.js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../../src/gen/weir/v1/conformance.js";
import { degradationOf } from "../../../../src/grpc/status/degraded.js";
import { rejectionOf } from "../../../../src/grpc/status/rejection.js";
import { fallback } from "../../../../src/policies/fallback/client.js";
import type { FallbackOptions } from "../../../../src/policies/fallback/client-policy.js";
import { empty, staticValue } from "../../../../src/policies/fallback/client-providers.js";
import {
  type AnswerCache,
  encodeAnswer,
  storedBytes,
} from "../../../../src/policies/fallback/stale-cache/answer-cache.js";
import {
  type StaleCacheOptions,
  staleCache,
} from "../../../../src/policies/fallback/stale-cache/client-cache.js";
import { memoryAnswerCache } from "../../../../src/policies/fallback/stale-cache/memory-answer-cache.js";
import { createWeir } from "../../../../src/weir.js";
import { echo, handlers, type SceneOptions, scene, withResolvers } from "../../../scene.js";
import { type FallbackScene, fallbackScene, message, replaceable, unary } from "../client-scene.js";

/** A server that counts its answers up, until it is told to fail. */
function counter() {
  const state = { down: false, calls: 0, size: 0 };
  const failure = { code: Status.UNAVAILABLE, details: "down" };
  const implementation: ConformanceServiceServer = {
    unary(_call, callback) {
      state.calls += 1;
      if (state.down) callback(failure);
      else callback(null, { payload: Buffer.alloc(state.size, 7), sequence: state.calls });
    },
    serverStream(call) {
      state.calls += 1;
      if (state.down) call.emit("error", failure);
      else {
        for (const part of [1, 2, 3]) {
          call.write({ payload: Buffer.alloc(state.size), sequence: state.calls * 10 + part });
        }
        call.end();
      }
    },
    clientStream: (_call, callback) => callback(failure),
    bidiStream: (call) => call.emit("error", failure),
  };
  return { state, implementation };
}

async function cached(options: Omit<StaleCacheOptions, never>, more: SceneOptions = {}) {
  const server = counter();
  const made = await fallbackScene(
    { providers: [staleCache(options)] },
    { handlers: server.implementation, ...more },
  );
  const cache = () => made.numbers().cache ?? raise();
  return { ...made, state: server.state, cache };
}

function raise(): never {
  throw new Error("no cache");
}

const caller = (token: string) => {
  const metadata = new Metadata();
  metadata.set("authorization", token);
  return metadata;
};

describe.each(replaceable)("a stale cache for %s", (method) => {
  const good = method === "unary" ? [1] : [11, 12, 13];

  it("gives the last good answer when a call fails, with its age", async () => {
    const { call, state, link, cache, decisions } = await cached({ shared: true });
    expect((await call(method)).received).toEqual(good);
    state.down = true;
    await link.pass(4_200);
    const { code, received, trailers } = await call(method);
    expect([code, received]).toEqual([Status.OK, good]);
    const [mark] = degradationOf(trailers);
    expect(mark).toMatchObject({ source: "fallback", name: "stale-cache" });
    expect(mark?.ageMs).toBeGreaterThanOrEqual(4_200);
    expect(mark?.ageMs).toBeLessThan(4_300);
    expect(decisions[0]?.detail).toMatch(/^stale-cache, 42\d\d ms old, instead of UNAVAILABLE$/);
    expect(cache()).toMatchObject({ stale: 1, missed: 0, stored: 1, entries: 1, flights: 0 });
  });

  it("gives none that is older than it may be", async () => {
    const { call, state, link, cache } = await cached({ shared: true, staleIfErrorMs: 1_000 });
    await call(method);
    state.down = true;
    await link.pass(900);
    expect((await call(method)).code).toBe(Status.OK);
    await link.pass(200);
    expect((await call(method)).code).toBe(Status.UNAVAILABLE);
    expect(cache()).toMatchObject({ stale: 1, missed: 1 });
  });

  it("gives an answer of an hour ago unless told otherwise, and no older one", async () => {
    const { call, state, link, clock } = await cached({ shared: true });
    const storedMs = clock.now();
    await call(method);
    state.down = true;
    await link.pass(3_600_000 - 1 - (clock.now() - storedMs));
    expect((await call(method)).code).toBe(Status.OK);
    await link.pass(10);
    expect((await call(method)).code).toBe(Status.UNAVAILABLE);
  });

  it("asks the service each time, unless answers may be fresh", async () => {
    const { call, state } = await cached({ shared: true });
    await call(method);
    await call(method);
    expect(state.calls).toBe(2);
  });

  it("asks the service at once where it has no fresh answer", async () => {
    const { call, clock } = await cached({ shared: true, freshMs: 500 });
    const beganMs = clock.now();
    expect((await call(method)).received).toEqual(good);
    expect(clock.now()).toBe(beganMs);
  });

  it("gives a fresh answer without a call, and without a mark", async () => {
    const made = await cached({ shared: true, freshMs: 500 });
    await made.call(method);
    const again = await made.call(method);
    expect([again.code, again.received, made.state.calls]).toEqual([Status.OK, good, 1]);
    expect(degradationOf(again.trailers)).toEqual([]);
    expect(made.decisions.at(-1)?.detail).toMatch(/^stale-cache, fresh, \d+ ms old$/);
    await made.link.pass(600);
    await made.call(method);
    expect(made.state.calls).toBe(2);
    expect(made.cache()).toMatchObject({ fresh: 1, stored: 2 });
    expect(made.clock.pending.refs).toBe(0);
  });

  it("does not let one caller see another's answers", async () => {
    const { call, state } = await cached({ vary: ["Authorization"], freshMs: 10_000 });
    expect((await call(method, {}, caller("alice"))).received).toEqual(good);
    await call(method, {}, caller("bob"));
    expect(state.calls).toBe(2);
    expect((await call(method, {}, caller("alice"))).received).toEqual(good);
    expect(state.calls).toBe(2);
    state.down = true;
    expect((await call(method, {}, caller("eve"))).code).toBe(Status.UNAVAILABLE);
    expect((await call(method)).code).toBe(Status.UNAVAILABLE);
  });

  it("stores nothing that failed, was too long, or had to make do itself", async () => {
    const long = await cached({ shared: true, maxResponseBytes: 100 });
    long.state.size = 200;
    await long.call(method);
    long.state.down = true;
    expect((await long.call(method)).code).toBe(Status.UNAVAILABLE);
    expect(long.cache()).toMatchObject({ stored: 0, notStored: 1, entries: 0 });

    const degraded = await cached(
      { shared: true },
      {
        handlers: {
          ...counter().implementation,
          unary: (_call, callback) => callback(null, message(1), degradedTrailers()),
          serverStream: (call) => {
            call.write(message(1));
            call.end(degradedTrailers());
          },
        },
      },
    );
    expect((await degraded.call(method)).code).toBe(Status.OK);
    expect(degraded.cache()).toMatchObject({ stored: 0 });
  });

  it("outlives a store that throws, is rejected, hangs or holds something else", async () => {
    const errors: unknown[] = [];
    const broken: AnswerCache[] = [
      {
        get: () => {
          throw new Error("get");
        },
        set: () => {
          throw new Error("set");
        },
      },
      {
        get: () => Promise.reject(new Error("get")),
        set: () => Promise.reject(new Error("set")),
      },
      { get: () => new Promise(() => {}), set: () => new Promise(() => {}) },
      { get: () => Promise.resolve(Buffer.from("something else")), set: () => {} },
      { get: () => null, set: () => {} },
    ];
    for (const store of broken) {
      const before = errors.length;
      const made = await cached(
        { shared: true, freshMs: 1_000, store },
        { onError: (error) => errors.push(error) },
      );
      expect((await made.call(method)).code).toBe(Status.OK);
      made.state.down = true;
      expect((await made.call(method)).code).toBe(Status.UNAVAILABLE);
      expect(made.clock.pending.refs).toBe(0);
      expect(made.cache()).toMatchObject({ storeFailures: errors.length - before });
    }
    const order = (a: string, b: string) => a.localeCompare(b);
    const twice = ["Error: get", "Error: get", "Error: get", "Error: set"];
    expect(errors.map(String).toSorted(order)).toEqual([...twice, ...twice].toSorted(order));
  });

  it("starts no call behind a slow store once the weir is closed", async () => {
    const store: AnswerCache = { get: () => new Promise(() => {}), set: () => {} };
    const made = await cached({ shared: true, freshMs: 1_000, store });
    const running = made.start(method);
    await made.link.pass(10);
    made.weir.close();
    const { code, error } = await made.link.until(running.ended, 1e6);
    expect([code, rejectionOf(error)?.reason]).toEqual([Status.UNAVAILABLE, "CLOSED"]);
    expect(made.state.calls).toBe(0);
  });

  it("asks no store for a call whose request comes when the weir is closed", async () => {
    let asked = 0;
    const get = () => {
      asked += 1;
      return undefined;
    };
    const late: Interceptor = (options, nextCall) =>
      new InterceptingCall(nextCall(options), {
        sendMessage: (request, next) => {
          made.clock.schedule(10, () => next(request));
        },
      });
    const made = await fallbackScene(
      { providers: [staleCache({ shared: true, freshMs: 1_000, store: { get, set: () => {} } })] },
      { ownClient: { interceptors: [late] } },
    );
    const running = made.start(method);
    await made.link.pass(5);
    made.weir.close();
    const { error } = await made.link.until(running.ended, 1e6);
    expect([asked, rejectionOf(error)?.reason]).toEqual([0, "CLOSED"]);
    expect(made.clock.pending.refs).toBe(0);
  });

  it("is no call that waits once the service is asked, and ends as that says when the weir is closed", async () => {
    const answers: (() => void)[] = [];
    const store: AnswerCache = { get: async () => null, set: () => {} };
    const made = await fallbackScene(
      { providers: [staleCache({ shared: true, freshMs: 1_000, store })] },
      { handlers: handlers((_call, answer) => answers.push(answer)) },
    );
    const running = made.start(method);
    expect(made.weir.snapshot().waiting).toBe(1);
    await made.link.pass(10);
    expect([answers.length, made.weir.snapshot().waiting]).toEqual([1, 0]);
    made.weir.close();
    answers[0]?.();
    expect((await made.link.until(running.ended, 1e6)).code).toBe(Status.OK);
  });

  it("is left by its caller while the store is slow", async () => {
    const store: AnswerCache = { get: () => new Promise(() => {}), set: () => {} };
    const made = await cached({ shared: true, freshMs: 1_000, store });
    const running = made.start(method);
    await made.link.pass(10);
    expect(made.weir.snapshot().waiting).toBe(1);
    running.cancel();
    expect((await made.link.until(running.ended, 1e6)).code).toBe(Status.CANCELLED);
    expect(made.weir.snapshot().waiting).toBe(0);
    await made.link.pass(1_000);
    expect([made.state.calls, made.clock.pending.refs]).toEqual([0, 0]);
  });

  it("works with a store that answers later, such as Redis", async () => {
    const kept = new Map<string, { value: Buffer; ttlMs: number }>();
    const store: AnswerCache = {
      get: async (key) => kept.get(key)?.value ?? null,
      set: async (key, value, ttlMs) => {
        kept.set(key, { value: Buffer.from(value), ttlMs });
      },
    };
    const made = await cached({ shared: true, store, staleIfErrorMs: 60_000, freshMs: 50 });
    await made.call(method);
    expect([...kept.values()].map(({ ttlMs }) => ttlMs)).toEqual([60_000]);
    expect((await made.call(method)).received).toEqual(good);
    expect(made.cache()).toMatchObject({ fresh: 1 });
    await made.link.pass(100);
    made.state.down = true;
    expect((await made.call(method)).received).toEqual(good);
  });
});

function degradedTrailers(): Metadata {
  const trailers = new Metadata();
  trailers.set("x-weir-degraded", "fallback=static");
  return trailers;
}

describe("a stale cache", () => {
  it("stores an answer of up to 256 KiB unless told otherwise", async () => {
    const made = await cached({ shared: true });
    // The response is the payload and six bytes around it.
    const largest = 256 * 1024 - storedBytes([Buffer.alloc(6)]);
    for (const [size, counts] of [
      [largest, { stored: 1, notStored: 0 }],
      [largest + 1, { stored: 1, notStored: 1 }],
    ] as const) {
      made.state.size = size;
      await made.call("unary");
      expect(made.cache()).toMatchObject(counts);
    }
  });

  it("reports once that responses have been replaced below it, so that their bytes are not known", async () => {
    const errors: string[] = [];
    const replacing: Interceptor = (options, nextCall) =>
      new InterceptingCall(nextCall(options), {
        start: (metadata, _listener, next) =>
          next(metadata, {
            onReceiveMessage: (_response, hand) => hand(message(9)),
          }),
      });
    const made = await scene();
    const link = await made.transport.open({
      service: ConformanceServiceService,
      implementation: echo,
      clientOptions: {
        interceptors: [
          fallback({
            clock: made.clock,
            onError: (error, where) => errors.push(`${where}: ${String(error)}`),
            providers: [staleCache({ shared: true })],
          }),
          replacing,
        ],
      },
      serverInterceptors: [],
    });
    const client = link.client(ConformanceServiceClient);
    for (let call = 0; call < 2; call += 1) {
      expect((await unary({ client, link }, 1)).sequence).toBe(9);
    }
    expect(errors).toEqual([
      "staleCache: Error: A response is not stored: an interceptor below has replaced it, or it is no object",
    ]);
  });

  it("has no answer for a single response where the stored one has no message", async () => {
    const nothing = encodeAnswer({ storedAtMs: 0, messages: [] });
    const store: AnswerCache = { get: () => nothing, set: () => {} };
    const made = await cached({ shared: true, store });
    made.clock.stepWall(1_000 - made.clock.wallNow());
    made.state.down = true;
    expect((await made.call("unary")).code).toBe(Status.UNAVAILABLE);
    expect(made.cache()).toMatchObject({ missed: 1, storeFailures: 0 });
    expect((await made.call("serverStream")).code).toBe(Status.OK);
  });
});

it("a fresh streamed answer is no call that waits, however slowly it is read", async () => {
  const made = await cached({ shared: true, freshMs: 10_000 });
  await made.call("serverStream");
  const first = withResolvers<unknown>();
  const ended = withResolvers<unknown>();
  const call = made.client.serverStream(message(3), new Metadata());
  call.on("status", ended.resolve).once("data", (data) => {
    call.pause();
    first.resolve(data);
  });
  await made.link.until(first.promise, 1e6);
  expect([made.state.calls, made.weir.snapshot().waiting]).toEqual([1, 0]);
  call.resume();
  await made.link.until(ended.promise, 1e6);
});

describe("a stored answer", () => {
  it("is a message of its own for each caller, down to its bytes", async () => {
    const made = await cached({ shared: true, freshMs: 10_000 });
    made.state.size = 4;
    const first = await unary(made, 3);
    const second = await unary(made, 3);
    const spoil = ({ response }: { response: object }) => {
      const { payload } = response as { payload: Buffer };
      expect([...payload]).toEqual([7, 7, 7, 7]);
      payload.fill(0);
      Object.assign(response, { sequence: -1 });
    };
    spoil(first);
    spoil(second);
    spoil(await unary(made, 3));
    expect(made.state.calls).toBe(1);
  });

  it("belongs to its request and its method", async () => {
    const made = await cached({ shared: true, freshMs: 10_000 });
    await unary(made, 1);
    await unary(made, 2);
    // The same request, to two methods.
    await made.call("unary");
    const streamed = await made.call("serverStream");
    expect(streamed.received).toEqual([41, 42, 43]);
    await unary(made, 1);
    await made.call("unary");
    expect(made.state.calls).toBe(4);
  });

  it("belongs to its target, and to the host that the call names", async () => {
    const options = { shared: true, store: memoryAnswerCache(), freshMs: 10_000 } as const;
    const made = await cached(options);
    const other = counter();
    const link = await made.transport.open({
      service: ConformanceServiceService,
      implementation: other.implementation,
      clientOptions: made.weir.client({
        retry: false,
        breaker: false,
        fallback: { providers: [staleCache(options)] },
      }),
      serverInterceptors: [],
    });
    const elsewhere = { client: link.client(ConformanceServiceClient), link };
    for (let times = 0; times < 2; times += 1) {
      await unary(made, 1);
      await unary(made, 1, { host: "a" });
      await unary(made, 1, { host: "b" });
      await unary(elsewhere, 1);
    }
    expect([made.state.calls, other.state.calls]).toEqual([3, 1]);
  });

  it("may belong to a caller that a function names, and to nobody", async () => {
    const vary = ({ metadata }: { metadata: Metadata }) => {
      const [tenant] = metadata.get("tenant");
      return tenant?.toString();
    };
    const made = await cached({ vary, freshMs: 10_000 });
    const tenant = new Metadata();
    tenant.set("tenant", "blue");
    await made.call("unary", {}, tenant);
    await made.call("unary", {}, tenant);
    expect(made.state.calls).toBe(1);
    await made.call("unary");
    await made.call("unary");
    expect(made.state.calls).toBe(3);
  });

  it("of one caller that a function names is not another's", async () => {
    const vary = ({ metadata }: { metadata: Metadata }) => String(metadata.get("authorization")[0]);
    const made = await cached({ vary, freshMs: 10_000 });
    for (const name of ["alice", "bob", "alice", "bob"]) await made.call("unary", {}, caller(name));
    expect(made.state.calls).toBe(2);
  });

  it("belongs to the key that a value of its caller stands under", async () => {
    const made = await cached({ vary: ["tenant", "user"], freshMs: 10_000 });
    for (const key of ["tenant", "user"]) {
      const metadata = new Metadata();
      metadata.set(key, "x");
      await made.call("unary", {}, metadata);
    }
    expect(made.state.calls).toBe(2);
  });

  it("is none where the function that names callers throws, which is reported", async () => {
    const errors: unknown[] = [];
    const made = await cached(
      {
        freshMs: 10_000,
        vary: () => {
          throw new Error("who?");
        },
      },
      { onError: (error) => errors.push(error) },
    );
    await made.call("unary");
    await made.call("unary");
    expect([made.state.calls, errors]).toEqual([2, [new Error("who?"), new Error("who?")]]);
  });

  it("is none of a call with credentials of its own, which metadata keys cannot see", async () => {
    const token = (name: string) =>
      credentials.createFromMetadataGenerator((_, done) => done(null, caller(name)));
    const keyed = await cached({ vary: ["authorization"], freshMs: 10_000 });
    const noTls = (made: FallbackScene, name: string) =>
      made.call("unary", { credentials: token(name) });
    await noTls(keyed, "alice");
    await noTls(keyed, "alice");
    expect(keyed.cache()).toMatchObject({ stored: 0, fresh: 0 });
    const named = await cached({ vary: () => "alice", freshMs: 10_000 });
    await noTls(named, "alice");
    expect(named.cache().stored + named.cache().fresh).toBeLessThanOrEqual(1);
  });

  it("is none of a call with an idempotency key: it means to have an effect", async () => {
    const server = counter();
    const made = await fallbackScene(
      { providers: [staleCache({ shared: true, freshMs: 10_000 })] },
      { handlers: server.implementation },
      { idempotencyKey: {} },
    );
    const both = [made.start("unary"), made.start("unary")];
    await made.link.until(Promise.all(both.map(({ ended }) => ended)), 1e6);
    expect(server.state.calls).toBe(2);
    expect(made.numbers().cache).toMatchObject({ stored: 0 });
  });

  it("is one for clients that share a store", async () => {
    const store = memoryAnswerCache();
    const first = await cached({ shared: true, store });
    await first.call("unary");
    expect(store.snapshot().entries).toBe(1);
    const second = await cached({ shared: true, store, freshMs: 1_000 });
    expect((await second.call("unary")).received).toEqual([1]);
  });

  it("is kept within bounds", async () => {
    const made = await cached({ shared: true, memory: { maxEntries: 3, maxBytes: 10_000 } });
    for (let sequence = 1; sequence <= 20; sequence += 1) await unary(made, sequence);
    expect(made.cache()).toMatchObject({ entries: 3, stored: 20 });
    expect(made.cache().bytes).toBeLessThan(10_000);
  });

  it("comes before the answers behind it in the chain", async () => {
    const server = counter();
    const made = await fallbackScene(
      {
        providers: [staleCache({ shared: true }), staticValue(message(99)), empty()],
      },
      { handlers: server.implementation },
    );
    server.state.down = true;
    expect((await unary(made, 5)).sequence).toBe(99);
    server.state.down = false;
    const { sequence } = await unary(made, 5);
    server.state.down = true;
    expect((await unary(made, 5)).sequence).toBe(sequence);
  });

  it.each([0, -3_600_000, -30_000, 3_600_000])(
    "is fresh for the time that was asked, and no longer, when the clock is set by %i ms",
    async (stepMs) => {
      const made = await cached({ shared: true, freshMs: 1_000 });
      await made.call("unary");
      made.clock.stepWall(stepMs);
      // A clock that is set forward may make it old: then the service is asked.
      await made.link.pass(800);
      if (stepMs <= 0) expect((await made.call("unary")).received).toEqual([1]);
      await made.link.pass(400);
      expect((await made.call("unary")).received).toEqual([2]);
      expect(made.state.calls).toBe(2);
    },
  );

  it("of another process is never fresh when it comes from the future", async () => {
    const store = memoryAnswerCache();
    const other = await cached({ shared: true, store });
    await other.call("unary");
    const made = await cached({ shared: true, store, freshMs: 1_000 });
    // Clocks of two machines differ a little.
    made.clock.stepWall(-1_000);
    await made.call("unary");
    expect(made.state.calls).toBe(0);
    made.clock.stepWall(-1);
    await made.call("unary");
    expect(made.state.calls).toBe(1);
  });

  it("of another process is as old as the wall clocks say", async () => {
    const store = memoryAnswerCache();
    const other = await cached({ shared: true, store });
    await other.call("unary");
    const made = await cached({ shared: true, store, staleIfErrorMs: 10_000 });
    made.state.down = true;
    made.clock.stepWall(5_000);
    expect(degradationOf((await made.call("unary")).trailers)).toMatchObject([{ ageMs: 5_000 }]);
    made.clock.stepWall(5_001);
    expect((await made.call("unary")).code).toBe(Status.UNAVAILABLE);
  });

  it("of another process is given for a failure, as one of now, when it comes from the future", async () => {
    const store = memoryAnswerCache();
    const other = await cached({ shared: true, store });
    await other.call("unary");
    const made = await cached({ shared: true, store });
    made.state.down = true;
    made.clock.stepWall(-500);
    expect(degradationOf((await made.call("unary")).trailers)).toMatchObject([{ ageMs: 0 }]);
    made.clock.stepWall(-60_000);
    const { code, trailers } = await made.call("unary");
    expect(code).toBe(Status.OK);
    expect(degradationOf(trailers)).toMatchObject([{ ageMs: 0 }]);
    const decision = {
      verdict: "fallback",
      detail: "stale-cache, 0 ms old, instead of UNAVAILABLE",
    };
    expect(made.decisions).toMatchObject([decision, decision]);
  });

  it("is not older after the clock was set back, nor lost when it is set forward a little", async () => {
    const made = await cached({ shared: true, staleIfErrorMs: 10_000 });
    await made.call("unary");
    made.state.down = true;
    made.clock.stepWall(-3_600_000);
    const { trailers } = await made.call("unary");
    expect(degradationOf(trailers)).toMatchObject([{ ageMs: 0 }]);
    made.clock.stepWall(3_600_000 + 5_000);
    expect((await made.call("unary")).code).toBe(Status.OK);
  });
});

describe("a stale cache whose store is away", () => {
  /** A store with a memory of its own, that can lose what it shares. */
  function shared() {
    const kept = new Map<string, Uint8Array>();
    const store = {
      away: false,
      get: (key: string) => kept.get(key),
      set: (key: string, value: Uint8Array) => void kept.set(key, value),
    };
    return { store, kept };
  }

  it("answers by what the store has in this process, and says so in its decision", async () => {
    const { store } = shared();
    const made = await cached({ shared: true, store });
    await made.call("unary");
    made.state.down = true;
    store.away = true;
    expect((await made.call("unary")).code).toBe(Status.OK);
    expect(made.decisions).toMatchObject([{ verdict: "fallback", reason: "STORE_AWAY" }]);
    expect(made.decisions[0]?.detail).toMatch(
      /^stale-cache, \d+ ms old, instead of UNAVAILABLE; from this process, the store is away$/,
    );
    expect(made.cache()).toMatchObject({ storeAway: true, storeFailures: 0 });
    store.away = false;
    expect((await made.call("unary")).code).toBe(Status.OK);
    expect(made.decisions.at(-1)?.reason).toBeUndefined();
    expect(made.cache().storeAway).toBe(false);
  });

  it("says so, too, of a fresh answer", async () => {
    const { store } = shared();
    const made = await cached({ shared: true, freshMs: 1_000, store });
    await made.call("unary");
    store.away = true;
    expect((await made.call("unary")).code).toBe(Status.OK);
    expect(made.state.calls).toBe(1);
    expect(made.decisions).toMatchObject([{ verdict: "fallback", reason: "STORE_AWAY" }]);
  });

  it.each<[string, AnswerCache]>([
    ["is away", { away: true, get: () => undefined, set: () => {} }],
    ["rejects", { get: () => Promise.reject(new Error("get")), set: () => {} }],
  ])("says so when there is no answer either, because the store %s", async (_how, store) => {
    const made = await cached({ shared: true, store }, { onError: () => {} });
    made.state.down = true;
    expect((await made.call("unary")).code).toBe(Status.UNAVAILABLE);
    expect(made.decisions).toMatchObject([
      { reason: "FALLBACK_UNANSWERED", detail: "stale-cache: nothing, the store is away" },
    ]);
    expect(made.cache().storeAway).toBe(true);
  });

  it("is back when the store takes an answer", async () => {
    let broken = true;
    const store: AnswerCache = {
      get: () => (broken ? Promise.reject(new Error("get")) : undefined),
      set: () => {},
    };
    const made = await cached({ shared: true, store }, { onError: () => {} });
    made.state.down = true;
    await made.call("unary");
    expect(made.cache().storeAway).toBe(true);
    made.state.down = broken = false;
    await made.call("unary");
    expect(made.cache().storeAway).toBe(false);
  });

  it("counts as there when the store cannot say, which is reported", async () => {
    const errors: unknown[] = [];
    const { store } = shared();
    Object.defineProperty(store, "away", {
      get: () => {
        throw new Error("away");
      },
    });
    const made = await cached(
      { shared: true, store },
      { onError: (error) => errors.push(String(error)) },
    );
    await made.call("unary");
    made.state.down = true;
    expect((await made.call("unary")).code).toBe(Status.OK);
    expect(made.decisions).toMatchObject([{ verdict: "fallback", detail: expect.any(String) }]);
    expect(errors).toContain("Error: away");
  });

  it("has no such number where the answers are in this process", async () => {
    const made = await cached({ shared: true });
    expect(made.cache()).not.toHaveProperty("storeAway");
  });
});

describe("a stale cache that has nothing to give", () => {
  it("does not ask the store for a caller without a name, and misses no answer", async () => {
    let asked = 0;
    const get = () => {
      asked += 1;
      return undefined;
    };
    const made = await cached({ vary: () => undefined, store: { get, set: () => {} } });
    made.state.down = true;
    expect((await made.call("unary")).code).toBe(Status.UNAVAILABLE);
    expect([asked, made.cache().missed]).toEqual([0, 0]);
  });

  it("counts a message that cannot be read as a failure of the store, and reports it", async () => {
    const errors: unknown[] = [];
    const bytes = encodeAnswer({ storedAtMs: 1_750_000_000_000, messages: [Buffer.from([0x0a])] });
    const made = await cached(
      { shared: true, store: { get: () => bytes, set: () => {} } },
      { onError: (error) => errors.push(error) },
    );
    made.state.down = true;
    expect((await made.call("unary")).code).toBe(Status.UNAVAILABLE);
    expect(made.cache()).toMatchObject({ missed: 1, storeFailures: 1 });
    expect(errors).toEqual([expect.any(Error)]);
  });

  it("is not asked about a failure that it is not for", async () => {
    const made = await cached({ shared: true, when: ({ code }) => code === Status.NOT_FOUND });
    await made.call("unary");
    made.state.down = true;
    expect((await made.call("unary")).code).toBe(Status.UNAVAILABLE);
    expect(made.cache()).toMatchObject({ stale: 0, missed: 0 });
  });
});

describe("the options of a stale cache", () => {
  it("accept the least", () => {
    const memory = { maxEntries: 1, maxBytes: 1 };
    const least = {
      shared: true,
      timeoutMs: 1,
      staleIfErrorMs: 1,
      freshMs: 0,
      maxResponseBytes: 1,
    };
    expect(staleCache({ ...least, shared: true, memory }).limits.timeoutMs).toBe(1);
  });

  it.each([
    [undefined, "staleCache must be an object with vary, or shared: true"],
    [{}, "staleCache.vary must be one of two"],
    [{ shared: true, vary: ["a"] }, "staleCache.vary must be one of two"],
    [{ shared: false }, "staleCache.shared must be true, or absent"],
    [{ vary: [] }, "staleCache.vary must be metadata keys, or a function"],
    [{ vary: ["no key"] }, "staleCache.vary"],
    [{ vary: "authorization" }, "staleCache.vary"],
    [{ shared: true, staleIfErrorMs: 0 }, "staleCache.staleIfErrorMs"],
    [{ shared: true, freshMs: -1 }, "staleCache.freshMs"],
    [{ shared: true, singleFlight: 1 }, "staleCache.singleFlight"],
    [{ shared: true, maxResponseBytes: 0 }, "staleCache.maxResponseBytes"],
    [{ shared: true, store: {} }, "staleCache.store must be a store with get() and set()"],
    [
      { shared: true, store: { get() {} } },
      "staleCache.store must be a store with get() and set()",
    ],
    [
      { shared: true, store: { set() {} } },
      "staleCache.store must be a store with get() and set()",
    ],
    [{ shared: true, store: memoryAnswerCache(), memory: {} }, "staleCache.memory must be absent"],
    [{ shared: true, memory: { maxBytes: 0 } }, "staleCache.memory.maxBytes"],
    [{ shared: true, ttl: 5 }, "staleCache.ttl is not an option"],
    [{ shared: true, name: "a b" }, "staleCache.name"],
  ])("refuse %#", (options, text) => {
    const build = () => staleCache(options as never);
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(text);
  });
});

describe("a stale cache that is an option of the fallback", () => {
  const answers = async (options: FallbackOptions) => {
    const { state, implementation } = counter();
    const { call, weir } = await scene({
      client: { retry: false, fallback: options },
      handlers: implementation,
    });
    await call("unary");
    state.down = true;
    const { code } = await call("unary");
    const { providers = {} } = weir.snapshot().policies.fallback?.instances[0] ?? {};
    const by = Object.entries(providers).filter(([, { answered }]) => answered > 0);
    return `${code} ${by.map(([name]) => name).join()}`;
  };

  it("answers a failed call, after the providers", async () => {
    const shared = { shared: true } as const;
    const none = staticValue({}, { name: "none", when: () => false });

    expect(await answers({ providers: [staleCache(shared)] })).toBe("0 stale-cache");
    expect(await answers({ staleCache: shared })).toBe("0 stale-cache");
    expect(await answers({ staleCache: shared, providers: [none] })).toBe("0 stale-cache");
    expect(await answers({ staleCache: shared, providers: [empty()] })).toBe("0 empty");
  });

  it("gives way to a stale cache among the providers", async () => {
    const mine = staleCache({ shared: true, name: "mine" });

    expect(await answers({ staleCache: { shared: true }, providers: [mine] })).toBe("0 mine");
  });

  it.each([
    ["client.fallback.staleCache.vary", { staleCache: {} }],
    ["client.fallback.staleCache.freshMs", { staleCache: { shared: true, freshMs: -1 } }],
    ["client.fallback.staleCache.store", { staleCache: { shared: true, store: {} } }],
    [
      "client.fallback.staleCache.name",
      { staleCache: { shared: true, name: "empty" }, providers: [empty()] },
    ],
    ["client.fallback.providers", {}],
  ])("is refused where it makes no sense: %s", (option, options) => {
    expect(() => createWeir().client({ fallback: options as FallbackOptions })).toThrow(
      expect.objectContaining({ option }),
    );
  });
});
