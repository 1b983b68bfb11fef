import { credentials, status as Status } from "@grpc/grpc-js";
import { describe, expect, it, vi } from "vitest";
import { ConformanceServiceClient } from "../../../src/gen/weir/v1/conformance.js";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";
import { createWeir } from "../../../src/weir.js";
import { forSeeds } from "../../replay.js";
import type { HandlerCall } from "../../scene.js";
import { caller, EndCounter, RestartingServer, sleep, whole } from "./soak-scene.js";

const forMs = 6_000;
const callers = 12;
/** How late a deadline may be told when others want the machine, too. */
const marginMs = 2_000;

const backoff = { baseMs: 5, maxMs: 100 };
const budget = { ratio: 1, minPerSecond: 100, maxTokens: 1_000 };
/** What grpc-js makes of a server that goes without a goodbye: a broken connection, a reset, a failed session. */
const lost = [Status.UNAVAILABLE, Status.CANCELLED, Status.INTERNAL];
const retry = { idempotent: true, maxAttempts: 4, codes: lost, backoff, budget };
const base = {
  retry,
  breaker: { consecutiveFailures: 20, openMs: 100 },
  bulkhead: { maxConcurrent: 8, maxQueued: 8, maxWaitMs: 200 },
} as const satisfies ClientPolicy;

/** Sockets, servers and timers that keep the process busy, by kind. */
function handles(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

async function soak(seed: number): Promise<void> {
  const rejections: unknown[] = [];
  const onRejection = (reason: unknown) => rejections.push(reason);
  process.on("unhandledRejection", onRejection);
  const before = handles();

  const random = seededRandom(seed);
  const behave = (call: HandlerCall, answer: () => void) => {
    const chance = random();
    if (chance < 0.2) call.fail({ code: Status.UNAVAILABLE, details: "now and then" });
    else if (chance < 0.97) setTimeout(answer, random() * 20);
    // And some are never heard of again.
  };
  const servers = [new RestartingServer(behave), new RestartingServer(behave)] as const;
  await Promise.all(servers.map((server) => server.start()));

  const weir = createWeir();
  const counter = new EndCounter();
  const connect = (policy: ClientPolicy) =>
    new ConformanceServiceClient(
      `ipv4:${servers.map(({ address }) => address).join()}`,
      credentials.createInsecure(),
      weir.client(policy, {
        interceptors: [counter.interceptor],
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.max_reconnect_backoff_ms": 200,
        "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
      }),
    );
  const clients = [
    connect(base),
    connect({ ...base, hedge: { maxAttempts: 3, delayMs: 15, nonFatalCodes: lost } }),
  ] as const;

  const untilMs = performance.now() + forMs;
  const calling = Promise.all(
    clients.flatMap((client, index) =>
      Array.from({ length: callers }, (_, n) =>
        caller(client, untilMs, seededRandom(seed + 100 * index + n)),
      ),
    ),
  );
  for (let turn = 0; performance.now() < untilMs - 700; turn++) {
    await sleep(200);
    const server = servers[turn % 2] ?? servers[0];
    await server.restart(turn % 4 < 2 ? 0 : 100, 150);
  }
  const outcomes = (await calling).flat();

  // Whatever was cancelled has to get to the servers before nothing is left.
  await vi.waitFor(() => expect(inUse(weir.snapshot())).toEqual([]), { timeout: 5_000 });
  expect(weir.snapshot().waiting).toBe(0);
  for (const client of clients) client.close();
  await Promise.all(servers.map((server) => server.stop(0)));

  const ofCode = (code: Status) => outcomes.filter((outcome) => outcome.code === code).length;
  const { OK, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED } = Status;
  const expected: Status[] = [OK, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ...lost];
  expect(outcomes.filter(({ code }) => !expected.includes(code))).toEqual([]);
  const internal = outcomes.filter(({ code }) => code === Status.INTERNAL);
  expect(internal.filter(({ details }) => !/RST_STREAM|Session closed/.test(details))).toEqual([]);
  expect(outcomes.filter((outcome) => !whole(outcome))).toEqual([]);
  expect(Math.max(...outcomes.map(({ lateMs }) => lateMs))).toBeLessThan(marginMs);
  expect({ running: counter.running, strays: counter.strays }).toEqual({ running: 0, strays: 0 });
  expect(counter.ended).toBe(outcomes.length);

  // It was no idle hour: there were restarts, answers, and attempts of both kinds.
  expect(servers.reduce((sum, { restarts }) => sum + restarts, 0)).toBeGreaterThanOrEqual(3);
  expect(ofCode(OK)).toBeGreaterThan(20);
  const { retry: retries, hedge: hedges } = weir.snapshot().policies;
  expect(numbersOf(retries, "retried")).toBeGreaterThan(0);
  expect(numbersOf(hedges, "retried")).toBeGreaterThan(0);
  await vi.waitFor(() => expect(grown(before, handles())).toEqual([]), { timeout: 5_000 });
  expect(rejections).toEqual([]);
  process.off("unhandledRejection", onRejection);
}

describe("clients with retries, hedges, breakers and bulkheads", () => {
  it(
    "end each of their calls once and in time while the servers come and go, and leave nothing behind",
    () => forSeeds([20_260], soak),
    40_000,
  );
});

/** The numbers of a snapshot that say that something runs or waits. */
function inUse(snapshot: unknown, path = ""): string[] {
  if (typeof snapshot !== "object" || snapshot === null) return [];
  return Object.entries(snapshot).flatMap(([key, value]) =>
    /^(running|abandoned|queued|inFlight|probing|waiting)$/.test(key) && value !== 0
      ? [`${path}${key}: ${value}`]
      : inUse(value, `${path}${key}.`),
  );
}

function numbersOf(policy: unknown, name: string): number {
  const found = JSON.stringify(policy ?? {}).matchAll(new RegExp(`"${name}":(\\d+)`, "g"));
  return [...found].reduce((sum, [, number]) => sum + Number(number), 0);
}

function grown(before: Record<string, number>, after: Record<string, number>): string[] {
  return Object.entries(after)
    .filter(([kind, count]) => kind !== "Timeout" && count > (before[kind] ?? 0))
    .map(([kind, count]) => `${kind}: ${before[kind] ?? 0} before, ${count} after`);
}
