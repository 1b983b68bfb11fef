import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { rejectionOf } from "../../src/grpc/status/rejection.js";
import type { ClientPolicy } from "../../src/pipeline/client.js";
import type { ServerPolicy } from "../../src/pipeline/server.js";
import type { DrainableServer } from "../../src/policies/drain/server.js";
import { value } from "../../src/policies/fallback/client-providers.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { createWeir } from "../../src/weir.js";
import { handlers, kinds, type Method, path, scene } from "../scene.js";

interface State {
  readonly client?: ClientPolicy;
  readonly server?: ServerPolicy;
  /** Handlers fail, and do not answer. */
  readonly fails?: true;
  /** How calls end that a closed weir finds there: the first, and the others. */
  readonly closed: readonly [first: string, others: string];
  /** The same for a drained server; what a client waits for, it may go on waiting for. */
  readonly drained: readonly [first: string, others: string];
}

const bare = { retry: false, breaker: false } as const;
const patient = { maxQueued: 10, maxWaitMs: 10_000 } as const;

const states: Readonly<Record<string, State>> = {
  "that run": { closed: ["OK", "OK"], drained: ["OK", "OK"] },
  "that wait for admission": {
    server: { admission: { limit: 1, streams: "together", thresholds: false, ...patient } },
    closed: ["OK", "DRAINING"],
    drained: ["OK", "DRAINING"],
  },
  "that wait for slots of streams": {
    server: { admission: { limit: 1, streams: { limit: 1, ...patient }, ...patient } },
    closed: ["OK", "DRAINING"],
    drained: ["OK", "DRAINING"],
  },
  "that wait in a bulkhead of the server": {
    server: { bulkhead: { maxConcurrent: 1, ...patient } },
    closed: ["OK", "DRAINING"],
    drained: ["OK", "DRAINING"],
  },
  "that wait for a quota": {
    server: { quota: { ratePerSecond: 0.5, burst: 1, ...patient } },
    closed: ["OK", "DRAINING"],
    drained: ["OK", "DRAINING"],
  },
  "that wait in a bulkhead of the client": {
    client: { bulkhead: { maxConcurrent: 1, ...patient } },
    closed: ["OK", "CLOSED"],
    drained: ["OK", "DRAINING"],
  },
  "that wait for a rate": {
    client: { rate: { ratePerSecond: 0.5, burst: 1, ...patient } },
    closed: ["OK", "CLOSED"],
    drained: ["OK", "DRAINING"],
  },
  "that wait for their next attempt": {
    client: {
      retry: { idempotent: true, backoff: { baseMs: 8_000, maxMs: 8_000, jitter: "none" } },
    },
    fails: true,
    closed: ["CLOSED", "CLOSED"],
    drained: ["UNAVAILABLE|DRAINING", "UNAVAILABLE|DRAINING"],
  },
  "that may be hedged": {
    client: { retry: { idempotent: true }, hedge: { delayMs: 8_000, maxAttempts: 3 } },
    closed: ["OK", "OK"],
    drained: ["OK", "OK"],
  },
};

/** How a call ended, in a word. */
function fateOf({ code, error }: { code: Status; error: Error | undefined }): string {
  return rejectionOf(error ?? {})?.reason ?? Status[code];
}

const ends = {
  close: "closed",
  drain: "drained",
} as const;

describe.each(Object.entries(states))("calls %s", (_name, state) => {
  describe.each(Object.entries(ends))("when the weir is told to %s", (how, expected) => {
    it.each(kinds)("end, and nothing runs afterwards (%s)", async (method) => {
      let handled = 0;
      const clock = new VirtualClock();
      const { start, call, weir, link } = await scene({
        clock,
        client: { ...bare, ...state.client },
        server: { ...state.server },
        handlers: handlers((inbound, answer) => {
          handled += 1;
          if (state.fails) inbound.fail({ code: Status.UNAVAILABLE, details: "down" });
          else clock.schedule(500, answer);
        }),
      });
      const options = { deadline: clock.wallNow() + 30_000 };
      const calls = [start(method, options), start(method, options), start(method, options)];
      await clock.pass(50);
      const server: DrainableServer = {
        tryShutdown: (done) => void clock.schedule(600, () => done()),
        forceShutdown: () => {},
      };
      const drained = how === "drain" ? weir.drain(server) : undefined;
      if (how === "close") weir.close();
      const ended = await link.until(Promise.all(calls.map((each) => each.ended)), 100_000);
      const [first, others] = state[expected];
      const fates = ended.map(fateOf);
      expect(fates[0]).toMatch(new RegExp(`^(${first})$`));
      for (const fate of fates.slice(1)) expect(fate).toMatch(new RegExp(`^(${others})$`));
      if (drained !== undefined) expect(await link.until(drained, 100_000)).toBeDefined();
      // Calls that come now run nowhere.
      const before = handled;
      expect(fateOf(await call(method, options))).toBe(how === "close" ? "CLOSED" : "DRAINING");
      if (how === "drain") weir.close();
      await clock.pass(1_000);
      expect(handled).toBe(before);
      expect(link.inFlight()).toBe(0);
      expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
      const numbers = JSON.stringify(weir.snapshot());
      expect(numbers).not.toMatch(/"(running|abandoned|queued|asking|waiting)":[1-9]/);
    });
  });
});

describe("a weir at rest", () => {
  it.each(["close", "drain"])("has nothing to do when it is told to %s, twice", async (how) => {
    const clock = new VirtualClock();
    const weir = createWeir({ clock });
    weir.client({ bulkhead: {} });
    weir.server({ admission: {}, bulkhead: {}, quota: { ratePerSecond: 1 } });
    const server = { tryShutdown: (done: () => void) => done(), forceShutdown: () => {} };
    for (const _time of [1, 2]) {
      if (how === "close") weir.close();
      else expect(await weir.drain(server)).toMatchObject({ inFlight: 0, cutOff: 0 });
    }
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });
});

describe.each(["unary", "serverStream"] as const satisfies readonly Method[])(
  "a fallback of a %s call that is at work",
  (method) => {
    it.each(["close", "drain"])(
      "does not outlive the call when the weir is told to %s",
      async (how) => {
        const clock = new VirtualClock();
        const signals: AbortSignal[] = [];
        const slow = value(
          (_request, { signal }) => {
            signals.push(signal);
            return new Promise<never>(() => {});
          },
          { timeoutMs: 2_000 },
        );
        const { start, weir, link } = await scene({
          clock,
          client: {
            ...bare,
            methods: { [path[method].slice(1)]: { fallback: { providers: [slow] } } },
          },
          server: {},
          handlers: handlers((inbound) =>
            inbound.fail({ code: Status.UNAVAILABLE, details: "down" }),
          ),
        });
        const running = start(method, { deadline: clock.wallNow() + 30_000 });
        await clock.pass(50);
        expect(signals).toHaveLength(1);
        const server = { tryShutdown: (done: () => void) => done(), forceShutdown: () => {} };
        if (how === "close") weir.close();
        else await weir.drain(server);
        expect((await link.until(running.ended, 100_000)).code).toBe(Status.UNAVAILABLE);
        expect(signals[0]?.aborted).toBe(true);
        await clock.pass(0);
        expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
        expect(weir.snapshot().waiting).toBe(0);
      },
    );
  },
);

describe("a guard", () => {
  it("lets the work under way end when the weir is closed, and sends away who waits and who comes", async () => {
    const clock = new VirtualClock();
    const weir = createWeir({ clock });
    const guard = weir.guard("db", { bulkhead: { maxConcurrent: 1, ...patient } });
    let worked = 0;
    const work = () =>
      new Promise<string>((resolve) => {
        worked += 1;
        clock.schedule(100, () => resolve("rows"));
      });
    const fate = (run: Promise<string>) =>
      run.catch((error: { readonly reason?: string }) => error.reason);
    const runs = [guard.run(work), guard.run(work)].map(fate);
    await clock.pass(10);
    weir.close();
    expect(await clock.until(Promise.all(runs))).toEqual(["rows", "CLOSED"]);
    expect(await fate(guard.run(work))).toBe("CLOSED");
    expect(worked).toBe(1);
    await clock.pass(0);
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
    expect(weir.snapshot().waiting).toBe(0);
  });
});
