import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { IdempotencyKeyOptions } from "../../../src/policies/idempotency/client.js";
import { HonouredKeys } from "../../../src/policies/idempotency/honours.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { FaultyStore, keyedScene, memoryStore, type Run } from "./server-scene.js";

/** A client that retries ABORTED, of methods that may run twice. This one may not, as far as is known. */
async function learning(
  idempotencyKey: IdempotencyKeyOptions = {},
  answer: (run: Run, fails: boolean) => void = (run, fails) =>
    fails ? run.fail(Status.ABORTED) : run.ok(),
) {
  let failing = 0;
  const joined = await keyedScene({
    client: {
      breaker: false,
      idempotencyKey,
      retry: { idempotent: false, codes: [Status.ABORTED], backoff: { baseMs: 1, maxMs: 1 } },
    },
    idempotency: { key: "optional" },
    atOnce: (run) => {
      failing -= 1;
      answer(run, failing >= 0);
    },
  });
  const { ask, weir, runs } = joined;
  return {
    ...joined,
    /** Whether a call is retried whose first attempt fails. */
    retries: async (): Promise<boolean> => {
      const before = runs.length;
      failing = 1;
      const { code } = await ask(undefined);
      expect(code).toBe(runs.length - before > 1 ? Status.OK : Status.ABORTED);
      return code === Status.OK;
    },
    /** The server runs a version without the policy, or with it again. */
    policy: (mode: "enforce" | "off") => {
      weir.policy("idempotency").mode = mode;
    },
  };
}

describe("a client that sends keys", () => {
  it("retries as soon as the server says that it honours them, in the failed answer itself", async () => {
    const { retries } = await learning();
    expect(await retries()).toBe(true);
  });

  it("retries when the answer to its call could not be stored, and gets that answer", async () => {
    const clock = new VirtualClock();
    const store = new FaultyStore(memoryStore(clock));
    store.faulty = (method) => method === "complete" && store.asked.length < 4;
    store.fault = "reject";
    const { ask, runs } = await keyedScene({
      clock,
      client: { breaker: false, idempotencyKey: {}, retry: { idempotent: false } },
      idempotency: { store },
      atOnce: (run) => run.ok(),
      onError: () => {},
    });
    const ended = await ask(undefined);
    expect(ended).toMatchObject({ code: Status.OK, received: [101] });
    expect(ended.trailers.get("x-weir-replayed")).toEqual(["true"]);
    expect(runs).toHaveLength(1);
  });

  it("does not retry while the server says nothing of keys", async () => {
    const { retries, policy, ask } = await learning();
    policy("off");
    expect(await retries()).toBe(false);
    expect((await ask(undefined)).code).toBe(Status.OK);
    expect(await retries()).toBe(false);
  });

  it("remembers what an earlier answer said, for a minute", async () => {
    const { retries, policy, ask, clock } = await learning();
    await ask(undefined);
    policy("off");
    expect(await retries()).toBe(true);
    // The retry was answered OK without the mark: the server has been rolled back.
    expect(await retries()).toBe(false);
    policy("enforce");
    // Only some servers honour keys, as it seems.
    expect((await ask(undefined)).code).toBe(Status.OK);
    expect(await retries()).toBe(false);
    await clock.pass(61_000);
    expect((await ask(undefined)).code).toBe(Status.OK);
    policy("off");
    await clock.pass(61_000);
    expect(await retries()).toBe(false);
  });

  it("believes its options rather than the server", async () => {
    const never = await learning({ honoured: false });
    await never.ask(undefined);
    expect(await never.retries()).toBe(false);
    const always = await learning({ honoured: true });
    always.policy("off");
    expect(await always.retries()).toBe(true);
    expect(await always.retries()).toBe(true);
  });

  it("learns nothing from a mark that a handler passes on", async () => {
    const marked = new Metadata();
    marked.set("x-weir-idempotency", "honoured");
    const { retries, policy } = await learning({}, (run, fails) =>
      fails
        ? run.fail(Status.ABORTED, "from below", marked)
        : run.answer(null, { payload: Buffer.alloc(0), sequence: 1 }, marked),
    );
    policy("off");
    expect(await retries()).toBe(false);
    expect(await retries()).toBe(false);
  });

  it("learns nothing for calls without a key", async () => {
    const { runs, retries, ask, weir } = await learning({ source: () => undefined });
    await ask(undefined);
    expect(await retries()).toBe(false);
    expect(runs).toHaveLength(2);
    expect(weir.policy("idempotency").snapshot()).toMatchObject([{ started: 0 }]);
  });
});

describe("what a client knows of the servers that honour keys", () => {
  it("is by target", () => {
    const known = new HonouredKeys(new VirtualClock());
    known.note("a", true);
    expect(known.honours("a")).toBe(true);
    expect(known.honours("b")).toBe(false);
  });

  it("is renewed by each answer, and forgotten a minute after the last", () => {
    const clock = new VirtualClock();
    const known = new HonouredKeys(clock);
    known.note("a", true);
    clock.advance(59_999);
    expect(known.honours("a")).toBe(true);
    known.note("a", true);
    clock.advance(59_999);
    expect(known.honours("a")).toBe(true);
    clock.advance(1);
    expect(known.honours("a")).toBe(false);
  });

  it("is nothing for a minute after an answer without the mark", () => {
    const clock = new VirtualClock();
    const known = new HonouredKeys(clock);
    known.note("a", true);
    known.note("a", false);
    expect(known.honours("a")).toBe(false);
    clock.advance(59_999);
    known.note("a", true);
    expect(known.honours("a")).toBe(false);
    clock.advance(1);
    expect(known.honours("a")).toBe(true);
  });
});
