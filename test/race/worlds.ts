import { InterceptingCall, type Interceptor, Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { type ControlledName, modes } from "../../src/core/control.js";
import { currentCall } from "../../src/grpc/context/inbound-call.js";

import type { DrainableServer } from "../../src/policies/drain/server.js";
import { type FlagValue, staticFlags } from "../../src/policies/flags/source.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { livePolicies } from "../live-policies.js";
import { forSeeds } from "../replay.js";
import { handlers, kinds, type Method, path, scene, startCall } from "../scene.js";
import { drawClient, standIn } from "./client-policies.js";
import { Dice, thrownByUser } from "./dice.js";
import { drawServer, optionalWork } from "./server-policies.js";

const { RACE_SEEDS } = process.env;

// Asked for while the faults are built.
Object.assign(process.env, { GRPC_WEIR_FAULTS: "1" });

const expected: Readonly<Record<Method, readonly number[]>> = {
  unary: [3],
  clientStream: [1, 2, 3],
  serverStream: [1, 2, 3],
  bidiStream: [1, 2, 3],
};

/** What a fallback may answer with instead. */
const instead: Readonly<Record<Method, readonly (readonly number[])[]>> = {
  unary: [[standIn], [0]],
  clientStream: [],
  serverStream: [[standIn], []],
  bidiStream: [],
};

/** How calls may end: as handlers and faults were drawn to end them, or as policies and a bad network do. */
const possible: readonly Status[] = [
  Status.OK,
  Status.CANCELLED,
  Status.UNKNOWN,
  Status.DEADLINE_EXCEEDED,
  Status.NOT_FOUND,
  Status.RESOURCE_EXHAUSTED,
  Status.INTERNAL,
  Status.UNAVAILABLE,
];

/** Numbers of snapshots that say what is out or waits now. */
const out = /"(running|abandoned|queued|asking|probesOut|active|inFlight|waiting)":(?!0[,}])/;

/** Counts the ends of calls, where their callers see them. */
function countingEnds(): { readonly ends: number[]; readonly interceptor: Interceptor } {
  const ends: number[] = [];
  const interceptor: Interceptor = (options, nextCall) => {
    const call = ends.push(0) - 1;
    return new InterceptingCall(nextCall(options), {
      start: (metadata, _listener, next) =>
        next(metadata, {
          onReceiveStatus: (status, forward) => {
            ends[call] = (ends[call] ?? 0) + 1;
            forward(status);
          },
        }),
    });
  };
  return { ends, interceptor };
}

/** What a caller sends along, some of it hostile. */
function drawMetadata(dice: Dice): Metadata {
  const metadata = new Metadata();
  const add = (key: string, ...values: readonly string[]) => {
    if (dice.chance(0.7)) return;
    metadata.add(key, dice.pick(...values));
    if (dice.chance(0.05)) metadata.add(key, dice.pick(...values));
  };
  add("x-request-priority", "critical", "high", "normal", "low", "LOW", "", "x".repeat(300));
  add("x-request-cohort", "0", "127", "128", "-1", "1e2");
  add("x-weir-retry-depth", "0", "1", "9999", "99999999999999999999", "-3", "NaN");
  add("grpc-previous-rpc-attempts", "0", "1", "4", "-1", "0x10");
  add("x-tenant", "a", "b", " ~");
  return metadata;
}

/** One world by one seed: some calls of all kinds through a bad network, with everything going on at once. */
async function world(seed: number): Promise<void> {
  const dice = new Dice(seed);
  const { random } = dice;
  const clock = new VirtualClock();
  const maxAttempts = dice.pick(1, 2, 3, 5);
  let handled = 0;
  const loss = dice.pick(0, 0, 0.05);
  const unexpected: unknown[] = [];
  const { ends: counted, interceptor } = countingEnds();
  const counts = dice.chance(0.5);
  const flags = dice.chance(0.5) ? staticFlags() : undefined;
  const drawPolicies = () => ({
    client: drawClient(dice, maxAttempts, clock),
    server: drawServer(dice, clock),
  });
  const policies = drawPolicies();
  // In half of the worlds the policies come from data, and are replaced while calls run.
  const live = dice.chance(0.5) ? livePolicies(policies) : undefined;
  const { link, transport, weir, decisions, client } = await scene({
    seed,
    clock,
    network: {
      latencyMs: dice.pick(0, 3, (draw: () => number) => draw() * 40),
      loss,
      reset: dice.pick(0, 0, 0.1),
      refusal: dice.pick(0, 0, 0.2),
    },
    ...(live === undefined ? policies : { client: {}, server: {}, policies: live.source }),
    ownClient: counts ? { interceptors: [interceptor] } : {},
    ...(flags === undefined ? {} : { flags }),
    onError: (error) => {
      if (!isExpected(error)) unexpected.push(error);
    },
    handlers: handlers((call, answer) => {
      handled += 1;
      const inbound = currentCall();
      for (const name of optionalWork) if (dice.chance(0.3)) inbound?.shouldSkip(name);
      const metadata = new Metadata();
      const asked = dice.pick("", "", "30", "-1", "0");
      if (asked !== "") metadata.set("grpc-retry-pushback-ms", asked);
      const end = () => {
        if (dice.chance(0.3)) {
          const code = dice.pick(Status.UNAVAILABLE, Status.RESOURCE_EXHAUSTED, Status.NOT_FOUND);
          call.fail({ code, details: "drawn", metadata });
        } else answer();
      };
      // Some handlers never answer.
      if (dice.chance(0.95)) clock.schedule(random() * 60, end);
    }),
  });
  const beganMs = clock.now();
  const calls = Array.from({ length: 6 }, () => {
    const method = dice.pick(...kinds);
    const options = dice.chance(0.3) ? { deadline: clock.wallNow() + random() * 300 } : {};
    // Some callers take their time between messages, so that attempts are decided while they write.
    const gapMs = dice.pick(undefined, undefined, 5, 30);
    const pace =
      gapMs === undefined
        ? undefined
        : (step: () => void) => void clock.schedule(random() * gapMs, step);
    const started = startCall(client, method, options, drawMetadata(dice), pace);
    return { method, cancelled: false, ...started };
  });
  let clientClosed = false;
  const harsh = loss > 0 || dice.chance(0.3);
  const soon = (share: number, withinMs: number, event: () => void) => {
    if (dice.chance(share)) clock.schedule(random() * withinMs, event);
  };
  for (const call of calls) {
    soon(0.2, 200, () => {
      call.cancelled = true;
      call.cancel();
    });
  }
  if (harsh) {
    soon(0.4, 100, () => transport.server.crash());
    soon(0.4, 300, () => transport.server.start());
    soon(0.2, 200, () => {
      clientClosed = true;
      client.close();
    });
  }
  soon(0.1, 200, () => weir.close());
  const server: DrainableServer = {
    tryShutdown: (done) => void clock.schedule(300, () => done()),
    forceShutdown: () => {},
  };
  soon(0.1, 200, () => void weir.drain(server, { graceMs: 500, noticeMs: dice.pick(0, 20) }));
  for (let reloads = dice.pick(1, 2, 5); live !== undefined && reloads > 0; reloads -= 1) {
    const next = drawPolicies();
    soon(0.8, 150, () => live.replace(next));
  }
  // Whoever is on call switches policies while calls run.
  const built = Object.keys(weir.snapshot().policies) as ControlledName[];
  soon(0.2, 150, () => {
    for (const name of built) if (dice.chance(0.5)) weir.policy(name).mode = dice.pick(...modes);
  });
  soon(0.05, 150, () => weir.policy("breaker").forceOpen());
  // Or sets flags, for moments or for good.
  for (let flips = dice.pick(1, 3, 8); flags !== undefined && flips > 0; flips -= 1) {
    const method = dice.pick(...Object.values(path)).slice(1);
    const [flag, ...values] = dice.pick<readonly (readonly [string, ...FlagValue[]])[]>(
      ["kill", true, false, "nonsense"],
      [`kill.${method}`, true, false],
      ["kill.weir.v1.ConformanceService", true, false],
      [`skip.${dice.pick(...optionalWork)}`, true, false],
      [`mode.${dice.pick(...built, "retry")}`, ...modes, true],
      [`mode.${dice.pick(...built, "retry")}.${dice.pick("client", "server", method)}`, ...modes],
    );
    soon(0.7, 150, () => flags.set(flag, dice.pick(...values)));
    soon(0.3, 150, () => flags.unset(flag));
  }
  let statuses = 0;
  const ends = calls.map(async (call) => {
    const { method, ended } = call;
    const { code, received } = await ended;
    statuses += 1;
    expect(possible).toContain(code);
    if (code === Status.CANCELLED && !clientClosed) expect(call.cancelled).toBe(true);
    const whole = [expected[method], ...instead[method]];
    if (code === Status.OK) expect(whole).toContainEqual(received);
    else expect(whole.some((all) => startsWith(all, received))).toBe(true);
  });
  await link.until(Promise.all(ends), 100_000);
  expect(statuses).toBe(calls.length);
  if (counts) expect(counted).toEqual(calls.map(() => 1));
  expect(clock.now() - beganMs).toBeLessThanOrEqual(2_000 + 1);
  const attempts = Math.max(2, maxAttempts) * calls.length;
  // grpc-js may try once more by itself where a stream was refused.
  expect(handled).toBeLessThanOrEqual(attempts);
  // Nothing of a call outlives it by more than the way to the server, the slowest handler and writer, and the
  // events that were set above.
  await link.pass(700);
  if (!harsh) {
    expect(link.inFlight()).toBe(0);
    expect(clock.pending.refs).toBe(0);
  }
  // A handler that stops without a word when its caller leaves is counted for ten seconds, until its kind is known.
  await link.pass(11_000);
  expect(JSON.stringify(weir.snapshot())).not.toMatch(out);
  expect(decisions.every(({ atMs }) => atMs >= beganMs)).toBe(true);
  const drained = weir.drain({ tryShutdown: (done) => done(), forceShutdown: () => {} });
  expect((await drained).inFlight).toBe(0);
  transport.server.start();
  weir.close();
  await link.close();
  await link.pass(5_000);
  expect(link.inFlight()).toBe(0);
  expect(clock.pending.refs).toBe(0);
  expect(unexpected).toEqual([]);
}

function startsWith(all: readonly number[], received: readonly number[]): boolean {
  return received.every((sequence, index) => all[index] === sequence);
}

/** Drawn hooks and stores fail on purpose. */
function isExpected(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (/^The flag .* must be /.test(error.message)) return true;
  return error.message === thrownByUser || /quota store did not answer/.test(error.message);
}

/**
 * Runs seeds from 1 up.
 * @param seeds How many there are; RACE_SEEDS in the environment overrides it.
 * @param part From 1: of so many parts, which can run side by side.
 */
export function race(seeds: number, part = 1, parts = 1): void {
  const batches = 10;
  const first = (part - 1) * batches;
  const all = Array.from({ length: Number(RACE_SEEDS ?? seeds) }, (_, n) => n + 1);
  describe("whatever happens at once", () => {
    it.each(Array.from({ length: batches }, (_, batch) => batch))(
      "each call has one end in time, whole messages in order, and nothing is left (batch %i)",
      (batch) => {
        const ofBatch = all.filter((seed) => seed % (batches * parts) === first + batch);
        return forSeeds(ofBatch, world);
      },
      600_000,
    );
  });
}
