import { Metadata, type ServerInterceptor, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { refusal } from "../../../src/core/permit.js";
import type { Priority } from "../../../src/core/priority.js";
import { admissionKey, noteOwnAdmission } from "../../../src/grpc/metadata.js";
import { localRejection, rejectionOf } from "../../../src/grpc/status/rejection.js";
import { noteCopied, relayed, retriesExhausted } from "../../../src/grpc/status/relay.js";
import * as server from "../../../src/server.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { type Ended, handlers, kinds, scene } from "../../scene.js";

const said = ({ trailers }: Ended) => trailers.get(admissionKey);

/** High calls take all slots that low ones could have; low ones that wait do so in vain. */
async function scarce(pool: { limit: number; maxQueued: number; maxWaitMs: number }) {
  const made = await scene({
    client: { retry: false, breaker: false },
    server: { admission: { ...pool, thresholds: false, publish: true, streams: pool } },
    handlers: handlers((_call, answer) => clock.schedule(40, answer)),
  });
  const { clock, start, weir, link } = made;
  const as = (method: (typeof kinds)[number], priority: Priority) =>
    start(method, weir.with({}, { priority })).ended;
  /** So many calls in a row, each while two of `high` hold and want the slots. */
  const crowd = async (method: (typeof kinds)[number], times: number) => {
    const ends: Ended[] = [];
    for (let n = 0; n < times; n += 1) {
      void as(method, "high");
      void as(method, "high").then((end) => ends.push(end));
      void as(method, "low").then((end) => ends.push(end));
      await link.pass(40);
    }
    await link.pass(200);
    return ends;
  };
  return { ...made, as, crowd };
}

describe.each(kinds)("the admission that callers of %s are told", (method) => {
  it("counts those who waited in vain, and those whose place was taken", async () => {
    for (const maxQueued of [4, 1]) {
      const { crowd } = await scarce({ limit: 2, maxQueued, maxWaitMs: 30 });
      const ends = await crowd(method, 12);
      expect(ends.flatMap(said)).toContain("v=1;level=3;ttl-ms=1000");
      expect(new Set(ends.map(({ code }) => code))).toEqual(
        new Set([Status.OK, Status.RESOURCE_EXHAUSTED]),
      );
    }
  });

  it("says nothing of a server that drains", async () => {
    const { as, link, weir } = await scarce({ limit: 10, maxQueued: 0, maxWaitMs: 0 });
    const served = as(method, "high");
    await link.pass(1);
    // They are on the wire when the server begins to drain.
    const sent = Array.from({ length: 10 }, () => as(method, "low"));
    weir.close();
    const refused = await link.until(Promise.all(sent));
    expect(rejectionOf(refused[0]?.error ?? {})?.reason).toBe("DRAINING");
    expect(said(await link.until(served))).toEqual([]);
    expect(refused.flatMap(said)).toEqual([]);
  });

  it("says nothing once it observes, and does not learn from what it would have refused", async () => {
    const { as, crowd, link, weir } = await scarce({ limit: 2, maxQueued: 0, maxWaitMs: 0 });
    expect((await crowd(method, 8)).flatMap(said)).not.toEqual([]);
    const admission = weir.policy("admission");
    admission.mode = "observe";
    expect(said(await link.until(as(method, "low")))).toEqual([]);
    await link.pass(1_100);
    expect((await crowd(method, 8)).flatMap(said)).toEqual([]);
    admission.mode = "enforce";
    expect(said(await link.until(as(method, "low")))).toEqual([]);
  });
});

describe("while a level is told", () => {
  /** A quota behind admission refuses every call; those that wait for admission in vain have a level told. */
  async function behind(before: (clock: VirtualClock) => ServerInterceptor[], weirServer: boolean) {
    const clock = new VirtualClock();
    const pool = { limit: 2, maxQueued: 0, thresholds: false, publish: true } as const;
    const quota = server.quota({ clock, ratePerSecond: 0.001, burst: 30 });
    const made = await scene({
      clock,
      client: { retry: false, breaker: false },
      ...(weirServer
        ? { server: { admission: pool }, ownServer: { interceptors: [quota] } }
        : {
            ownServer: {
              interceptors: [...before(clock), server.admission({ ...pool, clock }), quota],
            },
          }),
      handlers: handlers((_call, answer) => clock.schedule(40, answer)),
    });
    const as = (priority: Priority) => made.start("unary", made.weir.with({}, { priority })).ended;
    const ends: Ended[] = [];
    for (let round = 0; round < 40; round += 1) {
      for (const priority of ["high", "high", "low"] as const) {
        void as(priority).then((end) => ends.push(end));
      }
      await made.link.pass(40);
    }
    await made.link.pass(200);
    return ends;
  }

  it("a refusal behind admission keeps its pushback, and is no refusal of a service below", async () => {
    const ends = await behind(() => [], true);
    const quotas = ends.filter(({ details }) => details.startsWith("Rate limit"));
    expect(quotas.flatMap(said)).not.toEqual([]);
    for (const { trailers, error } of quotas) {
      expect(trailers.get("grpc-retry-pushback-ms")).toHaveLength(1);
      expect(rejectionOf(error)).toMatchObject({ reason: "RATE_LIMIT_EXCEEDED", hops: 0 });
    }
  });

  it("another policy in front of admission lets that one's level and pushback through", async () => {
    const before = (clock: VirtualClock) => [
      server.context({ clock }),
      server.deadlineGuard({ clock }),
    ];
    const ends = await behind(before, false);
    const answered = (code: Status) => ends.filter((end) => end.code === code);
    expect(answered(Status.OK).flatMap(said)).not.toEqual([]);
    const refused = answered(Status.RESOURCE_EXHAUSTED);
    expect(refused.flatMap(said)).not.toEqual([]);
    for (const { trailers, error } of refused) {
      expect(trailers.get("grpc-retry-pushback-ms")).toHaveLength(1);
      expect(rejectionOf(error)?.hops).toBe(0);
    }
  });
});

describe("the level", () => {
  it("is told also where calls wait for a quota before they come to admission", async () => {
    const made = await scene({
      client: { retry: false, breaker: false },
      server: {
        quota: {
          key: ({ priority }) => priority,
          ratePerSecond: 100,
          burst: 1,
          maxWaitMs: 10_000,
          maxQueued: 1_000,
        },
        admission: { limit: 10, maxQueued: 0, publish: true },
      },
      handlers: handlers((_call, answer) => made.clock.schedule(200, answer)),
    });
    const as = (priority: Priority) => made.start("unary", made.weir.with({}, { priority })).ended;
    // All at once: the last of them come to admission after four seconds.
    const ends: Ended[] = [];
    const calls = Array.from({ length: 800 }, (_, n) =>
      as(n % 2 === 0 ? "high" : "low").then((end) => ends.push(end)),
    );
    await made.link.until(Promise.all(calls), 1e9);
    expect(ends.slice(-200).flatMap(said)).not.toEqual([]);
  });
});

describe("a status to which a policy has added something", () => {
  const call = { answeredByPolicy: false, failuresBelow: undefined };
  const copied = (metadata: Metadata) => {
    const copy = metadata.clone();
    copy.set(admissionKey, "v=1;level=3;ttl-ms=1000");
    noteOwnAdmission(copy);
    noteCopied(copy, metadata);
    return copy;
  };

  it("still says that the toolkit has given up retrying below", () => {
    const below = { code: Status.UNAVAILABLE, details: "down", metadata: new Metadata() };
    below.metadata.set("grpc-retry-pushback-ms", "10");
    const given = retriesExhausted(below);
    const { metadata } = relayed({ ...given, metadata: copied(given.metadata) }, call);
    expect(rejectionOf({ metadata })).toMatchObject({ reason: "RETRY_EXHAUSTED_BELOW", hops: 1 });
    expect(metadata?.get("grpc-retry-pushback-ms")).toEqual([]);
    expect(metadata?.get(admissionKey)).toEqual(["v=1;level=3;ttl-ms=1000"]);
  });

  it("still counts the hops of a refusal of this process from one", () => {
    const given = localRejection(refusal("BREAKER_OPEN", ""));
    const { metadata } = relayed({ ...given, metadata: copied(given.metadata) }, call);
    expect(rejectionOf({ metadata })).toMatchObject({ reason: "BREAKER_OPEN", hops: 1 });
  });
});
