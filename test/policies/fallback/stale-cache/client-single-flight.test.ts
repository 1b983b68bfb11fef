import { AsyncLocalStorage } from "node:async_hooks";
import { EventEmitter } from "node:events";
import { InterceptingCall, type Interceptor, Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { RefusalReason } from "../../../../src/core/decision.js";
import { refusal } from "../../../../src/core/permit.js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../../src/gen/weir/v1/conformance.js";
import type { KeyedCall } from "../../../../src/grpc/client/policy.js";
import { localRejection, rejectionOf } from "../../../../src/grpc/status/rejection.js";
import { serverRejection } from "../../../../src/grpc/status/server-rejection.js";
import type { MethodPolicy } from "../../../../src/pipeline/client.js";
import { fallback } from "../../../../src/policies/fallback/client.js";
import { staticValue } from "../../../../src/policies/fallback/client-providers.js";
import { staleCache } from "../../../../src/policies/fallback/stale-cache/client-cache.js";
import { failedForOpener } from "../../../../src/policies/fallback/stale-cache/client-single-flight.js";
import { seededRandom } from "../../../../src/testing/clock/seeded-random.js";
import { inMemoryTransport } from "../../../../src/testing/in-memory/in-memory.js";
import { forSeeds } from "../../../replay.js";
import { echo, type SceneOptions, withResolvers } from "../../../scene.js";
import { fallbackScene, message, within } from "../client-scene.js";

/** A service that answers when it is told to, and knows who has been cancelled. */
function held() {
  const calls: {
    readonly priority: unknown;
    readonly metadata: Metadata;
    readonly answer: (sequence: number) => void;
    readonly fail: (code: Status) => void;
    cancelled: boolean;
  }[] = [];
  const implementation: ConformanceServiceServer = {
    ...echo,
    unary(call, callback) {
      let done = false;
      const entry = {
        priority: call.metadata.get("x-request-priority")[0],
        metadata: call.metadata,
        answer: (sequence: number) => {
          done = true;
          callback(null, { payload: Buffer.from("abc"), sequence });
        },
        fail: (code: Status) => {
          done = true;
          callback({ code, details: "failed for all" });
        },
        cancelled: false,
      };
      call.on("cancelled", () => {
        entry.cancelled = !done;
      });
      calls.push(entry);
    },
  };
  return { calls, implementation };
}

async function flights(
  options: { readonly singleFlight?: boolean } = {},
  more: SceneOptions = {},
  policies: MethodPolicy = {},
) {
  const server = held();
  const made = await fallbackScene(
    { reserveMs: 0, providers: [staleCache({ shared: true, ...options })] },
    { handlers: server.implementation, ...more },
    policies,
  );
  return { ...made, calls: server.calls, cache: () => made.numbers().cache };
}

it("a failure concerns the first caller alone where it is about who calls", () => {
  const remote = (code: Status) => ({ code, details: "", metadata: new Metadata() });
  const local = (reason: RefusalReason) => localRejection(refusal(reason, "refused"));
  for (const [status, expected] of [
    [remote(Status.UNAUTHENTICATED), true],
    [remote(Status.PERMISSION_DENIED), true],
    [remote(Status.UNAVAILABLE), false],
    [remote(Status.RESOURCE_EXHAUSTED), false],
    [local("RATE_LIMIT_EXCEEDED"), true],
    [local("BREAKER_OPEN"), true],
    [local("ATTEMPT_TIMEOUT"), false],
    [local("DEADLINE_EXCEEDED"), false],
    [local("CLOSED"), false],
    [serverRejection(refusal("RATE_LIMIT_EXCEEDED", "refused")), true],
    [serverRejection(refusal("LOAD_SHED", "refused")), false],
  ] as const) {
    expect([status.details, status.code, failedForOpener(status)]).toEqual([
      status.details,
      status.code,
      expected,
    ]);
  }
});

describe("calls that are alike", () => {
  it("share one call on the wire, and have a message each", async () => {
    const made = await flights();
    const all = [1, 2, 3].map(() => {
      const ended = withResolvers<object>();
      made.client.unary(message(3), (_error, response) => ended.resolve(response ?? {}));
      return ended.promise;
    });
    await made.link.pass(10);
    expect(made.calls).toHaveLength(1);
    expect(made.cache()).toMatchObject({ flights: 1, shared: 2 });
    made.calls[0]?.answer(7);
    const responses = await made.link.until(Promise.all(all), 1e6);
    expect(responses).toMatchObject([{ sequence: 7 }, { sequence: 7 }, { sequence: 7 }]);
    expect(new Set(responses).size).toBe(3);
    const [first, second] = responses as { payload: Buffer }[];
    first?.payload.fill(0);
    expect(second?.payload.toString()).toBe("abc");
    expect(made.cache()).toMatchObject({ flights: 0, stored: 1 });
    expect(made.decisions).toMatchObject([
      { verdict: "queue", detail: "shared a call that was in flight" },
      { verdict: "queue" },
    ]);
  });

  it("have trailers of their own: what one of them does to these, the others do not see", async () => {
    const made = await flights();
    const heard = [1, 2, 3].map(() => {
      const seen = withResolvers<unknown>();
      made.client
        .unary(message(3), () => {})
        .on("status", ({ metadata }) => {
          seen.resolve(metadata.get("seen"));
          metadata.set("seen", "yes");
        });
      return seen.promise;
    });
    await made.link.pass(10);
    made.calls[0]?.answer(7);
    expect(await made.link.until(Promise.all(heard), 1e6)).toEqual([[], [], []]);
  });

  it("have the headers of the response each", async () => {
    const made = await flights(
      {},
      {
        handlers: {
          ...echo,
          unary: (call, callback) => {
            const headers = new Metadata();
            headers.set("from", "service");
            call.sendMetadata(headers);
            made.clock.schedule(50, () => callback(null, call.request));
          },
        },
      },
    );
    const heard = [1, 2].map(() => {
      const headers = withResolvers<unknown>();
      made.client
        .unary(message(3), () => {})
        .on("metadata", (metadata) => headers.resolve(metadata.get("from")));
      return headers.promise;
    });
    expect(await made.link.until(Promise.all(heard), 1e6)).toEqual([["service"], ["service"]]);
    expect(made.cache()).toMatchObject({ shared: 1 });
  });

  it("each have one of their own when that is switched off", async () => {
    const made = await flights({ singleFlight: false });
    const both = [made.start("unary"), made.start("unary")];
    await made.link.pass(10);
    expect(made.calls).toHaveLength(2);
    for (const call of made.calls) call.answer(1);
    await made.link.until(Promise.all(both.map(({ ended }) => ended)), 1e6);
  });

  it("share a failure, which is recognizable for each", async () => {
    const made = await flights({}, {}, { breaker: { consecutiveFailures: 1, failureRate: false } });
    const both = [made.start("unary"), made.start("unary")];
    await made.link.pass(10);
    made.calls[0]?.fail(Status.UNAVAILABLE);
    const ends = await made.link.until(Promise.all(both.map(({ ended }) => ended)), 1e6);
    expect(ends.map(({ details }) => details)).toEqual(["failed for all", "failed for all"]);
    const refused = [made.start("unary"), made.start("unary")];
    const reasons = await made.link.until(Promise.all(refused.map(({ ended }) => ended)), 1e6);
    expect(reasons.map(({ error }) => rejectionOf(error)?.reason)).toEqual([
      "BREAKER_OPEN",
      "BREAKER_OPEN",
    ]);
    expect(made.calls).toHaveLength(1);
  });

  it("are retried as one", async () => {
    const made = await flights({}, {}, { retry: { maxAttempts: 2, idempotent: true } });
    const both = [made.start("unary"), made.start("unary")];
    await made.link.pass(10);
    made.calls[0]?.fail(Status.UNAVAILABLE);
    await made.link.pass(2_000);
    expect(made.calls).toHaveLength(2);
    made.calls[1]?.answer(4);
    const ends = await made.link.until(Promise.all(both.map(({ ended }) => ended)), 1e6);
    expect(ends.map(({ received }) => received)).toEqual([[4], [4]]);
  });

  it.each([0, 1])("go on for the others when number %i leaves", async (leaver) => {
    const made = await flights();
    const both = [made.start("unary"), made.start("unary")];
    await made.link.pass(10);
    both[leaver]?.cancel();
    await made.link.pass(10);
    expect(made.calls[0]?.cancelled).toBe(false);
    made.calls[0]?.answer(5);
    const ends = await made.link.until(Promise.all(both.map(({ ended }) => ended)), 1e6);
    expect(ends.map(({ code }) => code)).toEqual(
      leaver === 0 ? [Status.CANCELLED, Status.OK] : [Status.OK, Status.CANCELLED],
    );
  });

  it("are cancelled on the wire when the last has left, and then begin anew", async () => {
    const made = await flights();
    const both = [made.start("unary"), made.start("unary")];
    await made.link.pass(10);
    for (const { cancel } of both) cancel();
    const late = made.start("unary");
    await made.link.pass(10);
    expect(made.calls.map(({ cancelled }) => cancelled)).toEqual([true, false]);
    made.calls[1]?.answer(2);
    expect((await made.link.until(late.ended, 1e6)).received).toEqual([2]);
    expect(made.cache()).toMatchObject({ flights: 0 });
  });

  it("end at the deadline of each, and go on for who has more time", async () => {
    const made = await flights();
    const short = made.start("unary", within(made, 100));
    await made.link.pass(50);
    const longer = made.start("unary", within(made, 100));
    await made.link.pass(75);
    expect((await made.link.until(short.ended, 1e6)).code).toBe(Status.DEADLINE_EXCEEDED);
    expect(made.calls.map(({ cancelled }) => cancelled)).toEqual([false]);
    made.calls[0]?.answer(6);
    expect((await made.link.until(longer.ended, 1e6)).received).toEqual([6]);
  });

  it("do not take along who would wait longer than the call lasts", async () => {
    const made = await flights();
    const short = made.start("unary", within(made, 100));
    const patient = made.start("unary");
    const alike = made.start("unary");
    await made.link.pass(10);
    expect(made.calls).toHaveLength(2);
    for (const call of made.calls) call.answer(1);
    const all = [short, patient, alike].map(({ ended }) => ended);
    await made.link.until(Promise.all(all), 1e6);
    expect(made.cache()).toMatchObject({ flights: 0, shared: 1 });
  });

  it("do not make an urgent call wait for one that is not", async () => {
    const made = await flights();
    const low = made.start("unary", made.weir.with({}, { priority: "low" }));
    const critical = made.start("unary", made.weir.with({}, { priority: "critical" }));
    await made.link.pass(10);
    expect(made.calls.map(({ priority }) => priority)).toEqual(["low", "critical"]);
    for (const call of made.calls) call.answer(1);
    await made.link.until(Promise.all([low.ended, critical.ended]), 1e6);
  });

  it("are retried for who is not retried above, whoever asked first", async () => {
    const made = await flights({}, {}, { retry: { maxAttempts: 2, idempotent: true } });
    const above = (depth: number) => {
      const metadata = new Metadata();
      metadata.set("x-weir-retry-depth", String(depth));
      return made.start("unary", {}, metadata);
    };
    const first = above(2);
    const honest = [made.start("unary"), made.start("unary")];
    // Who says so of itself may have what others have: that is no more work for anybody.
    const joined = above(1);
    await made.link.pass(10);
    expect(made.calls.map(({ metadata }) => metadata.get("x-weir-retry-depth"))).toEqual([
      ["2"],
      [],
    ]);
    for (const call of made.calls) call.fail(Status.UNAVAILABLE);
    await made.link.pass(2_000);
    for (const call of made.calls.slice(2)) call.answer(4);
    const ends = await made.link.until(
      Promise.all([...honest, joined].map(({ ended }) => ended)),
      1e6,
    );
    expect(ends.map(({ received }) => received)).toEqual([[4], [4], [4]]);
    await made.link.until(first.ended, 1e6);
  });

  it("are sent without what the first caller says of itself alone", async () => {
    const made = await flights();
    const metadata = new Metadata();
    metadata.set("x-request-cohort", "0");
    metadata.set("grpc-previous-rpc-attempts", "4");
    metadata.set("x-trace", "1");
    const { ended } = made.start("unary", {}, metadata);
    await made.link.pass(10);
    const sent = made.calls[0]?.metadata;
    expect(sent?.get("x-request-cohort")).toEqual([]);
    expect(sent?.get("grpc-previous-rpc-attempts")).toEqual([]);
    expect(sent?.get("x-trace")).toEqual(["1"]);
    expect(metadata.get("x-request-cohort")).toEqual(["0"]);
    made.calls[0]?.answer(1);
    await made.link.until(ended, 1e6);
  });

  it.each([Status.UNAUTHENTICATED, Status.PERMISSION_DENIED])(
    "ask for themselves when the first caller may not, code %i",
    async (code) => {
      const made = await flights();
      const all = [1, 2, 3].map(() => made.start("unary"));
      await made.link.pass(10);
      made.calls[0]?.fail(code);
      await made.link.pass(10);
      expect(made.calls).toHaveLength(3);
      for (const [index, call] of made.calls.slice(1).entries()) call.answer(index + 5);
      const ends = await made.link.until(Promise.all(all.map(({ ended }) => ended)), 1e6);
      expect(ends.map((end) => [end.code, end.received])).toEqual([
        [code, []],
        [Status.OK, [5]],
        [Status.OK, [6]],
      ]);
      expect(made.cache()).toMatchObject({ flights: 0, stored: 2 });
      expect(made.link.inFlight()).toBe(0);
      expect(made.clock.pending.refs).toBe(0);
    },
  );

  it("ask for themselves when a policy that goes by the caller has refused the first", async () => {
    const key = ({ metadata }: KeyedCall) => String(metadata.get("x-tenant")[0]);
    const made = await flights({}, {}, { rate: { ratePerSecond: 0.001, maxWaitMs: 0, key } });
    const as = (name: string) => {
      const metadata = new Metadata();
      metadata.set("x-tenant", name);
      return made.start("unary", {}, metadata);
    };
    const spent = as("a");
    await made.link.pass(10);
    made.calls[0]?.answer(1);
    await made.link.until(spent.ended, 1e6);
    const both = [as("a"), as("b")];
    await made.link.pass(10);
    made.calls[1]?.answer(2);
    const ends = await made.link.until(Promise.all(both.map(({ ended }) => ended)), 1e6);
    // The first one has what is stored.
    expect(ends.map(({ received }) => received)).toEqual([[1], [2]]);
  });

  it("fail together where they are one caller's", async () => {
    const server = held();
    const made = await fallbackScene(
      { reserveMs: 0, providers: [staleCache({ vary: ["authorization"] })] },
      { handlers: server.implementation },
    );
    const both = [made.start("unary"), made.start("unary")];
    await made.link.pass(10);
    server.calls[0]?.fail(Status.UNAUTHENTICATED);
    const ends = await made.link.until(Promise.all(both.map(({ ended }) => ended)), 1e6);
    expect(ends.map(({ code }) => code)).toEqual([Status.UNAUTHENTICATED, Status.UNAUTHENTICATED]);
    expect(server.calls).toHaveLength(1);
  });

  it("have their fallback each", async () => {
    const server = held();
    const made = await fallbackScene(
      { reserveMs: 50, providers: [staleCache({ shared: true }), staticValue(message(9))] },
      { handlers: server.implementation },
    );
    const short = made.start("unary", within(made, 150));
    const longer = made.start("unary", within(made, 250));
    expect((await made.link.until(short.ended, 1e6)).received).toEqual([9]);
    expect(server.calls.map(({ cancelled }) => cancelled)).toEqual([false]);
    expect((await made.link.until(longer.ended, 1e6)).received).toEqual([9]);
    await made.link.pass(10);
    expect(server.calls.map(({ cancelled }) => cancelled)).toEqual([true]);
    expect(made.link.inFlight()).toBe(0);
  });

  it("show the breaker that their service did not answer in time, when the last has gone", async () => {
    const server = held();
    const made = await fallbackScene(
      { reserveMs: 50, providers: [staleCache({ shared: true }), staticValue(message(9))] },
      { handlers: server.implementation },
      {
        breaker: {
          consecutiveFailures: 1,
          // A cold client would take a short deadline for the caller's affair.
          outcome: ({ code }) => (code === Status.DEADLINE_EXCEEDED ? "failure" : undefined),
        },
      },
    );
    const both = [100, 150].map((ms) => made.start("unary", within(made, ms)));
    await made.link.until(Promise.all(both.map(({ ended }) => ended)), 1e6);
    await made.link.pass(5);
    expect((await made.call("unary")).received).toEqual([9]);
    expect(server.calls).toHaveLength(1);
    expect(made.decisions).toMatchObject(
      expect.arrayContaining([expect.objectContaining({ reason: "BREAKER_OPEN" })]),
    );
  });

  it("keep the answer from the others when the listener of one throws", async () => {
    const made = await flights();
    const errors: unknown[] = [];
    const uncaught = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.on("uncaughtException", (error) => errors.push(error));
    try {
      made.client.unary(message(3), () => {
        throw new Error("a caller's own");
      });
      const other = made.start("unary");
      await made.link.pass(10);
      made.calls[0]?.answer(1);
      expect((await made.link.until(other.ended, 1e6)).code).toBe(Status.OK);
    } finally {
      process.removeAllListeners("uncaughtException");
      for (const listener of uncaught) process.on("uncaughtException", listener);
    }
    expect(errors.map(String)).toEqual(["Error: a caller's own"]);
  });
});

/** Callers of three tenants come, wait, leave and run out of time, before a service that is slow or fails. */
async function world(seed: number): Promise<Readonly<Record<"callers" | "served", number>>> {
  const random = seededRandom(seed);
  const upTo = (max: number) => Math.floor(random() * max);
  let served = 0;
  const made = await fallbackScene(
    { reserveMs: 0, providers: [staleCache({ vary: ["tenant"], staleIfErrorMs: 1 })] },
    {
      seed,
      handlers: {
        ...echo,
        unary(call, callback) {
          served += 1;
          const fails = random() < 0.2;
          made.clock.schedule(upTo(60), () => {
            if (fails) callback({ code: Status.UNAVAILABLE, details: "down" });
            else callback(null, { ...message(call.request.sequence), payload: tenantOf(call) });
          });
        },
      },
    },
  );
  const tenantOf = ({ metadata }: { metadata: Metadata }) =>
    Buffer.from(String(metadata.get("tenant")[0]));
  const results: Promise<string | undefined>[] = [];
  const callers = 4 + upTo(12);
  for (let index = 0; index < callers; index += 1) {
    await made.link.pass(upTo(15));
    const tenant = ["a", "b", "c"][upTo(3)] ?? "a";
    const sequence = 1 + upTo(2);
    const metadata = new Metadata();
    metadata.set("tenant", tenant);
    const withinMs = random() < 0.5 ? 5 + upTo(80) : Number.POSITIVE_INFINITY;
    const leavesMs = random() < 0.3 ? upTo(50) : undefined;
    const startMs = made.clock.now();
    const options =
      withinMs === Number.POSITIVE_INFINITY ? {} : { deadline: made.clock.wallNow() + withinMs };
    let left = false;
    let ends = 0;
    results.push(
      new Promise((resolve) => {
        const call = made.client.unary(message(sequence), metadata, options, (error, response) => {
          ends += 1;
          const tookMs = made.clock.now() - startMs;
          if (ends > 1) resolve("ended twice");
          else if (error === null) {
            const own = String(response?.payload) === tenant && response?.sequence === sequence;
            resolve(own ? undefined : `${tenant} ${sequence} got ${String(response?.payload)}`);
          } else if (error.code === Status.CANCELLED) {
            resolve(left ? undefined : "cancelled by somebody else");
          } else if (error.code === Status.DEADLINE_EXCEEDED) {
            resolve(tookMs >= withinMs - 1 ? undefined : `out of time after ${tookMs} ms`);
          } else resolve(error.details === "down" ? undefined : error.message);
        });
        if (leavesMs === undefined) return;
        made.clock.schedule(leavesMs, () => {
          left = true;
          call.cancel();
        });
      }),
    );
  }
  const wrong = (await made.link.until(Promise.all(results), 1e6)).filter(
    (each) => each !== undefined,
  );
  expect({ seed, wrong }).toEqual({ seed, wrong: [] });
  await made.link.pass(2_000);
  expect(served).toBeLessThanOrEqual(callers);
  expect({ seed, ...made.numbers().cache }).toMatchObject({ seed, flights: 0 });
  expect(made.provider("stale-cache")).toMatchObject({ running: 0 });
  expect([seed, made.link.inFlight(), made.clock.pending.refs]).toEqual([seed, 0, 0]);
  return { callers, served };
}

it("races of many callers end each once, with an answer of its own, and leave nothing", async () => {
  let joined = 0;
  const seeds = Array.from({ length: 30 }, (_, index) => index + 1);
  await forSeeds(seeds, async (seed) => {
    const { callers, served } = await world(seed);
    joined += callers - served;
  });
  expect(joined).toBeGreaterThan(30);
});

it("a caller who joined has the answer in its own async context, without a weir too", async () => {
  const storage = new AsyncLocalStorage<string>();
  const { calls, implementation } = held();
  const transport = inMemoryTransport();
  const { clock } = transport;
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation,
    clientOptions: {
      interceptors: [fallback({ clock, providers: [staleCache({ shared: true })] })],
    },
    serverInterceptors: [],
  });
  const client = link.client(ConformanceServiceClient);
  const both = ["first", "second"].map((name) =>
    storage.run(
      name,
      () =>
        new Promise<string>((resolve) => {
          client.unary(message(1), () => resolve(`${name} in ${storage.getStore()}`));
        }),
    ),
  );
  await link.pass(10);
  expect(calls).toHaveLength(1);
  calls[0]?.answer(1);
  const seen = await link.until(Promise.all(both), 1e6);
  expect(seen).toEqual(["first in first", "second in second"]);
});

it("a shared call that breaks while it is sent is cancelled below, and fails for all who wait", async () => {
  const { calls, implementation } = held();
  const transport = inMemoryTransport();
  const { clock } = transport;
  /** Lets the call start, and throws when the request is sent. */
  const broken: Interceptor = (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      sendMessage: () => {
        throw new Error("broken");
      },
    });
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation,
    clientOptions: {
      interceptors: [fallback({ clock, providers: [staleCache({ shared: true })] }), broken],
    },
    serverInterceptors: [],
  });
  const client = link.client(ConformanceServiceClient);
  const both = [1, 2].map(
    () =>
      new Promise((resolve) => {
        client.unary(message(1), (error) => resolve(error?.code));
      }),
  );
  expect(await link.until(Promise.all(both), 1e6)).toEqual([Status.INTERNAL, Status.INTERNAL]);
  await link.pass(10);
  expect(calls).toEqual([]);
  expect(link.inFlight()).toBe(0);
});

it("a call that follows a parent by itself ends with that, and with nobody else's", async () => {
  const { calls, implementation } = held();
  const transport = inMemoryTransport();
  const { clock } = transport;
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation,
    clientOptions: {
      interceptors: [fallback({ clock, providers: [staleCache({ shared: true })] })],
    },
    serverInterceptors: [],
  });
  const client = link.client(ConformanceServiceClient);
  const parent = Object.assign(new EventEmitter(), { getDeadline: () => Infinity });
  const call = (options: object) =>
    new Promise((resolve) => {
      client.unary(message(1), new Metadata(), options, (error) => resolve(error?.code ?? 0));
    });
  const ends = [call({ parent }), call({}), call({})];
  await link.pass(10);
  expect(calls).toHaveLength(2);
  parent.emit("cancelled");
  calls[1]?.answer(1);
  expect(await link.until(Promise.all(ends), 1e6)).toEqual([Status.CANCELLED, 0, 0]);
});

it("a call that waits for a connection shares none that fails without one", async () => {
  const { client, calls, link } = await flights();
  const call = (metadata: Metadata) =>
    new Promise((resolve) => {
      client.unary(message(1), metadata, (error) => resolve(error?.code ?? 0));
    });
  const patient = () => new Metadata({ waitForReady: true });
  const ends = [call(new Metadata()), call(patient()), call(patient()), call(new Metadata())];
  await link.pass(10);
  expect(calls).toHaveLength(2);
  for (const { answer } of calls) answer(1);
  expect(await link.until(Promise.all(ends), 1e6)).toEqual([0, 0, 0, 0]);
});
