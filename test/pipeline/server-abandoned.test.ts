import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { ServerPolicy } from "../../src/pipeline/server.js";
import { handlers, scene } from "../scene.js";

const bare = { retry: false, breaker: false } as const;
const workMs = 100;

/** A server whose handlers take 100 ms whether their callers stay or not, and end as `end` says. */
async function busyScene(server: ServerPolicy, end: "ok" | "error" | "never" = "ok") {
  let ends = end;
  let takesMs = workMs;
  let working = 0;
  let most = 0;
  const told = await scene({
    client: bare,
    server,
    handlers: handlers((call, answer) => {
      working += 1;
      most = Math.max(most, working);
      const how = ends;
      told.clock.schedule(takesMs, () => {
        working -= 1;
        if (how === "ok") answer();
        else if (how === "error") call.fail({ code: Status.INTERNAL, details: "too late" });
      });
    }),
  });
  const { start, clock, link } = told;
  /** So many calls come, one after the other, and each caller leaves soon. */
  const comeAndGo = async (count: number, afterMs = 2) => {
    for (let index = 0; index < count; index += 1) {
      const { cancel, ended } = start("unary");
      await clock.pass(afterMs);
      cancel();
      await link.until(ended);
    }
  };
  const become = (next: typeof end) => {
    ends = next;
  };
  const take = (ms: number) => {
    takesMs = ms;
  };
  return { ...told, comeAndGo, become, take, mostWorking: () => most };
}

describe.each(["ok", "error"] as const)("a handler that works on for nobody and ends %s", (end) => {
  it("keeps its slot until then, so that callers who come and go cannot have more work done than the limit", async () => {
    const { call, comeAndGo, clock, weir, mostWorking } = await busyScene(
      { admission: { limit: 3, maxQueued: 0, thresholds: false } },
      end,
    );
    const slots = () => weir.policy("admission").snapshot()[0];
    await call("unary");
    await comeAndGo(20);
    expect(mostWorking()).toBe(3);
    expect(slots()).toMatchObject({ running: 3, abandoned: 3 });
    expect((await call("unary")).code).toBe(Status.RESOURCE_EXHAUSTED);
    await clock.pass(workMs);
    expect(slots()).toMatchObject({ running: 0, abandoned: 0 });
    expect(clock.pending.refs).toBe(0);
  });

  it("gives its slot back the moment it answers", async () => {
    const { call, start, clock, link, weir } = await busyScene(
      { admission: { limit: 3 }, bulkhead: { maxConcurrent: 3, maxQueued: 0 } },
      end,
    );
    await call("unary");
    const { cancel, ended } = start("unary");
    await clock.pass(workMs / 2);
    cancel();
    await link.until(ended);
    await clock.pass(workMs / 4);
    expect(weir.snapshot()).toMatchObject({
      policies: { admission: { instances: [{ running: 1 }] } },
    });
    await clock.pass(workMs / 4 + 5);
    expect(JSON.stringify(weir.snapshot())).not.toMatch(/"(running|abandoned|inFlight)":[1-9]/);
  });

  it("keeps its place in a server bulkhead", async () => {
    const { call, comeAndGo, clock, mostWorking } = await busyScene(
      { bulkhead: { maxConcurrent: 3, maxQueued: 0 } },
      end,
    );
    await call("unary");
    await comeAndGo(20);
    expect(mostWorking()).toBe(3);
    await clock.pass(workMs);
    expect((await call("unary")).code).not.toBe(Status.RESOURCE_EXHAUSTED);
  });
});

describe("a handler that never says that it has ended", () => {
  it("keeps the slot for a second or twice as long as calls take, and others come in then", async () => {
    const { call, comeAndGo, become, clock, weir } = await busyScene({
      admission: { limit: 2, maxQueued: 0, thresholds: false },
      bulkhead: { maxConcurrent: 2, maxQueued: 0 },
    });
    const slots = () => weir.policy("admission").snapshot()[0];
    for (let index = 0; index < 5; index += 1) await call("unary");
    become("never");
    await comeAndGo(2);
    await clock.pass(970);
    expect(slots()).toMatchObject({ running: 2 });
    await clock.pass(40);
    expect(slots()).toMatchObject({ running: 0 });
    become("ok");
    expect((await call("unary")).code).toBe(Status.OK);
  });

  it("gives nothing back a second time when it does say so in the end", async () => {
    const { call, comeAndGo, take, clock, weir } = await busyScene({
      admission: { limit: 2, maxQueued: 0, thresholds: false },
      bulkhead: { maxConcurrent: 2, maxQueued: 0 },
    });
    for (let index = 0; index < 5; index += 1) await call("unary");
    take(5 * workMs);
    await comeAndGo(2);
    await clock.pass(6 * workMs);
    expect(weir.policy("admission").snapshot()[0]).toMatchObject({ running: 0, abandoned: 0 });
    expect(JSON.stringify(weir.snapshot())).not.toMatch(/"(running|abandoned|inFlight)":-/);
  });

  it("does not make the server believe that calls take longer, or are done sooner", async () => {
    const { call, comeAndGo, become, clock, weir } = await busyScene({
      admission: { limit: 2, maxQueued: 0, thresholds: false },
    });
    for (let index = 0; index < 5; index += 1) await call("unary");
    become("never");
    for (let round = 0; round < 3; round += 1) {
      await comeAndGo(1, 60);
      await clock.pass(1_010);
    }
    // Handlers of this kind stop without a word: they are counted for no longer than they may take.
    for (let round = 0; round < 20; round += 1) {
      await comeAndGo(1, 60);
      await clock.pass(workMs + 10);
      expect(weir.policy("admission").snapshot()[0]).toMatchObject({ running: 0 });
    }
    await comeAndGo(1);
    await clock.pass(workMs - 20);
    expect(weir.policy("admission").snapshot()[0]).toMatchObject({ running: 1 });
  });
});

it("a call that runs out of time keeps the slot that its handler still uses", async () => {
  const { start, clock, link, weir } = await busyScene({ admission: { limit: 2, maxQueued: 0 } });
  const slots = () => weir.policy("admission").snapshot()[0];
  const { ended } = start("unary", { deadline: clock.wallNow() + 20 });
  expect((await link.until(ended)).code).toBe(Status.DEADLINE_EXCEEDED);
  await clock.pass(10);
  expect(slots()).toMatchObject({ running: 1, abandoned: 1 });
  await clock.pass(workMs);
  expect(slots()).toMatchObject({ running: 0, abandoned: 0 });
});

it("a stream whose caller leaves gives its slot back at once: its handler hears of it, and has nothing more to say", async () => {
  const { start, clock, link, weir } = await busyScene({ admission: { streams: "together" } });
  for (const kind of ["clientStream", "serverStream", "bidiStream"] as const) {
    const { cancel, ended } = start(kind);
    await clock.pass(5);
    cancel();
    await link.until(ended);
    await clock.pass(1);
    expect(weir.policy("admission").snapshot()[0]).toMatchObject({ running: 0, abandoned: 0 });
  }
});
