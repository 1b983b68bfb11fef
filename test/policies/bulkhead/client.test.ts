import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import type { KeyedCall } from "../../../src/grpc/client/policy.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import { type BulkheadPolicyOptions, bulkhead } from "../../../src/policies/bulkhead/client.js";
import { createWeir } from "../../../src/weir.js";
import { handlers, kinds, path, type Scene, type SceneOptions, scene } from "../../scene.js";

/** Calls of high priority are reports: what a bulkhead guarantees goes before priorities. */
const byPriority = ({ priority }: KeyedCall) =>
  ({ critical: "elsewhere", high: "reports", normal: "default", low: "checkout" })[
    priority ?? "normal"
  ];

const shop = {
  partitions: { checkout: { share: 0.5 }, reports: { share: 0.25, maxShare: 0.75 } },
  partition: byPriority,
};

/** A client with a bulkhead and nothing else, whose server takes 50 ms for a call and notes priorities. */
async function slowScene(options: BulkheadPolicyOptions, more: Partial<SceneOptions> = {}) {
  const began: unknown[] = [];
  let clock: Scene["clock"] | undefined;
  const made = await scene({
    client: { retry: false, breaker: false, bulkhead: options },
    handlers: handlers(({ metadata }, answer) => {
      began.push(metadata.get("x-request-priority")[0]);
      clock?.schedule(50, answer);
    }),
    ...more,
  });
  clock = made.clock;
  const { start, weir, link } = made;
  const startAt = (method: Parameters<typeof start>[0], priority: keyof typeof weights) =>
    start(method, weir.with({}, { priority }));
  const codes = async (calls: readonly ReturnType<typeof start>[]) =>
    (await link.until(Promise.all(calls.map(({ ended }) => ended)))).map(({ code }) => code);
  const snapshot = () => Object.values(weir.policy("bulkhead").snapshot()[0]?.bulkheads ?? {})[0];
  return { ...made, began, startAt, codes, snapshot };
}

const weights = { critical: 4, high: 3, normal: 1, low: 1 };

describe.each(kinds)("partitions of a bulkhead for %s", (method) => {
  it("give back what was borrowed to whom it is guaranteed, before a better priority", async () => {
    const { startAt, codes, began, decisions, snapshot, clock } = await slowScene({
      maxConcurrent: 4,
      maxWaitMs: 1_000,
      ...shop,
    });
    const calls = [
      ...["high", "high", "high", "critical", "critical", "critical"].map((priority) =>
        startAt(method, priority as "high" | "critical"),
      ),
      startAt(method, "low"),
      startAt(method, "low"),
    ];
    expect(await codes(calls)).toEqual(Array(8).fill(Status.OK));
    expect(began).toEqual([
      "high",
      "high",
      "high",
      "critical",
      "low",
      "low",
      "critical",
      "critical",
    ]);
    expect(
      decisions.filter(({ verdict }) => verdict === "queue").map(({ detail }) => detail),
    ).toEqual([
      "partition checkout",
      "partition checkout",
      "partition default",
      "partition default",
    ]);
    expect(snapshot()).toMatchObject({
      running: 0,
      queued: 0,
      partitions: {
        checkout: { guaranteed: 2, most: 4, running: 0, queued: 0, admitted: 2 },
        reports: { guaranteed: 1, most: 3, running: 0, queued: 0, admitted: 3 },
        default: { guaranteed: 0, most: 4, running: 0, queued: 0, admitted: 3 },
      },
    });
    expect(clock.pending.refs).toBe(0);
  });

  it("refuse with RESOURCE_EXHAUSTED in their own name, and nothing is sent", async () => {
    const { startAt, link, codes, began, decisions } = await slowScene({
      maxConcurrent: 4,
      maxQueued: 0,
      ...shop,
    });
    const running = [1, 2, 3].map(() => startAt(method, "high"));
    const refused = await link.until(startAt(method, "high").ended);
    expect(refused.code).toBe(Status.RESOURCE_EXHAUSTED);
    expect(refused.details).toBe(
      "Bulkhead full: partition reports: running 3 (1 guaranteed, 3 at most), queued 0; in all: running 3 of 4, queued 0 of 0 [BULKHEAD_FULL]",
    );
    expect(rejectionOf(refused.error)).toMatchObject({ reason: "BULKHEAD_FULL", local: true });
    expect(rejectionOf(refused.error)?.retryAfterMs).toBeUndefined();
    expect(decisions).toMatchObject([
      { policy: "bulkhead", verdict: "reject", reason: "BULKHEAD_FULL", enforced: true },
    ]);
    const other = startAt(method, "low");
    expect(await codes([...running, other])).toEqual([0, 0, 0, 0]);
    expect(began).toHaveLength(4);
  });

  it("lose nothing of calls that are cancelled, while they wait or run, or whose time is up", async () => {
    const { start, startAt, link, clock, snapshot, weir } = await slowScene({
      maxConcurrent: 4,
      maxWaitMs: 1_000,
      ...shop,
    });
    const running = [1, 2, 3].map(() => startAt(method, "high"));
    const waiting = startAt(method, "high");
    const late = start(method, weir.with({ deadline: clock.wallNow() + 20 }, { priority: "high" }));
    await link.pass(5);
    waiting.cancel();
    expect((await link.until(waiting.ended)).code).toBe(Status.CANCELLED);
    expect((await link.until(late.ended)).code).toBe(Status.DEADLINE_EXCEEDED);
    for (const call of running) call.cancel();
    for (const call of running) {
      expect((await link.until(call.ended)).code).toBe(Status.CANCELLED);
    }
    expect(snapshot()).toMatchObject({ running: 0, queued: 0, admitted: 3, left: 2, refused: 0 });
    await link.pass(100);
    expect(clock.pending.refs).toBe(0);
  });

  it("refuse nothing while they observe, and say what they would have done", async () => {
    const { startAt, codes, decisions, snapshot, clock } = await slowScene({
      mode: "observe",
      maxConcurrent: 4,
      maxQueued: 4,
      maxWaitMs: 1_000,
      ...shop,
    });
    const calls = [1, 2, 3, 4, 5, 6, 7].map(() => startAt(method, "high"));
    expect(await codes(calls)).toEqual(Array(7).fill(Status.OK));
    expect(decisions.every(({ enforced }) => !enforced)).toBe(true);
    const said = decisions.map(({ verdict, detail }) => `${verdict} ${detail?.split(":")[0]}`);
    expect(said).toContain("reject partition reports");
    expect(said).toContain("queue partition reports");
    expect(snapshot()).toMatchObject({ running: 0, queued: 0 });
    expect(clock.pending.refs).toBe(0);
  });

  it("do nothing when they are off, and can be switched while calls run", async () => {
    const { startAt, codes, weir, decisions, snapshot } = await slowScene({
      maxConcurrent: 1,
      maxQueued: 0,
      partitions: { reports: {} },
      partition: byPriority,
    });
    const first = startAt(method, "high");
    weir.policy("bulkhead").mode = "off";
    const second = startAt(method, "high");
    weir.policy("bulkhead").mode = "enforce";
    const third = startAt(method, "high");
    expect(await codes([first, second, third])).toEqual([0, 0, Status.RESOURCE_EXHAUSTED]);
    expect(decisions).toHaveLength(1);
    expect(snapshot()).toMatchObject({ running: 0, admitted: 1, refused: 1 });
  });
});

describe.each(kinds)("weights in a bulkhead for %s", (method) => {
  const weight = ({ priority }: KeyedCall) => weights[priority ?? "normal"];

  it("keep permits for a heavy call that waits, against lighter ones after it", async () => {
    const { startAt, codes, began, snapshot } = await slowScene({
      maxConcurrent: 5,
      maxWaitMs: 1_000,
      weight,
    });
    const calls = [
      startAt(method, "normal"),
      startAt(method, "normal"),
      startAt(method, "critical"),
      startAt(method, "normal"),
    ];
    expect(snapshot()).toMatchObject({ running: 2, queued: 2 });
    expect(await codes(calls)).toEqual([0, 0, 0, 0]);
    expect(began).toEqual(["normal", "normal", "critical", "normal"]);
    expect(snapshot()).toMatchObject({ running: 0, queued: 0, admitted: 4 });
  });

  it("refuse a call at once that is heavier than the whole", async () => {
    const { startAt, link, clock } = await slowScene({ maxConcurrent: 3, weight });
    const refused = await link.until(startAt(method, "critical").ended);
    expect(refused.code).toBe(Status.RESOURCE_EXHAUSTED);
    expect(refused.details).toBe(
      "Bulkhead full: the call weighs 4, and there are 3 at most [BULKHEAD_FULL]",
    );
    expect(clock.pending.refs).toBe(0);
  });

  it("count as 1, and are reported, when the user's functions fail", async () => {
    const errors: unknown[] = [];
    const { start, codes, snapshot } = await slowScene(
      {
        maxConcurrent: 2,
        maxQueued: 0,
        weight: () => 0.5,
        partitions: { a: { share: 0.5 } },
        partition: () => {
          throw new Error("no partition");
        },
      },
      { onError: (error) => errors.push(error) },
    );
    expect(await codes([start(method), start(method), start(method)])).toEqual([0, 0, 8]);
    expect(errors.map((error) => String(error)).slice(0, 2)).toEqual([
      "RangeError: a weight is a whole number of at least 1, got 0.5",
      "Error: no partition",
    ]);
    expect(errors).toHaveLength(6);
    expect(snapshot()).toMatchObject({ partitions: { default: { admitted: 2, refused: 1 } } });
  });
});

describe.each(kinds)("streams apart from %s", (method) => {
  const other = method === "unary" ? "bidiStream" : "unary";

  it("have permits of their own, and leave those of the others alone", async () => {
    const { start, link, codes, snapshot } = await slowScene({
      maxConcurrent: 1,
      maxQueued: 0,
      streams: { maxConcurrent: 1 },
    });
    const calls = [start(method), start(other)];
    const refused = await link.until(start(method).ended);
    expect(refused.details).toBe(
      `Bulkhead full: ${method === "unary" ? "" : "streams: "}running 1 of 1, queued 0 of 0 [BULKHEAD_FULL]`,
    );
    expect(snapshot()).toMatchObject({ running: 1, streams: { running: 1, maxConcurrent: 1 } });
    expect(await codes(calls)).toEqual([0, 0]);
    expect(snapshot()).toMatchObject({ running: 0, streams: { running: 0 } });
  });

  it("are counted together unless told otherwise", async () => {
    const { start, link, codes, snapshot } = await slowScene({
      maxConcurrent: 1,
      maxQueued: 0,
      streams: "together",
    });
    const first = start(method);
    expect((await link.until(start(other).ended)).code).toBe(Status.RESOURCE_EXHAUSTED);
    expect(await codes([first])).toEqual([0]);
    expect(snapshot()).not.toHaveProperty("streams");
  });

  it("have the same partitions, shared out of their own permits", async () => {
    const { startAt, codes, snapshot } = await slowScene({
      maxConcurrent: 8,
      streams: { maxConcurrent: 4 },
      ...shop,
    });
    expect(await codes([startAt(method, "low")])).toEqual([0]);
    expect(snapshot()).toMatchObject({
      partitions: { checkout: { guaranteed: 4, admitted: method === "unary" ? 1 : 0 } },
      streams: {
        partitions: { checkout: { guaranteed: 2, admitted: method === "unary" ? 0 : 1 } },
      },
    });
  });
});

describe("the key of a bulkhead", () => {
  const service = "weir.v1.ConformanceService";
  const keysOf = ({ weir }: Scene) =>
    Object.keys(weir.policy("bulkhead").snapshot()[0]?.bulkheads ?? {});
  const keyed = (options: BulkheadPolicyOptions, onError?: SceneOptions["onError"]) =>
    scene({
      client: { retry: false, bulkhead: options },
      ...(onError === undefined ? {} : { onError }),
    });

  it.each([
    [{}, 1, (target: string) => [target]],
    [{ key: "target" }, 1, (target: string) => [target]],
    [{ key: "service" }, 1, (target: string) => [`${target} ${service}`]],
    [
      { key: "method" },
      2,
      (target: string) => [`${target} ${service}/Unary`, `${target} ${service}/BidiStream`],
    ],
    [{ key: ({ kind }: KeyedCall) => `a ${kind}` }, 2, () => ["a unary", "a bidi"]],
  ] as const)("%o makes the bulkheads that it says", async (options, count, expected) => {
    const made = await keyed(options);
    for (const method of ["unary", "bidiStream", "unary"] as const) {
      expect((await made.call(method)).code).toBe(Status.OK);
    }
    const target = made.client.getChannel().getTarget();
    expect(keysOf(made).toSorted()).toEqual([...expected(target)].toSorted());
    expect(keysOf(made)).toHaveLength(count);
  });

  it("keeps state for so many keys only, and those that it forgets end well", async () => {
    const errors: unknown[] = [];
    let number = 0;
    const made = await keyed({
      maxKeys: 2,
      key: () => {
        number += 1;
        return `key ${number}`;
      },
    });
    const calls = kinds.map((method) => made.start(method));
    const ended = await made.link.until(Promise.all(calls.map(({ ended }) => ended)));
    expect(ended.map(({ code }) => code)).toEqual([0, 0, 0, 0]);
    expect(keysOf(made)).toEqual(["key 4", "key 3"]);
    expect(errors).toEqual([]);
  });

  it("is the target's when the user's function throws", async () => {
    const errors: unknown[] = [];
    const made = await keyed(
      {
        key: () => {
          throw new Error("no key");
        },
      },
      (error) => errors.push(error),
    );
    expect((await made.call("unary")).code).toBe(Status.OK);
    expect(keysOf(made)).toEqual([made.client.getChannel().getTarget()]);
    expect(errors).toHaveLength(1);
  });
});

describe("a bulkhead as an interceptor of its own", () => {
  it.each(kinds)("has partitions, weights and streams as well, for %s", async (method) => {
    const own = bulkhead({
      maxConcurrent: 2,
      maxQueued: 0,
      streams: { maxConcurrent: 2 },
      partitions: { all: { share: 1 } },
      partition: ({ method: called }) => (called === path[method] ? "all" : "default"),
      weight: () => 2,
    });
    const { start, link } = await scene({
      client: { retry: false, breaker: false },
      ownClient: { interceptors: [own] },
    });
    const calls = [start(method), start(method)];
    const ended = await link.until(Promise.all(calls.map((call) => call.ended)));
    expect(ended.map(({ code }) => code)).toEqual([Status.OK, Status.RESOURCE_EXHAUSTED]);
    expect(ended[1]?.details).toContain("partition all: running 2 (2 guaranteed, 2 at most)");
  });
});

describe("bulkhead options of a client", () => {
  const partition = () => "a";

  it.each([
    [{ key: "host" }, 'client.bulkhead.key must be one of target, service, method, got "host"'],
    [{ key: 5 }, "client.bulkhead.key must be one of target, service, method, got 5"],
    [{ maxKeys: 0 }, "client.bulkhead.maxKeys must be a whole number from 1 to 1000000, got 0"],
    [{ weight: 2 }, "client.bulkhead.weight must be a function, got 2"],
    [{ partitions: {}, partition: "a" }, "client.bulkhead.partition must be a function"],
    [{ partitions: { a: {} } }, "client.bulkhead.partition must be given with partitions"],
    [{ partition }, "client.bulkhead.partitions must be given with partition"],
    [{ partitions: { a: { share: 2 } }, partition }, "client.bulkhead.partitions.a.share must be"],
    [{ partitions: null, partition }, "client.bulkhead.partitions must be an object of options"],
    [{ streams: "apart" }, 'client.bulkhead.streams must be "together" or an object of options'],
    [{ streams: [] }, "client.bulkhead.streams must be an object of options, got an array"],
    [{ streams: null }, "client.bulkhead.streams must be an object of options, got null"],
    [{ streams: { maxWaitMs: -1 } }, "client.bulkhead.streams.maxWaitMs must be milliseconds"],
    [{ streams: { partitions: {} } }, "client.bulkhead.streams.partitions is not an option"],
    [
      {
        partitions: { a: { share: 0.1 }, b: { share: 0.1 } },
        partition,
        streams: { maxConcurrent: 1 },
      },
      "client.bulkhead.partitions.b.share must be worth a permit: 1 are too few",
    ],
    [
      { maxConcurent: 5 },
      "client.bulkhead.maxConcurent is not an option; did you mean maxConcurrent? The options are",
    ],
    [5, "client.bulkhead must be an object of options, or false, got 5"],
  ])("refuse %o", (options, message) => {
    const build = () => createWeir().client({ bulkhead: options as BulkheadPolicyOptions });
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(message);
  });

  it("name all that there are", () => {
    expect(() => bulkhead({ pool: 5 } as BulkheadPolicyOptions)).toThrow(
      "the options are maxConcurrent, maxQueued, maxWaitMs, maxKeys, partitions, partition, weight, streams, mode, key",
    );
  });
});
