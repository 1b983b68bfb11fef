import {
  Metadata,
  ServerInterceptingCall,
  type ServerInterceptor,
  status as Status,
} from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { readPushback } from "../../../src/grpc/metadata.js";
import { decodeStatusDetails, rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { IdempotencyPolicyOptions } from "../../../src/policies/idempotency/server.js";
import { quota as quotaInterceptor } from "../../../src/policies/rate-limit/server.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { createWeir } from "../../../src/weir.js";
import { type Ended, kinds, path } from "../../scene.js";
import { FaultyStore, keyedScene, memoryStore, type Run, unary } from "./server-scene.js";

const ok = (run: Run) => run.ok();

/** Options as a user of JavaScript may give them. */
function untyped(options: object): Partial<IdempotencyPolicyOptions> {
  return options;
}

function reasonOf({ error }: Ended): string | undefined {
  return rejectionOf(error)?.reason;
}

function marks({ trailers }: Ended): readonly unknown[] {
  return [trailers.get("x-weir-idempotency")[0], trailers.get("x-weir-replayed")[0]];
}

describe("a call with an idempotency key", () => {
  it("runs once, and later calls with the key get its answer", async () => {
    const { ask, runs, decisions, weir, clock } = await keyedScene({ atOnce: ok });
    const first = await ask("a");
    expect(first).toMatchObject({ code: Status.OK, received: [101] });
    expect(marks(first)).toEqual(["honoured", undefined]);
    expect(decisions).toEqual([]);
    const second = await ask("a");
    expect(second).toMatchObject({ code: Status.OK, received: [101] });
    expect(marks(second)).toEqual(["honoured", "true"]);
    expect(runs).toHaveLength(1);
    expect(decisions).toMatchObject([
      { policy: "idempotency", verdict: "replay", enforced: true, detail: "from the store" },
    ]);
    expect(weir.policy("idempotency").snapshot()).toMatchObject([
      { running: 0, waiting: 0, started: 1, replayed: 1, memory: { answers: 1, running: 0 } },
    ]);
    expect(clock.pending.refs).toBe(0);
  });

  it("with another key runs by itself", async () => {
    const { ask, runs } = await keyedScene({ atOnce: ok });
    expect((await ask("a")).received).toEqual([101]);
    expect((await ask("b")).received).toEqual([102]);
    expect(runs).toHaveLength(2);
  });

  it("gets the whole answer again: message, initial metadata, trailers, text and details", async () => {
    const headers = new Metadata();
    headers.set("x-head", "h");
    headers.add("x-many", "1");
    headers.add("x-many", "2");
    const trailers = new Metadata();
    trailers.set("x-tail-bin", Buffer.from([0, 255, 7]));
    const { send, link } = await keyedScene({
      atOnce: ({ grpcCall, answer }) => {
        grpcCall.sendMetadata(headers);
        answer(null, { payload: Buffer.from("body"), sequence: 9 }, trailers);
      },
    });
    for (const replayed of [undefined, "true"]) {
      const call = send("a");
      const ended = await link.until(call.ended);
      expect(ended).toMatchObject({ code: Status.OK, received: [9] });
      expect(call.headers()?.get("x-head")).toEqual(["h"]);
      expect(call.headers()?.get("x-many")).toEqual(["1", "2"].length === 2 ? ["1, 2"] : []);
      expect(call.headers()?.get("x-weir-replayed")[0]).toBe(replayed);
      expect(ended.trailers.get("x-tail-bin")).toEqual([Buffer.from([0, 255, 7])]);
    }
  });

  it("that failed for good fails again in the same way", async () => {
    const trailers = new Metadata();
    trailers.set("x-why", "because");
    const { ask, runs } = await keyedScene({
      atOnce: (run) => run.fail(Status.FAILED_PRECONDITION, "out of stock", trailers),
    });
    for (const replayed of [undefined, "true"]) {
      const ended = await ask("a");
      expect(ended).toMatchObject({ code: Status.FAILED_PRECONDITION, details: "out of stock" });
      expect(ended.trailers.get("x-why")).toEqual(["because"]);
      expect(marks(ended)).toEqual(["honoured", replayed]);
    }
    expect(runs).toHaveLength(1);
  });

  const released = [
    Status.CANCELLED,
    Status.DEADLINE_EXCEEDED,
    Status.RESOURCE_EXHAUSTED,
    Status.ABORTED,
    Status.UNAVAILABLE,
    Status.UNAUTHENTICATED,
  ];

  it.each(Array.from({ length: 16 }, (_, index) => index + 1))(
    "that failed with code %i runs again only where another try may do better",
    async (code) => {
      const { ask, runs } = await keyedScene({ atOnce: (run) => run.fail(code) });
      const first = await ask("a");
      expect(first.code).toBe(code);
      expect(marks(first)).toEqual(["honoured", undefined]);
      expect((await ask("a")).code).toBe(code);
      expect(runs).toHaveLength(released.includes(code) ? 2 : 1);
    },
  );

  it("is stored by codes, or by a function of the status", async () => {
    const codes = await keyedScene({
      idempotency: { stores: [Status.UNAVAILABLE] },
      atOnce: (run) => (run.sequence === 1 ? run.fail(Status.UNAVAILABLE) : run.ok()),
    });
    for (const key of ["a", "a"]) await codes.ask(key);
    expect(codes.runs).toHaveLength(1);
    for (const key of ["b", "b"]) await codes.ask(key, { sequence: 2 });
    expect(codes.runs).toHaveLength(3);

    const byText = await keyedScene({
      idempotency: { stores: ({ details }) => details === "keep" },
      atOnce: (run) => run.fail(Status.UNAVAILABLE, run.sequence === 1 ? "keep" : "drop"),
    });
    for (const key of ["a", "a"]) await byText.ask(key);
    expect(byText.runs).toHaveLength(1);
    for (const key of ["b", "b"]) await byText.ask(key, { sequence: 2 });
    expect(byText.runs).toHaveLength(3);
  });

  it("is stored when the function that decides about it throws", async () => {
    const errors: unknown[] = [];
    const { ask, runs } = await keyedScene({
      idempotency: {
        stores() {
          throw new Error("no idea");
        },
      },
      atOnce: ok,
      onError: (error) => errors.push(error),
    });
    for (const key of ["a", "a"]) expect((await ask(key)).code).toBe(Status.OK);
    expect(runs).toHaveLength(1);
    expect(errors).toEqual([new Error("no idea")]);
  });

  it("is kept for ttlMs", async () => {
    const { ask, runs, clock } = await keyedScene({ idempotency: { ttlMs: 5_000 }, atOnce: ok });
    await ask("a");
    await clock.pass(4_900);
    expect((await ask("a")).received).toEqual([101]);
    await clock.pass(200);
    expect((await ask("a")).received).toEqual([102]);
    expect(runs).toHaveLength(2);
  });
});

describe("a key", () => {
  it.each([
    ["missing", undefined, "IDEMPOTENCY_KEY_MISSING"],
    ["too long", "x".repeat(33), "IDEMPOTENCY_KEY_INVALID"],
  ])("that is %s ends the call with INVALID_ARGUMENT", async (_, key, reason) => {
    const { ask, runs } = await keyedScene({ idempotency: { maxKeyLength: 32 }, atOnce: ok });
    const ended = await ask(key);
    expect(ended.code).toBe(Status.INVALID_ARGUMENT);
    expect(reasonOf(ended)).toBe(reason);
    expect(rejectionOf(ended.error)).toMatchObject({ local: false, hops: 0 });
    expect(runs).toHaveLength(0);
  });

  it("as long as maxKeyLength is taken", async () => {
    const { ask } = await keyedScene({ idempotency: { maxKeyLength: 32 }, atOnce: ok });
    expect((await ask("x".repeat(32))).code).toBe(Status.OK);
  });

  it("longer than any key is invalid, without maxKeyLength too", async () => {
    const { ask } = await keyedScene({ atOnce: ok });
    expect((await ask("x".repeat(255))).code).toBe(Status.OK);
    expect(reasonOf(await ask("x".repeat(256)))).toBe("IDEMPOTENCY_KEY_INVALID");
  });

  it("that is optional may be left out, and the call runs as without the policy", async () => {
    const { ask, runs, weir } = await keyedScene({ idempotency: { key: "optional" }, atOnce: ok });
    for (const key of [undefined, undefined]) {
      const ended = await ask(key);
      expect(ended.code).toBe(Status.OK);
      expect(marks(ended)).toEqual([undefined, undefined]);
    }
    expect(runs.map(({ call }) => call?.idempotency)).toEqual([undefined, undefined]);
    await ask("a");
    await ask("a");
    expect(runs).toHaveLength(3);
    expect(weir.policy("idempotency").snapshot()).toMatchObject([{ started: 1, replayed: 1 }]);
  });

  it("may be derived from the request", async () => {
    const { ask, runs } = await keyedScene({
      idempotency: {
        key: (request) => {
          const { sequence } = request as { sequence: number };
          return sequence === 0 ? undefined : `order ${sequence}`;
        },
      },
      atOnce: ok,
    });
    for (const sequence of [1, 1, 2]) await ask(undefined, { sequence });
    expect(runs.map(({ call }) => call?.idempotency?.key)).toEqual(["order 1", "order 2"]);
    for (const sequence of [0, 0]) await ask(undefined, { sequence });
    expect(runs).toHaveLength(4);
  });

  it.each([
    [
      "throws",
      () => {
        throw new Error("broken");
      },
    ],
    ["returns no key", () => "with\nbreak"],
    ["returns a promise", async () => "a"],
  ])("whose function %s is an error of the server, and nothing runs", async (_, key) => {
    const errors: unknown[] = [];
    const { ask, runs } = await keyedScene({
      idempotency: untyped({ key }),
      atOnce: ok,
      onError: (error) => errors.push(error),
    });
    const ended = await ask("a");
    expect(ended.code).toBe(Status.INTERNAL);
    expect(reasonOf(ended)).toBe("IDEMPOTENCY_MISCONFIGURED");
    expect(errors).toHaveLength(1);
    expect(runs).toHaveLength(0);
  });

  it("belongs to one caller and one method: nobody gets another's answer", async () => {
    const { ask, runs } = await keyedScene({
      idempotency: { scope: ({ metadata }) => String(metadata.get("x-tenant")[0]) },
      atOnce: ok,
    });
    const as = (tenant: string) => ({ metadata: { "x-tenant": tenant } });
    expect((await ask("a", as("acme"))).received).toEqual([101]);
    expect((await ask("a", as("other"))).received).toEqual([102]);
    // The end of one name is not taken for the beginning of the key.
    expect((await ask("2:a", as("acme"))).received).toEqual([103]);
    expect((await ask("a", as("acme:2"))).received).toEqual([104]);
    expect((await ask("a", as("acme"))).received).toEqual([101]);
    expect(runs).toHaveLength(4);
  });

  it("of one method is another key of another method", async () => {
    const { unary: definition } = ConformanceServiceService;
    const paths = ["/shop.v1.Orders/Place", "/shop.v1.Orders/Cancel"] as const;
    const [place, cancel] = paths;
    const transport = inMemoryTransport();
    const { clock } = transport;
    const weir = createWeir({ clock });
    let runs = 0;
    const answer = (_call: unknown, done: Run["answer"]) => {
      runs += 1;
      done(null, { payload: Buffer.alloc(0), sequence: runs });
    };
    const link = await transport.open({
      service: { place: { ...definition, path: place }, cancel: { ...definition, path: cancel } },
      implementation: { place: answer, cancel: answer },
      serverInterceptors:
        weir.server({ idempotency: { scope: "shared", methods: { [place]: {}, [cancel]: {} } } })
          .interceptors ?? [],
    });
    const client = link.client(ConformanceServiceClient);
    const metadata = new Metadata();
    metadata.set("idempotency-key", "a");
    const ask = (path: string) =>
      link.until(
        new Promise((resolve) => {
          const { requestSerialize, responseDeserialize } = definition;
          const request = { payload: Buffer.alloc(0), sequence: 1 };
          client.makeUnaryRequest(
            path,
            requestSerialize,
            responseDeserialize,
            request,
            metadata,
            (_error, response) => resolve(response?.sequence),
          );
        }),
      );
    expect([await ask(place), await ask(cancel), await ask(place)]).toEqual([1, 2, 1]);
  });

  it.each([
    [
      "throws",
      () => {
        throw new Error("who?");
      },
    ],
    ["returns nothing", () => undefined],
    ["returns an empty text", () => ""],
  ])("whose scope %s is an error of the server, and nothing runs", async (_, scope) => {
    const errors: unknown[] = [];
    const { ask, runs } = await keyedScene({
      idempotency: untyped({ scope }),
      atOnce: ok,
      onError: (error) => errors.push(error),
    });
    expect(reasonOf(await ask("a"))).toBe("IDEMPOTENCY_MISCONFIGURED");
    expect(errors).toHaveLength(1);
    expect(runs).toHaveLength(0);
  });
});

describe("another request under the same key", () => {
  it("is refused, while the first runs and after it", async () => {
    const { ask, runs, send, link, decisions } = await keyedScene();
    const first = send("a", { sequence: 1 });
    await link.pass(1);
    const meanwhile = await ask("a", { sequence: 2 });
    expect(meanwhile.code).toBe(Status.INVALID_ARGUMENT);
    expect(reasonOf(meanwhile)).toBe("IDEMPOTENCY_KEY_REUSED");
    runs[0]?.ok();
    expect((await link.until(first.ended)).received).toEqual([101]);
    expect(reasonOf(await ask("a", { sequence: 2 }))).toBe("IDEMPOTENCY_KEY_REUSED");
    expect(runs).toHaveLength(1);
    expect(decisions).toMatchObject([
      { verdict: "reject", reason: "IDEMPOTENCY_KEY_REUSED" },
      { verdict: "reject", reason: "IDEMPOTENCY_KEY_REUSED" },
    ]);
  });

  it("is told by its bytes: also by a field that this server does not know", async () => {
    const { client, link, runs, ask } = await keyedScene({ atOnce: ok });
    await ask("a", { sequence: 1 });
    const { unary: method } = ConformanceServiceService;
    const answer = await link.until(
      new Promise((resolve) => {
        const metadata = new Metadata();
        metadata.set("idempotency-key", "a");
        const serialize = (request: { payload: Buffer; sequence: number }) =>
          Buffer.concat([method.requestSerialize(request), Buffer.from([0x98, 0x3f, 1])]);
        client.makeUnaryRequest(
          method.path,
          serialize,
          method.responseDeserialize,
          { payload: Buffer.alloc(0), sequence: 1 },
          metadata,
          {},
          (error) => resolve(error?.code),
        );
      }),
    );
    expect(answer).toBe(Status.INVALID_ARGUMENT);
    expect(runs).toHaveLength(1);
  });

  it("is told by a function instead, where what differs does not matter", async () => {
    const { ask, runs } = await keyedScene({
      idempotency: {
        fingerprint: (request) => String((request as { sequence: number }).sequence % 2),
      },
      atOnce: ok,
    });
    expect((await ask("a", { sequence: 1 })).received).toEqual([101]);
    expect((await ask("a", { sequence: 3 })).received).toEqual([101]);
    expect(reasonOf(await ask("a", { sequence: 2 }))).toBe("IDEMPOTENCY_KEY_REUSED");
    expect(runs).toHaveLength(1);
  });
});

describe("duplicates in flight", () => {
  it("wait for the first call and share its answer, without a slot", async () => {
    const { send, runs, link, weir, decisions } = await keyedScene({
      server: { admission: { limit: 1, maxQueued: 0 } },
    });
    const calls = Array.from({ length: 5 }, () => send("a"));
    await link.pass(10);
    expect(runs).toHaveLength(1);
    expect(weir.policy("idempotency").snapshot()).toMatchObject([{ running: 1, waiting: 4 }]);
    expect(weir.policy("admission").snapshot()).toMatchObject([{ running: 1, queued: 0 }]);
    runs[0]?.ok();
    const ended = await link.until(Promise.all(calls.map(({ ended: end }) => end)));
    expect(ended.map(({ received }) => received)).toEqual(calls.map(() => [101]));
    expect(ended.map((each) => marks(each)[1])).toEqual([
      undefined,
      "true",
      "true",
      "true",
      "true",
    ]);
    expect(decisions.filter(({ verdict }) => verdict === "queue")).toMatchObject(
      Array.from({ length: 4 }, () => ({ waitMs: 10, detail: "behind a call with the same key" })),
    );
    expect(weir.policy("idempotency").snapshot()).toMatchObject([{ running: 0, waiting: 0 }]);
  });

  it("are answered shortly before their deadline when the first call still runs", async () => {
    const { send, runs, link, clock } = await keyedScene();
    const first = send("a");
    const second = send("a", { withinMs: 1_000 });
    await link.pass(900);
    expect(clock.pending.refs).toBeGreaterThanOrEqual(0);
    const ended = await link.until(second.ended);
    expect(ended.code).toBe(Status.ABORTED);
    expect(reasonOf(ended)).toBe("IDEMPOTENCY_IN_PROGRESS");
    const { retryDelayMs = 0 } = decodeStatusDetails(ended.trailers);
    expect(retryDelayMs).toBeGreaterThanOrEqual(100);
    expect(retryDelayMs).toBeLessThanOrEqual(200);
    expect(readPushback(ended.trailers)).toBe(retryDelayMs);
    runs[0]?.ok();
    expect((await link.until(first.ended)).code).toBe(Status.OK);
    expect(runs).toHaveLength(1);
  });

  it("beyond maxWaiting are refused at once", async () => {
    const { send, ask, runs, link } = await keyedScene({ idempotency: { maxWaiting: 2 } });
    const calls = Array.from({ length: 3 }, () => send("a"));
    await link.pass(1);
    expect(reasonOf(await ask("a"))).toBe("IDEMPOTENCY_IN_PROGRESS");
    runs[0]?.ok();
    const ended = await link.until(Promise.all(calls.map(({ ended: end }) => end)));
    expect(ended.map(({ code }) => code)).toEqual([Status.OK, Status.OK, Status.OK]);
  });

  it("run one after another while the calls before them fail in passing", async () => {
    const { send, runs, link } = await keyedScene();
    const calls = Array.from({ length: 3 }, () => send("a"));
    await link.pass(1);
    runs[0]?.fail(Status.UNAVAILABLE);
    await link.pass(1);
    expect(runs).toHaveLength(2);
    runs[1]?.ok();
    const ended = await link.until(Promise.all(calls.map(({ ended: end }) => end)));
    expect(ended.map(({ code }) => code)).toEqual([Status.UNAVAILABLE, Status.OK, Status.OK]);
    expect(ended.map(({ received }) => received)).toEqual([[], [102], [102]]);
  });

  it("may leave, and nothing waits for them", async () => {
    const { send, runs, link, weir } = await keyedScene();
    const first = send("a");
    const second = send("a");
    await link.pass(1);
    second.cancel();
    expect((await link.until(second.ended)).code).toBe(Status.CANCELLED);
    await link.pass(1);
    expect(weir.policy("idempotency").snapshot()).toMatchObject([{ running: 1, waiting: 0 }]);
    runs[0]?.ok();
    expect((await link.until(first.ended)).code).toBe(Status.OK);
  });

  it("are refused when the server drains, and the first call ends well", async () => {
    const { send, runs, link, weir } = await keyedScene();
    const first = send("a");
    const second = send("a");
    await link.pass(1);
    weir.close();
    const refused = await link.until(second.ended);
    expect(refused.code).toBe(Status.UNAVAILABLE);
    expect(reasonOf(refused)).toBe("DRAINING");
    runs[0]?.ok();
    expect((await link.until(first.ended)).received).toEqual([101]);
  });
});

describe("a first call whose caller leaves", () => {
  it("goes on, and duplicates get its answer", async () => {
    const { send, ask, runs, link } = await keyedScene();
    const first = send("a");
    await link.pass(1);
    const second = send("a");
    await link.pass(1);
    first.cancel();
    expect((await link.until(first.ended)).code).toBe(Status.CANCELLED);
    await link.pass(1);
    expect(runs[0]?.call?.signal.aborted).toBe(false);
    expect(runs[0]?.grpcCall.cancelled).toBe(false);
    runs[0]?.ok();
    expect((await link.until(second.ended)).received).toEqual([101]);
    expect((await ask("a")).received).toEqual([101]);
    expect(runs).toHaveLength(1);
    expect(runs[0]?.call?.signal.aborted).toBe(false);
    // What grpc-js keeps of the call learns its end now.
    expect(runs[0]?.grpcCall.cancelled).toBe(true);
  });

  it("and whose handler passes on a failure from below, keeps it as its caller would have got it", async () => {
    const { send, ask, runs, link } = await keyedScene();
    const first = send("a", { withinMs: 50 });
    await link.until(first.ended);
    await link.pass(50);
    const below = new Metadata();
    below.set("x-weir-idempotency", "honoured");
    below.set("x-weir-replayed", "true");
    below.set("grpc-retry-pushback-ms", "5");
    below.set("x-weir-retries-exhausted", "1");
    runs[0]?.fail(Status.NOT_FOUND, "below", below);
    await link.pass(1);
    const replayed = await ask("a");
    expect(replayed).toMatchObject({ code: Status.NOT_FOUND, details: "below" });
    expect(replayed.trailers.get("x-weir-replayed")).toEqual(["true"]);
    expect(replayed.trailers.get("grpc-retry-pushback-ms")).toEqual([]);
    expect(reasonOf(replayed)).toBe("RETRY_EXHAUSTED_BELOW");
  });

  it("that fails in passing then, frees the key", async () => {
    const { send, ask, runs, link, weir } = await keyedScene({
      atOnce: (run) => run.sequence === 1 && runs.length > 1 && run.ok(),
    });
    const first = send("a");
    await link.pass(1);
    first.cancel();
    await link.until(first.ended);
    runs[0]?.fail(Status.UNAVAILABLE);
    await link.pass(1);
    expect(weir.policy("idempotency").snapshot()).toMatchObject([{ running: 0 }]);
    expect((await ask("a")).received).toEqual([102]);
  });

  it("is told when its deadline passes", async () => {
    const { send, runs, link } = await keyedScene();
    const first = send("a", { withinMs: 100 });
    await link.until(first.ended);
    await link.pass(50);
    expect(runs[0]?.call?.signal.aborted).toBe(true);
    expect(runs[0]?.grpcCall.cancelled).toBe(true);
  });

  it("holds its key for ten leases at most when its handler never answers", async () => {
    const { send, runs, link, weir } = await keyedScene({ idempotency: { leaseMs: 1_000 } });
    const first = send("a");
    await link.pass(1);
    first.cancel();
    await link.until(first.ended);
    await link.pass(9_900);
    const second = send("a", { withinMs: 60_000 });
    await link.pass(50);
    expect(runs).toHaveLength(1);
    await link.pass(1_500);
    expect(runs).toHaveLength(2);
    const tokens = runs.map(({ call }) => call?.idempotency?.fencingToken ?? 0);
    expect(tokens[1]).toBeGreaterThan(tokens[0] ?? Number.NaN);
    runs[1]?.ok();
    expect((await link.until(second.ended)).received).toEqual([102]);
    // It comes back after all, and overwrites nothing.
    runs[0]?.ok();
    await link.pass(1);
    expect(weir.policy("idempotency").snapshot()).toMatchObject([{ running: 0, waiting: 0 }]);
  });

  it("before its handler has started, frees the key", async () => {
    const { send, ask, runs, link, weir } = await keyedScene({
      server: { admission: { limit: 1, maxQueued: 10 } },
    });
    const blocking = send("other");
    await link.pass(1);
    const first = send("a");
    await link.pass(1);
    const second = send("a");
    await link.pass(1);
    first.cancel();
    await link.until(first.ended);
    await link.pass(1);
    runs[0]?.ok();
    await link.until(blocking.ended);
    await link.pass(1);
    expect(runs).toHaveLength(2);
    runs[1]?.ok();
    expect((await link.until(second.ended)).received).toEqual([102]);
    expect(weir.policy("idempotency").snapshot()).toMatchObject([{ running: 0, waiting: 0 }]);
    expect((await ask("a")).received).toEqual([102]);
  });
});

describe("a handler", () => {
  it("reads its key and its fencing token, which grows with each run", async () => {
    const { ask, runs } = await keyedScene({ atOnce: (run) => run.fail(Status.UNAVAILABLE) });
    for (const key of ["a", "a", "a"]) await ask(key);
    const held = runs.map(({ call }) => call?.idempotency);
    expect(held.map((each) => each?.key)).toEqual(["a", "a", "a"]);
    const tokens = held.map((each) => each?.fencingToken ?? Number.NaN);
    expect(tokens.every(Number.isSafeInteger)).toBe(true);
    expect(tokens).toEqual([...new Set(tokens)].toSorted((one, other) => one - other));
  });

  it("that throws is stored as the UNKNOWN that it is", async () => {
    const { ask, runs } = await keyedScene({
      atOnce: () => {
        throw new Error("bug");
      },
    });
    for (const key of ["a", "a"]) expect((await ask(key)).code).toBe(Status.UNKNOWN);
    expect(runs).toHaveLength(1);
  });

  it("that answers twice is heard once", async () => {
    const { ask, runs } = await keyedScene({
      atOnce: (run) => {
        run.ok();
        run.fail(Status.NOT_FOUND);
        run.ok();
      },
    });
    const codes = [await ask("a"), await ask("a")].map(({ code }) => code);
    expect(new Set(codes).size).toBe(1);
    expect(runs).toHaveLength(1);
    const twice = await keyedScene({
      atOnce: ({ answer }) => {
        answer(null, { payload: Buffer.alloc(0), sequence: 1 });
        answer(null, { payload: Buffer.alloc(0), sequence: 2 });
      },
    });
    expect((await twice.ask("a")).received).toEqual([1]);
    expect((await twice.ask("a")).received).toEqual([1]);
  });

  it("whose answer cannot be serialized has failed with INTERNAL, and does not run again", async () => {
    const { ask, runs } = await keyedScene({
      atOnce: ({ answer }) => answer(null, JSON.parse('{"sequence": "x"}')),
    });
    for (const key of ["a", "a"]) expect((await ask(key)).code).toBe(Status.INTERNAL);
    expect(runs).toHaveLength(1);
  });

  it("whose answer is too large does not run again, and duplicates in flight get it", async () => {
    const errors: unknown[] = [];
    const { ask, send, runs, link } = await keyedScene({
      idempotency: { maxResponseBytes: 1_024 },
      onError: (error) => errors.push(error),
    });
    const calls = [send("a"), send("a")];
    await link.pass(1);
    runs[0]?.answer(null, { payload: Buffer.alloc(2_000), sequence: 7 });
    const ended = await link.until(Promise.all(calls.map(({ ended: end }) => end)));
    expect(ended.map(({ received }) => received)).toEqual([[7], [7]]);
    const later = await ask("a");
    expect(later.code).toBe(Status.FAILED_PRECONDITION);
    expect(reasonOf(later)).toBe("IDEMPOTENCY_ANSWER_NOT_KEPT");
    expect(runs).toHaveLength(1);
    expect(String(errors)).toContain("larger than maxResponseBytes, 1024");
  });

  it("behind interceptors of the user: they see each run once, and no replay", async () => {
    const seen: unknown[] = [];
    const own: ServerInterceptor = (_method, call) =>
      new ServerInterceptingCall(call, {
        sendMessage: (message, next) => {
          seen.push(Reflect.get(message, "sequence"));
          next(message);
        },
        sendStatus: (status, next) => {
          seen.push(status.code);
          next(status);
        },
      });
    const { ask } = await keyedScene({ ownServer: { interceptors: [own] }, atOnce: ok });
    for (const key of ["a", "a", "b"]) expect((await ask(key)).code).toBe(Status.OK);
    expect(seen).toEqual([101, Status.OK, 102, Status.OK]);
  });

  it("passes on no mark of a service below", async () => {
    const below = new Metadata();
    below.set("x-weir-idempotency", "honoured");
    below.set("x-weir-replayed", "true");
    const optional = await keyedScene({
      idempotency: { key: "optional" },
      atOnce: (run) =>
        run.sequence === 1
          ? run.answer(null, { payload: Buffer.alloc(0), sequence: 1 }, below)
          : run.fail(Status.NOT_FOUND, "gone", below),
    });
    expect(marks(await optional.ask(undefined))).toEqual([undefined, undefined]);
    expect(marks(await optional.ask(undefined, { sequence: 2 }))).toEqual([undefined, undefined]);
    expect(marks(await optional.ask("a"))).toEqual(["honoured", undefined]);
  });

  it("is not what a policy behind refused: the key is free", async () => {
    const { send, ask, runs, link } = await keyedScene({
      server: { admission: { limit: 1, maxQueued: 0 } },
    });
    const blocking = send("other");
    await link.pass(1);
    const refused = await ask("a");
    expect(refused.code).toBe(Status.RESOURCE_EXHAUSTED);
    runs[0]?.ok();
    await link.until(blocking.ended);
    const again = send("a");
    await link.pass(1);
    runs[1]?.ok();
    expect((await link.until(again.ended)).received).toEqual([102]);
  });

  it("is not what an interceptor behind the toolkit's refused, whatever is stored", async () => {
    const clock = new VirtualClock();
    const quota = quotaInterceptor({ clock, ratePerSecond: 1, burst: 1 });
    const { ask, runs } = await keyedScene({
      clock,
      idempotency: { stores: [Status.OK, Status.RESOURCE_EXHAUSTED] },
      ownServer: { interceptors: [quota] },
      atOnce: ok,
    });
    expect((await ask("other")).code).toBe(Status.OK);
    expect((await ask("a")).code).toBe(Status.RESOURCE_EXHAUSTED);
    await clock.pass(1_500);
    expect((await ask("a")).received).toEqual([102]);
    expect(runs).toHaveLength(2);
  });

  it("counts for a quota also where it is not run: a replay costs what a call costs", async () => {
    const { ask, runs } = await keyedScene({
      server: { quota: { ratePerSecond: 1, burst: 2 } },
      atOnce: ok,
    });
    for (const key of ["a", "a"]) expect((await ask(key)).code).toBe(Status.OK);
    expect((await ask("a")).code).toBe(Status.RESOURCE_EXHAUSTED);
    expect(runs).toHaveLength(1);
  });

  it("answers a replay also while admission refuses calls", async () => {
    const { send, ask, runs, link } = await keyedScene({
      server: { admission: { limit: 1, maxQueued: 0 } },
    });
    const first = send("a");
    await link.pass(1);
    runs[0]?.ok();
    await link.until(first.ended);
    const blocking = send("other");
    await link.pass(1);
    expect((await ask("a")).received).toEqual([101]);
    runs[1]?.ok();
    await link.until(blocking.ended);
  });
});

describe("the modes", () => {
  it("observe: all calls run, and it is recorded what would have become of them", async () => {
    const { send, ask, runs, link, decisions, weir } = await keyedScene({
      idempotency: { mode: "observe" },
    });
    const calls = [send("a"), send("a"), send("a", { sequence: 2 })];
    await link.pass(1);
    expect(runs).toHaveLength(3);
    expect(runs[0]?.call?.idempotency).toBeUndefined();
    for (const run of runs) run.ok();
    const ended = await link.until(Promise.all(calls.map(({ ended: end }) => end)));
    expect(ended.map(({ received }) => received)).toEqual([[101], [102], [103]]);
    expect(ended.map(marks)).toEqual(calls.map(() => [undefined, undefined]));
    expect(decisions.every(({ enforced }) => !enforced)).toBe(true);
    expect(decisions.map(({ reason }) => reason)).toContain("IDEMPOTENCY_KEY_REUSED");
    const late = send("a");
    await link.pass(1);
    runs[3]?.ok();
    expect((await link.until(late.ended)).received).toEqual([104]);
    expect(decisions.at(-1)).toMatchObject({ verdict: "replay", enforced: false });
    // What it has seen is there when it is enforced.
    weir.policy("idempotency").mode = "enforce";
    expect((await ask("a")).received).toEqual([101]);
    weir.policy("idempotency").mode = "off";
    const off = send("a");
    await link.pass(1);
    runs[4]?.ok();
    expect((await link.until(off.ended)).received).toEqual([105]);
    expect(weir.observed().idempotency).toMatchObject({
      IDEMPOTENCY_KEY_REUSED: { refused: 1, success: 1 },
    });
  });

  it("observe: nothing is held for a call whose caller left while its handler ran", async () => {
    const { send, runs, link, weir } = await keyedScene({ idempotency: { mode: "observe" } });
    const call = send("a");
    await link.pass(1);
    call.cancel();
    await link.until(call.ended);
    await link.pass(1);
    expect(runs[0]?.call?.signal.aborted).toBe(true);
    expect(weir.policy("idempotency").snapshot()).toMatchObject([{ running: 1 }]);
    runs[0]?.ok();
    await link.pass(1);
    expect(weir.policy("idempotency").snapshot()).toMatchObject([
      { running: 0, waiting: 0, memory: { running: 0 } },
    ]);
  });

  it("switched off while calls wait: they get their answer", async () => {
    const { send, runs, link, weir } = await keyedScene();
    const calls = [send("a"), send("a")];
    await link.pass(1);
    weir.policy("idempotency").mode = "off";
    const third = send("a");
    await link.pass(1);
    expect(runs).toHaveLength(2);
    for (const run of runs) run.ok();
    const ended = await link.until(Promise.all([...calls, third].map(({ ended: end }) => end)));
    expect(ended.map(({ received }) => received)).toEqual([[101], [101], [102]]);
  });
});

describe.each(kinds)("the policy and %s", (method) => {
  it("leaves methods alone that it does not name", async () => {
    const { call, runs } = await keyedScene({
      idempotency: { methods: { "weir.v1.ConformanceService/Other": {} } },
      atOnce: ok,
    });
    for (let round = 0; round < 2; round += 1) {
      const ended = await call(method);
      expect(ended.code).toBe(Status.OK);
      expect(marks(ended)).toEqual([undefined, undefined]);
    }
    expect(runs).toHaveLength(method === "unary" ? 2 : 0);
  });

  it("under it by name: a stream runs as without it, and that is reported once", async () => {
    const errors: unknown[] = [];
    const { call } = await keyedScene({
      idempotency: { methods: { [path[method]]: { key: "optional" } } },
      atOnce: ok,
      onError: (error) => errors.push(error),
    });
    for (let round = 0; round < 2; round += 1) {
      expect((await call(method)).code).toBe(Status.OK);
    }
    expect(errors).toHaveLength(method === "unary" ? 0 : 1);
    if (method !== "unary") expect(String(errors[0])).toContain(`${path[method]} streams`);
  });
});

describe("while the store fails", () => {
  async function faulty(onStoreError: "refuse" | "run") {
    const errors: unknown[] = [];
    const clock = new VirtualClock();
    const store = new FaultyStore(memoryStore(clock));
    const joined = await keyedScene({
      clock,
      idempotency: { store, onStoreError, storeTimeoutMs: 200, leaseMs: 3_000 },
      onError: (error) => errors.push(error),
    });
    return { ...joined, store, errors };
  }

  it.each(["reject", "silent", "nonsense"] as const)(
    "a call is refused and not run (%s)",
    async (fault) => {
      const { ask, send, runs, link, store, errors } = await faulty("refuse");
      store.fault = fault;
      const ended = await ask("a", { withinMs: 5_000 });
      expect(ended.code).toBe(Status.UNAVAILABLE);
      expect(reasonOf(ended)).toBe("IDEMPOTENCY_STORE_FAILED");
      expect(runs).toHaveLength(0);
      expect(errors).toHaveLength(1);
      store.fault = undefined;
      const again = send("a");
      await link.pass(1);
      runs[0]?.ok();
      expect((await link.until(again.ended)).code).toBe(Status.OK);
    },
  );

  it("a call is refused before its deadline when that comes before the time-out", async () => {
    const { ask, store } = await faulty("refuse");
    store.fault = "silent";
    const ended = await ask("a", { withinMs: 150 });
    expect(ended.code).toBe(Status.UNAVAILABLE);
    expect(reasonOf(ended)).toBe("IDEMPOTENCY_STORE_FAILED");
  });

  it("a call runs without protection, and says so, where the policy is told so", async () => {
    const { send, runs, link, store, decisions, weir } = await faulty("run");
    store.fault = "reject";
    const calls = [send("a"), send("a")];
    await link.pass(1);
    expect(runs).toHaveLength(1);
    expect(runs[0]?.call?.idempotency).toEqual({ key: "a", fencingToken: undefined });
    runs[0]?.ok();
    const ended = await link.until(Promise.all(calls.map(({ ended: end }) => end)));
    expect(ended.map(({ received }) => received)).toEqual([[101], [101]]);
    expect(ended.map(marks)).toEqual([
      ["unprotected", undefined],
      ["unprotected", "true"],
    ]);
    expect(decisions).toContainEqual(
      expect.objectContaining({ policy: "idempotency", verdict: "admit", reason: "STORE_AWAY" }),
    );
    expect(weir.policy("idempotency").snapshot()).toMatchObject([{ unprotected: 1, running: 0 }]);
  });

  it("a failure that is not stored is marked as unprotected, too", async () => {
    const { send, runs, link, store } = await faulty("run");
    store.fault = "reject";
    const call = send("a");
    await link.pass(1);
    runs[0]?.fail(Status.UNAVAILABLE);
    expect(marks(await link.until(call.ended))).toEqual(["unprotected", undefined]);
  });

  it("an answer goes out only when it is stored", async () => {
    const { send, runs, link, store } = await faulty("refuse");
    const first = send("a");
    await link.pass(1);
    store.fault = "slow";
    let over = false;
    void first.ended.then(() => {
      over = true;
    });
    runs[0]?.ok();
    await link.pass(100);
    expect(over).toBe(false);
    store.flush();
    await link.pass(1);
    expect(over).toBe(true);
    expect((await link.until(first.ended)).received).toEqual([101]);
  });

  it("an answer that cannot be stored is not sent, and is stored as soon as the store is back", async () => {
    const { send, ask, runs, link, store, decisions } = await faulty("refuse");
    const first = send("a");
    await link.pass(1);
    store.fault = "reject";
    const headers = new Metadata();
    headers.set("x-head", "h");
    runs[0]?.grpcCall.sendMetadata(headers);
    await link.pass(1);
    expect(first.headers()).toBeUndefined();
    runs[0]?.ok();
    const ended = await link.until(first.ended);
    expect(first.headers()?.get("x-head") ?? []).toEqual([]);
    expect(ended.code).toBe(Status.UNAVAILABLE);
    expect(reasonOf(ended)).toBe("IDEMPOTENCY_ANSWER_NOT_STORED");
    expect(decisions.at(-1)).toMatchObject({ reason: "IDEMPOTENCY_ANSWER_NOT_STORED" });
    const second = send("a");
    await link.pass(300);
    store.fault = undefined;
    await link.pass(400);
    expect((await link.until(second.ended)).received).toEqual([101]);
    expect((await ask("a")).received).toEqual([101]);
    expect(runs).toHaveLength(1);
  });

  it("an answer that cannot be stored is sent unprotected where the policy is told so", async () => {
    const { send, ask, runs, link, store } = await faulty("run");
    const first = send("a");
    await link.pass(1);
    store.fault = "silent";
    runs[0]?.ok();
    await link.pass(250);
    const ended = await link.until(first.ended);
    expect(ended.received).toEqual([101]);
    expect(marks(ended)).toEqual(["unprotected", undefined]);
    // It is kept here meanwhile.
    expect(marks(await ask("a"))).toEqual(["unprotected", "true"]);
    store.fault = undefined;
    await link.pass(1_000);
    expect(marks(await ask("a"))).toEqual(["honoured", "true"]);
    expect(runs).toHaveLength(1);
  });

  it("a claim whose answer comes too late is given back", async () => {
    const { ask, send, runs, link, store, weir } = await faulty("refuse");
    store.fault = "slow";
    expect(reasonOf(await ask("a"))).toBe("IDEMPOTENCY_STORE_FAILED");
    store.fault = undefined;
    store.flush();
    await link.pass(1);
    const again = send("a");
    await link.pass(1);
    expect(runs).toHaveLength(1);
    runs[0]?.ok();
    expect((await link.until(again.ended)).code).toBe(Status.OK);
    expect(weir.policy("idempotency").snapshot()).toMatchObject([{ running: 0, waiting: 0 }]);
  });

  describe("a claim whose answer comes later than its lease ends", () => {
    /** The answers to the first so many claims take longer than the lease. */
    async function late(claims: number) {
      const clock = new VirtualClock();
      const memory = memoryStore(clock);
      let lateOnes = claims;
      let asked: Parameters<typeof memory.claim> | undefined;
      const world = await keyedScene({
        clock,
        idempotency: {
          leaseMs: 100,
          storeTimeoutMs: 1_000,
          store: {
            claim: async (...args) => {
              asked = args;
              const answer = memory.claim(...args);
              if (lateOnes > 0) await new Promise<void>((resolve) => clock.schedule(150, resolve));
              lateOnes -= 1;
              return answer;
            },
            renew: memory.renew.bind(memory),
            complete: memory.complete.bind(memory),
            release: memory.release.bind(memory),
          },
        },
      });
      /** Another server claims the key for the same request. */
      const claimedElsewhere = () => {
        if (asked === undefined) throw new Error("nobody has claimed");
        const [key, claim] = asked;
        const answer = memory.claim(key, { ...claim, holder: "elsewhere", leaseMs: 100_000 });
        if (answer.kind !== "started") throw new Error(answer.kind);
        return { release: () => memory.release(key, answer.token) };
      };
      return { ...world, claimedElsewhere };
    }

    it("does not run beside the call that has taken over", async () => {
      const { send, runs, link, claimedElsewhere } = await late(1);
      const sent = send("a");
      await link.pass(120);
      const other = claimedElsewhere();
      await link.pass(1_000);
      expect(runs).toHaveLength(0);
      other.release();
      await link.pass(1_000);
      expect(runs).toHaveLength(1);
      runs[0]?.ok();
      expect((await link.until(sent.ended)).code).toBe(Status.OK);
    });

    it("runs after another claim when nobody has", async () => {
      const { send, runs, link } = await late(1);
      const sent = send("a");
      await link.pass(160);
      expect(runs).toHaveLength(1);
      runs[0]?.ok();
      expect((await link.until(sent.ended)).code).toBe(Status.OK);
    });

    it("is refused when that happens each time", async () => {
      const { ask, runs } = await late(3);
      expect(reasonOf(await ask("a"))).toBe("IDEMPOTENCY_STORE_FAILED");
      expect(runs).toHaveLength(0);
    });
  });

  it("a stored answer that cannot be read is a failure of the store", async () => {
    const clock = new VirtualClock();
    const memory = memoryStore(clock);
    const errors: unknown[] = [];
    const { ask, runs } = await keyedScene({
      clock,
      idempotency: {
        store: {
          claim: () => ({ kind: "done", answer: Uint8Array.from([1, 2, 3, 4, 5]) }),
          renew: memory.renew.bind(memory),
          complete: memory.complete.bind(memory),
          release: memory.release.bind(memory),
        },
      },
      onError: (error) => errors.push(error),
    });
    expect(reasonOf(await ask("a"))).toBe("IDEMPOTENCY_STORE_FAILED");
    expect(runs).toHaveLength(0);
    expect(errors).toHaveLength(1);
  });
});

describe("two servers with one store", () => {
  async function two(leaseMs = 3_000) {
    const clock = new VirtualClock();
    const store = memoryStore(clock);
    const stores = [new FaultyStore(store), new FaultyStore(store)] as const;
    const errors: unknown[] = [];
    const [one, other] = await Promise.all(
      stores.map((each) =>
        keyedScene({
          clock,
          idempotency: { store: each, leaseMs, storeTimeoutMs: 100 },
          onError: (error) => errors.push(error),
        }),
      ),
    );
    if (one === undefined || other === undefined) throw new Error("two servers");
    return { clock, stores, one, other };
  }

  it("run a call once, and each gives its answer", async () => {
    const { clock, one, other } = await two();
    const first = one.send("a");
    await clock.pass(10);
    const second = other.send("a");
    await clock.pass(500);
    expect(other.runs).toHaveLength(0);
    one.runs[0]?.ok();
    expect((await clock.until(first.ended)).received).toEqual([101]);
    const replayed = await clock.until(second.ended);
    expect(replayed.received).toEqual([101]);
    expect(marks(replayed)).toEqual(["honoured", "true"]);
  });

  it("renew the lease of a call that takes long", async () => {
    const { clock, one, other } = await two();
    const first = one.send("a");
    await clock.pass(10);
    const second = other.send("a", { withinMs: 100_000 });
    await clock.pass(20_000);
    expect(other.runs).toHaveLength(0);
    one.runs[0]?.ok();
    expect((await clock.until(second.ended)).received).toEqual([101]);
    expect((await clock.until(first.ended)).received).toEqual([101]);
  });

  it("take over from each other, and the late one is stopped and overwrites nothing", async () => {
    const { clock, stores, one, other } = await two();
    const first = one.send("a");
    await clock.pass(10);
    // The first server does not reach the store for longer than its lease.
    stores[0].fault = "silent";
    await clock.pass(3_500);
    const second = other.send("a");
    await clock.pass(10);
    expect(other.runs).toHaveLength(1);
    const [held, taken] = [one.runs[0], other.runs[0]].map((run) => run?.call?.idempotency);
    expect(taken?.fencingToken).toBeGreaterThan(held?.fencingToken ?? Number.NaN);
    stores[0].fault = undefined;
    await clock.pass(2_000);
    const late = await clock.until(first.ended);
    expect(late.code).toBe(Status.UNAVAILABLE);
    expect(reasonOf(late)).toBe("IDEMPOTENCY_ANSWER_NOT_STORED");
    expect(one.runs[0]?.call?.signal.aborted).toBe(true);
    one.runs[0]?.ok();
    other.runs[0]?.ok();
    expect((await clock.until(second.ended)).received).toEqual([101]);
    const again = other.send("a");
    expect((await clock.until(again.ended)).received).toEqual([101]);
    expect(one.weir.policy("idempotency").snapshot()).toMatchObject([{ lost: 1, running: 0 }]);
  });

  it("stop a handler whose caller has left, when another has taken over its key", async () => {
    const { clock, stores, one, other } = await two();
    const first = one.send("a");
    await clock.pass(10);
    first.cancel();
    await clock.until(first.ended);
    stores[0].fault = "silent";
    await clock.pass(3_500);
    other.send("a");
    await clock.pass(10);
    expect(one.runs[0]?.call?.signal.aborted).toBe(false);
    stores[0].fault = undefined;
    await clock.pass(2_000);
    expect(one.runs[0]?.call?.signal.aborted).toBe(true);
  });

  it("tell a caller that the other still runs its call at its deadline", async () => {
    const { clock, one, other } = await two();
    one.send("a");
    await clock.pass(10);
    const second = other.send("a", { withinMs: 2_000 });
    const ended = await clock.until(second.ended);
    expect(ended.code).toBe(Status.ABORTED);
    expect(reasonOf(ended)).toBe("IDEMPOTENCY_IN_PROGRESS");
  });
});

describe("options that make no sense are refused while building", () => {
  const build = (idempotency: unknown) => {
    const options: object = { idempotency };
    return () => createWeir().server(options);
  };
  const good = { scope: "shared", methods: { [unary]: {} } };

  it.each([
    ["no scope", { methods: good.methods }, "server.idempotency.scope"],
    ["a scope that is no function", { ...good, scope: "mine" }, "server.idempotency.scope"],
    ["no methods", { scope: "shared" }, "server.idempotency.methods"],
    ["an empty list of methods", { ...good, methods: {} }, "server.idempotency.methods"],
    ["a service", { ...good, methods: { "a.B": {} } }, 'server.idempotency.methods["a.B"]'],
    [
      "a method twice",
      { ...good, methods: { "a.B/C": {}, "/a.B/C": {} } },
      'server.idempotency.methods["/a.B/C"]',
    ],
    ["another key", { ...good, key: "always" }, "server.idempotency.key"],
    [
      "another key of a method",
      { ...good, methods: { [unary]: { key: 1 } } },
      `server.idempotency.methods["${unary}"].key`,
    ],
    ["a short lease", { ...good, leaseMs: 1 }, "server.idempotency.leaseMs"],
    ["a long key", { ...good, maxKeyLength: 256 }, "server.idempotency.maxKeyLength"],
    ["no code", { ...good, stores: [17] }, "server.idempotency.stores"],
    ["a store without release", { ...good, store: { claim() {} } }, "server.idempotency.store"],
    [
      "bounds of the memory beside a store",
      { ...good, store: memoryStore(new VirtualClock()), maxBytes: 100_000 },
      "server.idempotency.maxBytes",
    ],
    [
      "answers larger than the memory",
      { ...good, maxBytes: 100_000, maxResponseBytes: 99_000 },
      "server.idempotency.maxBytes",
    ],
    ["a misspelt option", { ...good, ttlMS: 1 }, "server.idempotency.ttlMS"],
    ["an unknown mode", { ...good, mode: "on" }, "server.idempotency.mode"],
    [
      "a misspelt method",
      {
        ...good,
        services: [ConformanceServiceService],
        methods: { "weir.v1.ConformanceService/Unray": {} },
      },
      'server.idempotency.methods["weir.v1.ConformanceService/Unray"]',
    ],
  ])("%s", (_, options, option) => {
    expect(build(options)).toThrow(InvalidOptionError);
    expect(build(options)).toThrow(`${option} `);
  });

  it.each(kinds.filter((kind) => kind !== "unary"))("a method that streams: %s", (kind) => {
    const options = {
      ...good,
      services: [ConformanceServiceService],
      methods: { [path[kind]]: {} },
    };
    expect(build(options)).toThrow("streams, and the messages of a stream are not kept");
  });

  it("and those that make sense are taken", () => {
    const services = [ConformanceServiceService];
    expect(build({ ...good, services })().interceptors).not.toEqual([]);
    expect(build(false)().interceptors).not.toEqual([]);
  });
});

describe("a store that takes no answers", () => {
  async function untaken(calls: number) {
    const clock = new VirtualClock();
    const store = new FaultyStore(memoryStore(clock));
    store.fault = "reject";
    store.faulty = (method) => method === "complete";
    const joined = await keyedScene({
      clock,
      idempotency: { store, leaseMs: 30_000 },
      atOnce: ok,
      onError: () => {},
    });
    const sent = Array.from({ length: calls }, (_, index) => joined.send(`k${index}`).ended);
    await joined.link.until(Promise.all(sent));
    const completes = () => store.asked.filter((method) => method === "complete").length;
    return { ...joined, store, completes };
  }

  it("is asked again about one at a time, however many there are", async () => {
    const { link, completes } = await untaken(100);
    const before = completes();
    await link.pass(10_000);
    expect(completes() - before).toBeGreaterThan(10_000 / 250 / 2);
    expect(completes() - before).toBeLessThan(150);
  });

  it("is given all of them when it is back", async () => {
    const { link, ask, store, runs } = await untaken(100);
    await link.pass(5_000);
    store.fault = undefined;
    await link.pass(1_000);
    for (let index = 0; index < 100; index += 1) {
      expect((await ask(`k${index}`)).code).toBe(Status.OK);
    }
    expect(runs).toHaveLength(100);
  });

  it("loses those that it has not taken within a lease, and is not asked about them any more", async () => {
    const { link, completes } = await untaken(20);
    await link.pass(31_000);
    const before = completes();
    await link.pass(10_000);
    expect(completes()).toBe(before);
  });

  it("does not make the process keep more than a thousand of them", async () => {
    const { link, store, ask, runs } = await untaken(990);
    // The others are forgotten at once, and run again when their leases are over.
    const more = await Promise.all(
      Array.from({ length: 20 }, (_, index) => link.until(ask(`m${index}`))),
    );
    expect(more.map(({ code }) => code)).toEqual(more.map(() => Status.UNAVAILABLE));
    store.fault = undefined;
    await link.pass(5_000);
    const before = runs.length;
    expect((await ask("m0")).code).toBe(Status.OK);
    expect(runs).toHaveLength(before);
    await link.pass(31_000);
    expect((await ask("m19")).code).toBe(Status.OK);
    expect(runs).toHaveLength(before + 1);
  });
});
