import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { ControlledName } from "../../src/core/control.js";
import { InvalidOptionError } from "../../src/core/options.js";
import type { ClientPolicy } from "../../src/pipeline/client.js";
import type { PolicyEvent } from "../../src/pipeline/policy-set.js";
import type { ServerPolicy } from "../../src/pipeline/server.js";
import { staticValue } from "../../src/policies/fallback/client-providers.js";
import { createWeir } from "../../src/weir.js";
import { livePolicies, type Policies } from "../live-policies.js";
import { handlers, kinds, path, payload, scene } from "../scene.js";

const unary = path.unary.slice(1);

/** A client and a server whose policies come from data alone, and are replaced. */
async function liveScene(first: Policies, ms = 0) {
  const live = livePolicies(first);
  const events: PolicyEvent[] = [];
  const errors: unknown[] = [];
  let failing = 0;
  const world = await scene({
    client: {},
    server: {},
    policies: live.source,
    onPolicies: (event) => events.push(event),
    onError: (error) => void errors.push(error),
    handlers: handlers((call, answer) => {
      if (failing > 0) {
        failing -= 1;
        call.fail({ code: Status.UNAVAILABLE, details: "failing" });
      } else if (ms === 0) answer();
      else world.clock.schedule(ms, answer);
    }),
  });
  const instances = (name: ControlledName) =>
    (world.weir.snapshot().policies[name]?.instances ??
      []) as readonly object[] as readonly Readonly<Record<string, unknown>>[];
  const fail = (times: number) => {
    failing = times;
  };
  return { ...world, ...live, events, errors, instances, fail };
}

describe("policies that are replaced while calls run", () => {
  it.each(kinds)(
    "hold for the next call, and those under way end as they began (%s)",
    async (kind) => {
      const client = (defaultMs: number): ClientPolicy => ({ deadline: { defaultMs } });
      const { call, start, replace, link, clock } = await liveScene({ client: client(5_000) }, 100);
      const before = start(kind);
      await link.pass(10);
      replace({ client: client(50) });
      const beganMs = clock.now();
      expect((await call(kind)).code).toBe(Status.DEADLINE_EXCEEDED);
      expect(clock.now() - beganMs).toBeLessThanOrEqual(60);
      expect((await link.until(before.ended, 1_000)).code).toBe(Status.OK);
    },
  );

  it.each(kinds)("keep an open breaker open, with the time that it has left (%s)", async (kind) => {
    const breaker = { consecutiveFailures: 2, openMs: 10_000, openJitter: 0 };
    const of = (openMs: number) =>
      ({ client: { retry: false, breaker: { ...breaker, openMs } } }) as const;
    const { call, replace, fail, link, instances } = await liveScene(of(10_000));
    fail(2);
    await call(kind);
    await call(kind);
    replace(of(100));
    const refused = await call(kind);
    expect(refused.details).toMatch(/2 failures in a row/);
    expect(instances("breaker")).toHaveLength(1);
    await link.pass(10_000);
    expect((await call(kind)).code).toBe(Status.OK);
  });

  it.each(kinds)(
    "keep the slots that calls hold, and serve those that wait by the new numbers (%s)",
    async (kind) => {
      const of = (limit: number): { server: ServerPolicy } => ({
        server: { admission: { limit, maxQueued: 5, maxWaitMs: 5_000, streams: "together" } },
      });
      const { start, replace, link, weir } = await liveScene(of(1), 1_000);
      const calls = [start(kind), start(kind), start(kind)];
      await link.pass(100);
      const admission = () => weir.snapshot().policies.admission?.instances[0];
      expect(admission()).toMatchObject({ limit: 1, running: 1, queued: 2 });
      replace(of(2));
      expect(admission()).toMatchObject({ limit: 2, running: 2, queued: 1 });
      replace(of(1));
      expect(admission()).toMatchObject({ limit: 1, running: 2, queued: 1 });
      const ends = await link.until(Promise.all(calls.map(({ ended }) => ended)), 10_000);
      expect(ends.map(({ code }) => code)).toEqual([Status.OK, Status.OK, Status.OK]);
      expect(admission()).toMatchObject({ running: 0, queued: 0 });
    },
  );

  it("come and go, and leave the snapshot when they have gone", async () => {
    const { call, replace, instances } = await liveScene({});
    await call("unary");
    expect(instances("bulkhead")).toEqual([]);
    replace({
      client: {
        bulkhead: { maxConcurrent: 3 },
        methods: { [unary]: { bulkhead: { maxConcurrent: 1 } } },
      },
      server: { bulkhead: {}, quota: [{ ratePerSecond: 1 }, { ratePerSecond: 2 }] },
    });
    await call("unary");
    await call("serverStream");
    expect(instances("bulkhead").map(({ name }) => name)).toEqual(["client", unary, "server"]);
    expect(instances("quota").map(({ admitted }) => admitted)).toEqual([2, 2]);
    replace({ client: { breaker: false }, server: { quota: { ratePerSecond: 5 } } });
    expect(instances("bulkhead")).toEqual([]);
    expect(instances("breaker")).toEqual([]);
    expect(instances("quota")).toMatchObject([{ ratePerSecond: 5, admitted: 2 }]);
  });

  it("share what they shared, and have state of their own where they are named anew", async () => {
    const breaker = { consecutiveFailures: 1, openMs: 10_000 };
    const { call, replace, fail } = await liveScene({ client: { retry: false, breaker } });
    fail(1);
    await call("unary");
    const own = { consecutiveFailures: 5 };
    replace({ client: { retry: false, breaker, methods: { [unary]: { breaker: own } } } });
    // The breaker of the client stays open for the other methods; that of this method is new.
    expect((await call("unary")).code).toBe(Status.OK);
    expect((await call("serverStream")).code).toBe(Status.UNAVAILABLE);
    replace({ client: { retry: false, breaker } });
    expect((await call("unary")).code).toBe(Status.UNAVAILABLE);
  });

  it("are refused as a whole when a part of them is wrong, and the last good ones hold", async () => {
    const good = { client: { deadline: { defaultMs: 100 } }, server: { bulkhead: {} } };
    const { call, replace, events, errors, instances, weir } = await liveScene(good, 200);
    const guard = weir.guard("db", { bulkhead: { maxConcurrent: 2 } });
    replace({
      client: { deadline: { defaultMs: 5_000 } },
      server: {},
      guards: { db: { bulkhead: { maxQueued: -1 } } },
    });
    expect(events).toMatchObject([{ kind: "refused", source: "test" }]);
    expect(String(errors)).toMatch(/guard\("db"\)\.bulkhead\.maxQueued must be a whole number/);
    expect((await call("unary")).code).toBe(Status.DEADLINE_EXCEEDED);
    expect(instances("bulkhead").map(({ name }) => name)).toEqual(["server", "db"]);
    await guard.run(() => 1);
    replace({ client: {} });
    expect(events).toMatchObject([{ kind: "refused" }, { kind: "applied", changes: [] }]);
    expect((await call("unary")).code).toBe(Status.OK);
  });

  it("have the mode of the newer options, unless one was set by hand", async () => {
    const of = (mode: "observe" | "enforce") => ({ client: { breaker: { mode } } });
    const { replace, weir } = await liveScene(of("observe"));
    const modeNow = () => weir.snapshot().policies.breaker?.mode;
    replace(of("enforce"));
    const { breaker } = weir.snapshot().policies;
    expect(breaker?.instances).toHaveLength(1);
    weir.policy("breaker").mode = "off";
    replace(of("observe"));
    expect(modeNow()).toBe("off");
  });

  it("are laid under the code as it was when the client was built", async () => {
    const live = livePolicies({ client: { retry: { maxAttempts: 2 } } });
    const weir = createWeir({ policies: live.source });
    const code = { retry: { maxDepth: 2 }, methods: {} };
    const inUse = weir.client(code);
    code.retry.maxDepth = 99;
    live.replace({ client: { retry: { maxAttempts: 4, maxDepth: 7 } } });
    expect(weir.explainPolicy(unary).text).toMatch(/retry.maxDepth +2 +code/);
    expect(weir.explainPolicy(unary).text).toMatch(/retry.maxAttempts +4 +data/);
    expect(inUse.interceptors).toHaveLength(1);
    weir.close();
    expect(live.watched()).toBe(false);
  });

  it("keep the answers of a cache, and the numbers of providers that stay", async () => {
    const provider = staticValue({ payload, sequence: 99 });
    const of = (reserveMs: number) =>
      ({ client: { retry: false, fallback: { providers: [provider], reserveMs } } }) as const;
    const { call, replace, fail, instances } = await liveScene(of(10));
    fail(1);
    expect((await call("unary")).received).toEqual([99]);
    replace(of(20));
    expect(instances("fallback")).toMatchObject([
      { answered: 1, providers: { static: { answered: 1 } } },
    ]);
    const cached = (staleIfErrorMs: number) =>
      ({
        client: { retry: false, fallback: { staleCache: { shared: true, staleIfErrorMs } } },
      }) as const;
    replace(cached(1_000));
    await call("unary");
    replace(cached(60_000));
    fail(1);
    expect(await call("unary")).toMatchObject({ code: Status.OK, received: [3] });
    expect(instances("fallback")).toMatchObject([{ cache: { stored: 1, stale: 1, entries: 1 } }]);
  });

  it("keep the answers under idempotency keys", async () => {
    const key = { key: () => "k" };
    const of = (ttlMs: number): { server: ServerPolicy } => ({
      server: { idempotency: { scope: "shared", methods: { [unary]: { ...key, ttlMs } } } },
    });
    const { call, replace, instances } = await liveScene(of(10_000));
    await call("unary");
    replace(of(20_000));
    const again = await call("unary");
    expect(again.trailers.get("x-weir-replayed")).toEqual(["true"]);
    expect(instances("idempotency")).toMatchObject([{ started: 1, replayed: 1 }]);
  });

  it("change how priorities are read, and keep what was counted", async () => {
    const { call, replace, weir, decisions } = await liveScene({});
    const marked = new Metadata();
    marked.set("x-request-priority", "nonsense");
    await call("unary", {}, marked);
    replace({ server: { priority: { key: "x-other" } } });
    await call("unary", {}, marked);
    expect(weir.snapshot().priorities).toEqual([{ invalid: 1, clamped: 0 }]);
    expect(decisions).toEqual([]);
  });

  it("may bring faults, where the process allows them, and take them away", async () => {
    vi.stubEnv("GRPC_WEIR_FAULTS", "1");
    onTestFinished(() => void vi.unstubAllEnvs());
    const { call, replace } = await liveScene({});
    expect(createWeir().server().interceptors).toHaveLength(1);
    replace({ server: { faults: { status: { rate: 1, code: Status.NOT_FOUND } } } });
    expect((await call("unary")).code).toBe(Status.NOT_FOUND);
    replace({});
    expect((await call("unary")).code).toBe(Status.OK);
  });

  it("are drained with the server, if they come after that", async () => {
    const { call, replace, weir } = await liveScene({});
    await weir.drain({ tryShutdown: (done) => done(), forceShutdown: () => {} }, { noticeMs: 0 });
    replace({ server: { admission: {} } });
    expect((await call("unary")).code).toBe(Status.UNAVAILABLE);
    expect(weir.snapshot().policies.admission?.instances[0]).toMatchObject({ draining: true });
  });
});

describe("a guard whose options change", () => {
  it("keeps its running work, its breaker and its counts", async () => {
    const live = livePolicies({
      guards: {
        db: { bulkhead: { maxConcurrent: 1, maxQueued: 0 }, breaker: { consecutiveFailures: 1 } },
      },
    });
    const weir = createWeir({ policies: live.source });
    const guard = weir.guard<string>("db");
    let end: (value: string) => void = () => {};
    const running = guard.run(
      () =>
        new Promise<string>((resolve) => {
          end = resolve;
        }),
    );
    live.replace({
      guards: {
        db: {
          bulkhead: { maxConcurrent: 2, maxQueued: 0 },
          breaker: { consecutiveFailures: 1, openMs: 60_000 },
        },
      },
    });
    await expect(guard.run(() => Promise.reject(new Error("away")))).rejects.toThrow("away");
    live.replace({
      guards: { db: { bulkhead: { maxConcurrent: 3 }, breaker: { consecutiveFailures: 9 } } },
    });
    await expect(guard.run(() => "x")).rejects.toMatchObject({ reason: "BREAKER_OPEN" });
    expect(weir.snapshot().policies.bulkhead?.instances[0]).toMatchObject({
      bulkheads: { db: { maxConcurrent: 3, running: 1 } },
    });
    end("done");
    expect(await running).toBe("done");
    expect(weir.snapshot().guards).toEqual([
      { name: "db", succeeded: 1, failed: 1, rejected: 1, abandoned: 0 },
    ]);
    live.replace({});
    weir.policy("breaker").forceClose();
    expect(await guard.run(() => "x")).toBe("x");
    weir.close();
  });
});

describe("options that are set at run time", () => {
  it("win over all others, for clients that are built later too, until they are taken back", async () => {
    const live = livePolicies({ client: { retry: { maxAttempts: 2 } } });
    const weir = createWeir({ policies: live.source });
    const first = weir.client({ methods: { [unary]: { retry: { maxAttempts: 3 } } } });
    weir.policy("retry").update({ maxAttempts: 5 });
    const second = weir.client({ name: "second", retry: { maxAttempts: 4 } });
    const told = () =>
      weir.explainPolicy(unary).clients.map(({ settings }) => {
        const { value, from } = settings.find(({ option }) => option === "retry.maxAttempts") ?? {};
        return `${String(value)} ${from}`;
      });
    expect(told()).toEqual(["5 update", "5 update"]);
    live.replace({ client: { retry: { maxAttempts: 9 } } });
    weir.policy("retry").update({ maxAttempts: 6 }, "second");
    expect(told()).toEqual(["5 update", "6 update"]);
    weir.policy("retry").revert("second");
    expect(told()).toEqual(["5 update", "5 update"]);
    weir.policy("retry").revert();
    expect(told()).toEqual(["3 code", "4 code"]);
    expect([first, second]).toHaveLength(2);
    weir.close();
  });

  it.each(kinds)("hold for the next call (%s)", async (kind) => {
    const { call, weir, fail } = await liveScene({ client: { retry: { backoff: { baseMs: 1 } } } });
    const codeOf = async (failures: number) => {
      fail(failures);
      const { code } = await call(kind);
      fail(0);
      return code;
    };
    expect(await codeOf(2)).toBe(Status.OK);
    weir.policy("retry").update({ maxAttempts: 2 });
    expect(await codeOf(2)).toBe(Status.UNAVAILABLE);
    weir.policy("retry").revert();
    expect(await codeOf(2)).toBe(Status.OK);
  });

  it("reach servers, guards and the learnt part of the deadline guard", async () => {
    const { weir } = await liveScene({
      server: { quota: [{ ratePerSecond: 1 }, { ratePerSecond: 2 }] },
    });
    weir.guard("db", { breaker: {}, bulkhead: {} });
    weir.policy("quota").update({ ratePerSecond: 7 });
    weir.policy("bulkhead").update({ maxConcurrent: 8 }, "db");
    weir.policy("feasibility").update({ share: 0.25 });
    weir.policy("breaker").update({ consecutiveFailures: 2 }, "db");
    const { quota } = weir.snapshot().policies;
    expect(quota?.instances).toMatchObject([{ ratePerSecond: 7 }, { ratePerSecond: 7 }]);
    expect(weir.explainPolicy(unary).servers[0]?.settings).toContainEqual({
      option: "deadlineGuard.learned",
      value: { share: 0.25 },
      from: "update",
      place: "set at run time",
    });
    expect(weir.explainPolicy(unary).text).not.toMatch(/consecutiveFailures/);
  });

  it.each<[string, (weir: ReturnType<typeof createWeir>) => void, RegExp]>([
    [
      "a value out of range",
      (weir) => weir.policy("retry").update({ maxAttempts: 0 }),
      /client.retry.maxAttempts must be/,
    ],
    [
      "an unknown option",
      (weir) => weir.policy("breaker").update({ openMS: 3 } as object),
      /client.breaker.openMS is not an option; did you mean openMs/,
    ],
    [
      "a mode",
      (weir) => weir.policy("retry").update({ mode: "off" } as object),
      /must be set by policy\("retry"\).mode/,
    ],
    [
      "a policy that nothing has",
      (weir) => weir.policy("rate").update({ burst: 3 }),
      /policy\("rate"\).update.of must be one of those that have the policy \(none\)/,
    ],
    [
      "a name that has none",
      (weir) => weir.policy("retry").update({ maxAttempts: 2 }, "other"),
      /\(client\), got "other"/,
    ],
    [
      "what is no object",
      (weir) => weir.policy("retry").update(3 as never),
      /update must be an object of options, got 3/,
    ],
  ])("are refused for %s, and change nothing", async (_what, update, message) => {
    const weir = createWeir();
    const inUse = weir.client();
    const before = weir.explainPolicy(unary).text;
    expect(() => update(weir)).toThrow(InvalidOptionError);
    expect(() => update(weir)).toThrow(message);
    expect(weir.explainPolicy(unary).text).toBe(before);
    expect(inUse.interceptors).toHaveLength(1);
  });
});
