import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { throttle } from "../../../src/client.js";
import type { Priority } from "../../../src/core/priority.js";
import { admissionKey } from "../../../src/grpc/metadata.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import type {
  ThrottlePolicyOptions,
  ThrottlePolicySnapshot,
} from "../../../src/policies/throttle/client.js";
import type { Weir } from "../../../src/weir.js";
import { type Ended, echo, failing, handlers, kinds, scene } from "../../scene.js";

const bare = { retry: false, breaker: false } as const;
const shed = { code: Status.RESOURCE_EXHAUSTED, details: "too much to do" };

function numbers(weir: Weir): ThrottlePolicySnapshot | undefined {
  const [first] = weir.policy("throttle").snapshot();
  return Object.values(first?.throttles ?? {})[0];
}

function reasonOf({ error }: Ended): string | undefined {
  const rejection = rejectionOf(error ?? {});
  return rejection?.local === true ? rejection.reason : undefined;
}

function level(value: string): Metadata {
  const metadata = new Metadata();
  metadata.set(admissionKey, value);
  return metadata;
}

describe.each(kinds)("the throttle of %s", (method) => {
  it("refuses most of what a target refuses, and one call a second still goes out", async () => {
    const server = failing(1e9, shed);
    const { call, link, clock } = await scene({
      handlers: server.handlers,
      client: { ...bare, throttle: { maxRefusedShare: 1 } },
    });
    for (let n = 0; n < 10; n += 1) expect(reasonOf(await call(method))).toBeUndefined();
    const ends: Ended[] = [];
    for (let n = 0; n < 50; n += 1) ends.push(await call(method));
    const refused = ends.filter((end) => reasonOf(end) === "THROTTLED");
    expect(refused.length).toBeGreaterThan(40);
    expect(refused[0]?.code).toBe(Status.RESOURCE_EXHAUSTED);
    expect(rejectionOf(refused[0]?.error ?? {})?.retryAfterMs).toBeUndefined();
    const before = server.calls();
    expect(before).toBe(60 - refused.length);
    await link.pass(1_000);
    await call(method);
    expect(server.calls()).toBe(before + 1);
    expect(clock.pending.refs).toBe(0);
  });

  it("serves a target again that has recovered", async () => {
    const server = failing(10, { code: Status.UNAVAILABLE, details: "down" });
    const { call, link } = await scene({
      handlers: server.handlers,
      client: { ...bare, throttle: { windowMs: 2_000 } },
    });
    for (let n = 0; n < 40; n += 1) await call(method);
    await link.pass(2_000);
    const ends: Ended[] = [];
    for (let n = 0; n < 20; n += 1) ends.push(await call(method));
    expect(ends.map(({ code }) => code)).toEqual(Array(20).fill(Status.OK));
  });

  it("does not count what the caller or this process ends", async () => {
    const { start, call, link, weir, clock } = await scene({
      handlers: handlers((_call, answer) => clock.schedule(20, answer)),
      client: { ...bare, throttle: {}, bulkhead: { maxConcurrent: 1, maxQueued: 0 } },
    });
    for (let n = 0; n < 15; n += 1) {
      const running = start(method);
      await link.pass(1);
      const full = await link.until(start(method).ended);
      expect(reasonOf(full)).toBe("BULKHEAD_FULL");
      running.cancel();
      await link.until(running.ended);
      await link.pass(1);
    }
    expect(numbers(weir)).toMatchObject({ requests: { normal: 0 }, accepts: { normal: 0 } });
    expect((await call(method)).code).toBe(Status.OK);
    expect(numbers(weir)).toMatchObject({ requests: { normal: 1 }, accepts: { normal: 1 } });
  });

  it("does not take answers that the server worked for, or calls under way, for refusals", async () => {
    const server = failing(50, { code: Status.INTERNAL, details: "a bug" });
    const { start, link } = await scene({
      handlers: server.handlers,
      client: { ...bare, throttle: {} },
    });
    const ends = Array.from({ length: 100 }, () => start(method).ended);
    expect((await link.until(Promise.all(ends))).map(reasonOf)).toEqual(Array(100).fill(undefined));
  });

  it("refuses nobody while it observes, and tells what it would have held back", async () => {
    const server = failing(1e9, shed);
    const { call, decisions, weir } = await scene({
      handlers: server.handlers,
      client: { ...bare, throttle: { mode: "observe" } },
    });
    for (let n = 0; n < 30; n += 1) expect(reasonOf(await call(method))).toBeUndefined();
    expect(server.calls()).toBe(30);
    expect(decisions.length).toBeGreaterThan(12);
    expect(decisions[0]).toMatchObject({
      policy: "throttle",
      verdict: "reject",
      reason: "THROTTLED",
      enforced: false,
    });
    expect(numbers(weir)).toMatchObject({ requests: { normal: 30 }, accepts: { normal: 0 } });
    const refused = decisions.length;
    const ends = { success: 0, failure: refused, ignored: 0 };
    expect(weir.observed()).toEqual({ throttle: { THROTTLED: { refused, ...ends } } });
    weir.policy("throttle").mode = "off";
    await call(method);
    expect(numbers(weir)).toMatchObject({ requests: { normal: 30 } });
  });

  it("is not held against the target by those who observe: what it serves of all is what counts", async () => {
    let calls = 0;
    const { call, weir } = await scene({
      handlers: handlers((refuse, answer) => {
        calls += 1;
        if (calls % 2 === 0) refuse.fail(shed);
        else answer();
      }),
      client: { ...bare, throttle: { mode: "observe" } },
    });
    for (let n = 0; n < 100; n += 1) await call(method);
    // Half is served: a quarter is more than 1.5 times that. Refusals of our own would have driven it to the cap.
    expect(numbers(weir)?.rejectRatio.normal).toBeCloseTo(0.25, 1);
  });
});

describe.each(kinds)("the server's word for %s", (method) => {
  const slots = { limit: 5, maxQueued: 0 };
  const busy = { ...slots, thresholds: { low: 0.5 }, streams: slots };

  /** A server that calls of `high` keep so busy that it sheds `low`, until `calm` is called. */
  async function busyScene(
    options: { throttle?: ThrottlePolicyOptions | false; publish?: boolean } = {},
  ) {
    const { throttle: chosen = {}, publish = true } = options;
    const made = await scene({
      network: { latencyMs: 1 },
      client: { ...bare, throttle: chosen },
      server: { admission: { ...busy, publish } },
      handlers: handlers((_call, answer) => clock.schedule(40, answer)),
    });
    const { clock, start, weir, link } = made;
    const as = (priority: Priority) => start(method, weir.with({}, { priority })).ended;
    const others: Ended[] = [];
    let calm = false;
    const keepBusy = () => {
      if (calm) return;
      void as("high").then((end) => others.push(end));
      clock.schedule(10, keepBusy);
    };
    keepBusy();
    await link.pass(100);
    return {
      ...made,
      as,
      others,
      calm: () => {
        calm = true;
      },
    };
  }

  it("keeps low calls from being sent within a few calls, and lets them go within its time of the calm", async () => {
    const { as, link, clock, calm, others, weir, decisions } = await busyScene();
    const ends: Ended[] = [];
    for (let n = 0; n < 50; n += 1) {
      void as("low").then((end) => ends.push(end));
      await link.pass(20);
    }
    const remote = ends.filter((end) => reasonOf(end) === undefined);
    const local = ends.filter((end) => reasonOf(end) === "SERVER_SHEDDING");
    // Five refusals tell the server, five answers the client; after that, one each quarter of a second, and 1 %.
    expect(remote.length).toBeLessThan(30);
    expect(local.length + remote.length).toBe(ends.length);
    // But for the turns that low calls are owed, however many better ones come.
    const shed = remote.filter(({ code }) => code !== Status.OK);
    expect(remote.length - shed.length).toBeLessThanOrEqual(3);
    expect(shed.every((end) => rejectionOf(end.error ?? {})?.reason === "LOAD_SHED")).toBe(true);
    for (const { code, error } of local) {
      expect(code).toBe(Status.RESOURCE_EXHAUSTED);
      expect(rejectionOf(error ?? {})?.retryAfterMs).toBeGreaterThan(0);
      expect(rejectionOf(error ?? {})?.retryAfterMs).toBeLessThanOrEqual(1_000);
    }
    expect(others.every(({ code }) => code === Status.OK)).toBe(true);
    const levels = method === "unary" ? { level: 3 } : { level: undefined, streamLevel: 3 };
    expect(numbers(weir)).toMatchObject({ ...levels, heldBack: local.length, throttled: 0 });
    expect(decisions).toContainEqual(
      expect.objectContaining({ policy: "throttle", reason: "SERVER_SHEDDING", enforced: true }),
    );
    calm();
    await link.pass(60);
    const beganMs = clock.now();
    while ((await link.until(as("low"))).code !== Status.OK) await link.pass(10);
    await link.until(as("low"));
    while ((await link.until(as("low"))).code !== Status.OK) await link.pass(10);
    expect(clock.now() - beganMs).toBeLessThanOrEqual(1_000);
    await link.pass(300);
    expect(
      (await link.until(Promise.all([as("low"), as("low"), as("low")]))).map(({ code }) => code),
    ).toEqual([0, 0, 0]);
    expect(numbers(weir)).toMatchObject({ level: undefined, streamLevel: undefined });
    expect(clock.pending.refs).toBe(0);
  });

  it("stands in the trailers of OK and of refused calls while something is shed, and at no other time", async () => {
    const { as, link, others, calm } = await busyScene({ throttle: false });
    const said = ({ trailers }: Ended) => trailers.get(admissionKey);
    expect(others.flatMap(said)).toEqual([]);
    const refused: Ended[] = [];
    for (let n = 0; n < 10; n += 1) refused.push(await link.until(as("low")));
    const value = ["v=1;level=3;ttl-ms=1000"];
    expect(refused.slice(0, 4).flatMap(said)).toEqual([]);
    expect(refused.slice(4).map(said)).toEqual(Array(6).fill(value));
    const served = await link.until(as("high"));
    expect(served.code).toBe(Status.OK);
    expect(said(served)).toEqual(value);
    calm();
    await link.pass(1_100);
    expect(said(await link.until(as("low")))).toEqual([]);
  });

  it("is not said with publish: false, nor by an admission that observes", async () => {
    const { as, link, weir, others } = await busyScene({ publish: false });
    for (let n = 0; n < 20; n += 1) await link.until(as("low"));
    expect(others.flatMap(({ trailers }) => trailers.get(admissionKey))).toEqual([]);
    const observing = await busyScene();
    observing.weir.policy("admission").mode = "observe";
    for (let n = 0; n < 20; n += 1) void observing.as("low");
    await observing.link.pass(100);
    expect(observing.others.flatMap(({ trailers }) => trailers.get(admissionKey))).toEqual([]);
    expect(weir.snapshot().waiting).toBe(0);
  });

  it("never holds critical calls back, nor those whose priority is the server's to choose", async () => {
    const answers = level("v=1;level=1;ttl-ms=2000");
    const { call, weir } = await scene({
      handlers: handlers((refuse) =>
        refuse.fail({ ...shed, code: Status.NOT_FOUND, metadata: answers }),
      ),
      client: { ...bare, throttle: { passShare: 0 } },
    });
    const as = (priority: Priority) => call(method, weir.with({}, { priority }));
    for (let n = 0; n < 5; n += 1) await as("low");
    expect(reasonOf(await as("low"))).toBe("SERVER_SHEDDING");
    expect(reasonOf(await as("high"))).toBe("SERVER_SHEDDING");
    expect(reasonOf(await as("critical"))).toBeUndefined();
    expect(reasonOf(await call(method))).toBeUndefined();
  });

  it("of one server does not stop calls to another behind the same target", async () => {
    const answers = level("v=1;level=3;ttl-ms=2000");
    let calls = 0;
    const { call, weir } = await scene({
      handlers: handlers((refuse, answer) => {
        calls += 1;
        if (calls % 3 === 0) answer();
        else refuse.fail({ ...shed, metadata: answers });
      }),
      client: { ...bare, throttle: { passShare: 0 } },
    });
    const ends: Ended[] = [];
    for (let n = 0; n < 90; n += 1)
      ends.push(await call(method, weir.with({}, { priority: "low" })));
    expect(ends.map(reasonOf)).toEqual(Array(90).fill(undefined));
    expect(ends.filter(({ code }) => code === Status.OK).length).toBe(30);
  });

  it("does not count against the target when it explains a refusal, and does when it does not", async () => {
    const answers = level("v=1;level=3;ttl-ms=2000");
    const { call, weir } = await scene({
      handlers: handlers((refuse) => refuse.fail({ ...shed, metadata: answers })),
      client: { ...bare, throttle: {} },
    });
    for (let n = 0; n < 4; n += 1) {
      await call(method, weir.with({}, { priority: "low" }));
      await call(method, weir.with({}, { priority: "normal" }));
    }
    expect(numbers(weir)).toMatchObject({
      requests: { low: 0, normal: 4 },
      accepts: { low: 0, normal: 0 },
    });
  });

  it("reads as absent when it is nonsense, and is not listened to with collaborative: false", async () => {
    for (const [value, collaborative] of [
      ["v=1;level=0;ttl-ms=2000", true],
      [`v=1;level=3;ttl-ms=2000;${"x".repeat(5_000)}`, true],
      ["v=1;level=3;ttl-ms=2000", false],
    ] as const) {
      const { call, weir } = await scene({
        handlers: handlers((refuse) =>
          refuse.fail({ code: Status.NOT_FOUND, details: "", metadata: level(value) }),
        ),
        client: { ...bare, throttle: { collaborative } },
      });
      for (let n = 0; n < 20; n += 1) {
        const { code } = await call(method, weir.with({}, { priority: "low" }));
        expect(code).toBe(Status.NOT_FOUND);
      }
    }
  });

  it("does not travel up: what a handler passes on says nothing of its own server", async () => {
    const answers = level("v=1;level=3;ttl-ms=2000");
    const { call } = await scene({
      server: {},
      handlers: handlers((refuse) => refuse.fail({ ...shed, metadata: answers })),
      client: bare,
    });
    const { code, trailers } = await call(method);
    expect(code).toBe(Status.RESOURCE_EXHAUSTED);
    expect(trailers.get(admissionKey)).toEqual([]);
    expect(answers.get(admissionKey).length).toBe(1);
  });

  it("only tells what it would have held back while the throttle observes", async () => {
    const { as, link, weir, decisions } = await busyScene();
    weir.policy("throttle").mode = "observe";
    const ends: Ended[] = [];
    for (let n = 0; n < 40; n += 1) ends.push(await link.until(as("low")));
    expect(ends.map(reasonOf)).toEqual(Array(40).fill(undefined));
    const told = decisions.filter(({ policy }) => policy === "throttle");
    expect(told.length).toBeGreaterThan(20);
    expect(new Set(told.map(({ reason, enforced }) => `${reason} ${enforced}`))).toEqual(
      new Set(["SERVER_SHEDDING false"]),
    );
    expect(numbers(weir)?.throttled).toBe(0);
    const { refused, success, failure, ignored } =
      weir.observed().throttle?.SERVER_SHEDDING ?? raise();
    expect(refused).toBe(told.length);
    expect(success + failure + ignored).toBe(refused);
  });
});

function raise(): never {
  throw new Error("nothing was observed");
}

it("keeps the server's word for calls from streams, which have slots of their own, and the other way round", async () => {
  const said = level("v=1;level=3;ttl-ms=2000");
  const { call, weir } = await scene({
    handlers: {
      ...echo,
      unary: (_call, callback) => callback({ ...shed, metadata: said }),
      serverStream: (stream) => stream.emit("error", { ...shed, metadata: said }),
    },
    client: { ...bare, throttle: { passShare: 0 } },
  });
  const low = weir.with({}, { priority: "low" });
  for (let n = 0; n < 5; n += 1) await call("unary", low);
  expect(reasonOf(await call("unary", low))).toBe("SERVER_SHEDDING");
  expect((await call("bidiStream", low)).code).toBe(Status.OK);
  for (let n = 0; n < 5; n += 1) await call("serverStream", low);
  expect(reasonOf(await call("bidiStream", low))).toBe("SERVER_SHEDDING");
  expect(numbers(weir)).toMatchObject({ level: 3, streamLevel: 3, heldBack: 2 });
});

it("ends a retry with what the server said last, once it is held back", async () => {
  const server = failing(1e9, { code: Status.UNAVAILABLE, details: "down" });
  const { call, decisions } = await scene({
    handlers: server.handlers,
    client: {
      breaker: false,
      retry: { maxAttempts: 5, idempotent: true, backoff: { baseMs: 1 }, budget: false },
      throttle: { minCalls: 3, maxRefusedShare: 1 },
    },
  });
  const { code, details } = await call("unary");
  expect([code, details]).toEqual([Status.UNAVAILABLE, "down"]);
  expect(server.calls()).toBe(3);
  expect(decisions.map(({ reason }) => reason)).toContain("THROTTLED");
});

it("has state of its own for each key", async () => {
  const server = failing(1e9, shed);
  const { call, weir } = await scene({
    handlers: server.handlers,
    client: { ...bare, throttle: { key: ({ method }) => method, maxRefusedShare: 1 } },
  });
  for (let n = 0; n < 50; n += 1) await call("unary");
  expect(reasonOf(await call("bidiStream"))).toBeUndefined();
  const [first] = weir.policy("throttle").snapshot();
  expect(Object.keys(first?.throttles ?? {}).toSorted()).toEqual([
    "/weir.v1.ConformanceService/BidiStream",
    "/weir.v1.ConformanceService/Unary",
  ]);
});

it("works as an interceptor of its own, and refuses options that make no sense", async () => {
  const server = failing(1e9, shed);
  const { call } = await scene({
    handlers: server.handlers,
    client: bare,
    ownClient: {
      interceptors: [throttle({ minCalls: 1, maxRefusedShare: 1, random: () => 0.5 })],
    },
  });
  await call("unary");
  const ends: Ended[] = [];
  for (let n = 0; n < 30; n += 1) ends.push(await call("unary"));
  expect(ends.map(reasonOf)).toContain("THROTTLED");
  expect(() => throttle({ k: 1 })).toThrow("throttle.k must be a number above 1");
  await expect(scene({ client: { throttle: { k: 0 } } })).rejects.toThrow("client.throttle.k");
});

it("never asks what it should not: unary answers pass it untouched", async () => {
  const { call } = await scene({ handlers: echo, client: { ...bare, throttle: {} } });
  expect((await call("unary")).received).toEqual([3]);
});
