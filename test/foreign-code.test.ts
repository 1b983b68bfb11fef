import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { currentCall } from "../src/grpc/context/inbound-call.js";
import { decodeStatusDetails, rejectionOf } from "../src/grpc/status/rejection.js";
import type { ClientPolicy } from "../src/pipeline/client.js";
import type { ServerPolicy } from "../src/pipeline/server.js";
import { value } from "../src/policies/fallback/client-providers.js";
import { staleCache } from "../src/policies/fallback/stale-cache/client-cache.js";
import { handlers, kinds, type Method, scene, withResolvers } from "./scene.js";

/** A function of the user's that has gone wrong: typed as whatever is asked for. */
type Broken = () => never;

const revoked = () => {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
};

/** Answers that are none, whatever the question. */
const noAnswers: Readonly<Record<string, () => unknown>> = {
  throws: () => {
    throw new Error("broken");
  },
  rejects: async () => {
    throw new Error("broken");
  },
  "answers later": async () => true,
  "answers with a symbol": () => Symbol("x"),
  "answers with what cannot be looked at": revoked,
  "answers with an object": () => Object.create(null),
};

const bare = { retry: false, breaker: false } as const;

/** Where functions of the user's are asked while a call runs. */
const clientHooks: Readonly<Record<string, (hook: Broken) => ClientPolicy>> = {
  "breaker.key": (key) => ({ ...bare, breaker: { key } }),
  "breaker.outcome": (outcome) => ({ ...bare, breaker: { outcome } }),
  "throttle.key": (key) => ({ ...bare, throttle: { key } }),
  "rate.key": (key) => ({ ...bare, rate: { ratePerSecond: 10, key } }),
  "rate.cost": (cost) => ({ ...bare, rate: { ratePerSecond: 10, cost } }),
  "rate.store": (take) => ({ ...bare, rate: { ratePerSecond: 10, store: { take } } }),
  "bulkhead.key": (key) => ({ ...bare, bulkhead: { key } }),
  "bulkhead.weight": (weight) => ({ ...bare, bulkhead: { weight } }),
  "bulkhead.partition": (partition) => ({
    ...bare,
    bulkhead: { partitions: { a: { share: 0.5 } }, partition },
  }),
  "idempotencyKey.uuid": (uuid) => ({ ...bare, idempotencyKey: { uuid } }),
};

const serverHooks: Readonly<Record<string, (hook: Broken) => ServerPolicy>> = {
  "priority.trust": (trust) => ({ priority: { trust } }),
  "priority.cohort": (cohort) => ({ priority: { cohort } }),
  "quota.key": (key) => ({ quota: { ratePerSecond: 10, key } }),
  "quota.cost": (cost) => ({ quota: { ratePerSecond: 10, cost } }),
  "quota.store": (take) => ({ quota: { ratePerSecond: 10, store: { take } } }),
  "bulkhead.key": (key) => ({ bulkhead: { key } }),
  "bulkhead.weight": (weight) => ({ bulkhead: { weight } }),
  "bulkhead.partition": (partition) => ({
    bulkhead: { partitions: { a: { share: 0.5 } }, partition },
  }),
  "brownout.flag": (flag) => ({ brownout: { optional: { a: {} }, pressure: () => 0, flag } }),
  "brownout.pressure": (pressure) => ({ brownout: { optional: { a: {} }, pressure } }),
  "admission.pressure.signals": (mine) => ({ admission: { pressure: { signals: { mine } } } }),
  "admission.pressure.reader": (read) => ({ admission: { pressure: { reader: { read } } } }),
};

async function callWith(
  policies: { readonly client?: ClientPolicy; readonly server?: ServerPolicy },
  method: Method,
) {
  const told: unknown[] = [];
  const world = await scene({
    client: policies.client ?? bare,
    server: policies.server ?? {},
    onError: (error) => told.push(error),
    handlers: handlers((_call, answer) => {
      currentCall()?.shouldSkip("a");
      answer();
    }),
  });
  const ended = await world.call(method);
  await world.link.pass(10);
  await new Promise((resolve) => setImmediate(resolve));
  return { ended, told, world };
}

describe("a function of the user's that has no answer costs a call nothing, and is reported", () => {
  const cases = Object.keys(noAnswers).flatMap((how) => [
    ...Object.keys(clientHooks).map((hook) => ["client", hook, how] as const),
    ...Object.keys(serverHooks).map((hook) => ["server", hook, how] as const),
  ]);

  it.each(cases)("%s.%s %s", async (side, hook, how) => {
    const broken = (noAnswers[how] ?? expect.fail()) as Broken;
    for (const method of kinds) {
      const policies =
        side === "client"
          ? { client: clientHooks[hook]?.(broken) ?? bare }
          : { server: serverHooks[hook]?.(broken) ?? {} };
      const { ended, told, world } = await callWith(policies, method);
      expect([method, Status[ended.code], ended.error]).toEqual([method, "OK", undefined]);
      expect(world.weir.snapshot().waiting).toBe(0);
      expect(told.length).toBeGreaterThan(0);
    }
  });
});

describe("a store that names a time", () => {
  it.each([
    ["that no number of the wire holds", Number.MAX_VALUE],
    ["that never comes", Number.POSITIVE_INFINITY],
    ["beyond every duration", 2 ** 53],
    ["of a hair", 5e-324],
    ["before now", -1e300],
  ])("%s has the call refused, with a status", async (_what, retryAfterMs) => {
    for (const later of [false, true]) {
      const answer = { granted: false, retryAfterMs } as const;
      const store = { take: () => (later ? Promise.resolve(answer) : answer) };
      const limit = { ratePerSecond: 1, store };
      for (const policies of [{ client: { ...bare, rate: limit } }, { server: { quota: limit } }]) {
        const { ended, told } = await callWith(policies, "unary");
        expect(ended.code).toBe(Status.RESOURCE_EXHAUSTED);
        expect(rejectionOf(ended.error)?.reason).toBe("RATE_LIMIT_EXCEEDED");
        expect(told).toEqual([]);
        const { retryDelayMs } = decodeStatusDetails(ended.trailers);
        if (retryAfterMs > 1e12) expect(retryDelayMs).toBeUndefined();
        else expect(retryDelayMs).toSatisfy((ms: number) => ms > 0 && ms <= 300);
      }
    }
  });

  it("of now, again and again, is left alone between the questions", async () => {
    for (const later of [false, true]) {
      let asked = 0;
      const answer = { granted: false, retryAfterMs: 0 } as const;
      const store = {
        take: () => {
          asked += 1;
          return later ? Promise.resolve(answer) : answer;
        },
      };
      const { ended } = await callWith(
        { client: { ...bare, rate: { ratePerSecond: 1, maxWaitMs: 1_000, store } } },
        "unary",
      );
      expect(ended.code).toBe(Status.RESOURCE_EXHAUSTED);
      expect(asked).toBeGreaterThan(3);
      expect(asked).toBeLessThan(25);
    }
  });
});

describe("a provider of a fallback", () => {
  it("may promise with a thenable whose then returns nothing", async () => {
    const key = ["th", "en"].join("");
    const make = () => ({
      [key]: (on: (response: object) => void) => {
        queueMicrotask(() => on({ payload: Buffer.alloc(0), sequence: 9 }));
      },
    });
    const cached = new Map<string, Uint8Array>();
    const store = {
      get: (name: string) => ({
        [key]: (on: (bytes: Uint8Array | undefined) => void) => {
          queueMicrotask(() => on(cached.get(name)));
        },
      }),
      set: (name: string, bytes: Uint8Array) => {
        cached.set(name, bytes);
      },
    };
    for (const providers of [
      [value(make as never)],
      [staleCache({ shared: true, store: store as never })],
    ]) {
      let down = false;
      const world = await scene({
        client: { ...bare, fallback: { providers } },
        server: {},
        handlers: handlers((call, answer) => {
          if (down) call.fail({ code: Status.UNAVAILABLE, details: "down" });
          else answer();
        }),
      });
      expect((await world.call("unary")).code).toBe(Status.OK);
      down = true;
      expect((await world.call("unary")).code).toBe(Status.OK);
    }
  });
});

describe("a flag that asks whether to skip what it is the flag of", () => {
  it("is told no, once, and not asked for ever", async () => {
    let asked = 0;
    const { ended, told } = await callWith(
      {
        server: {
          brownout: {
            optional: { a: {}, b: {} },
            pressure: () => (currentCall()?.shouldSkip("b") === true ? 1 : 0),
            flag: (name) => {
              asked += 1;
              return currentCall()?.shouldSkip(name);
            },
          },
        },
      },
      "unary",
    );
    expect([ended.code, told, asked]).toEqual([Status.OK, [], 1]);
  });
});

describe("a call that is cancelled by whoever is told of a decision about it", () => {
  it.each<[string, ClientPolicy, boolean]>([
    ["a retry", { retry: { idempotent: true, maxAttempts: 4 }, breaker: false }, true],
    [
      "a hedge",
      { retry: { idempotent: true }, hedge: { delayMs: 10, maxAttempts: 3 }, breaker: false },
      false,
    ],
    ["a breaker that opens", { retry: false, breaker: { consecutiveFailures: 1 } }, true],
    ["a wait in a queue", { ...bare, bulkhead: { maxConcurrent: 1 } }, false],
    ["a wait for tokens", { ...bare, rate: { ratePerSecond: 1, maxWaitMs: 5_000 } }, false],
    [
      "a fallback",
      {
        ...bare,
        fallback: { providers: [value(() => undefined), value(() => undefined, { name: "two" })] },
      },
      true,
    ],
    ["an attempt that takes too long", { ...bare, timeouts: { attemptMs: 20 } }, false],
  ])("%s ends once, and leaves nothing behind", async (_what, policy, fails) => {
    for (const method of ["unary", "serverStream"] as const) {
      let cancel = () => {};
      let armed = false;
      const world = await scene({
        client: policy,
        server: {},
        onError: () => {},
        handlers: handlers((call, answer) => {
          if (fails) call.fail({ code: Status.UNAVAILABLE, details: "down" });
          else world.clock.schedule(200, answer);
        }),
        ownClient: {},
      });
      const { push } = world.decisions;
      world.decisions.push = (...told) => {
        if (armed) cancel();
        return push.apply(world.decisions, told);
      };
      const before = world.start(method);
      armed = true;
      const running = world.start(method);
      cancel = running.cancel;
      const ended = await world.link.until(running.ended, 1e6);
      armed = false;
      expect([Status.CANCELLED, Status.UNAVAILABLE, Status.OK, Status.DEADLINE_EXCEEDED]).toContain(
        ended.code,
      );
      await world.link.until(before.ended, 1e6);
      await world.link.pass(10_000);
      expect(world.weir.snapshot().waiting).toBe(0);
      const pending = withResolvers<void>();
      world.clock.schedule(1, () => pending.resolve());
      await world.link.until(pending.promise, 1e6);
    }
  });
});
