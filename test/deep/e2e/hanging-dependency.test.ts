import { setTimeout as sleep } from "node:timers/promises";
import { credentials, Metadata, Server } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { BreakerStateChange } from "../../../src/policies/breaker/breakers.js";
import type { BreakerPolicyOptions } from "../../../src/policies/breaker/client.js";
import { createWeir } from "../../../src/weir.js";
import { echo, type HandlerCall, handlers, payload } from "../../scene.js";
import { listen } from "./listen.js";

/** A server that answers, until it hangs: then it takes calls and never answers. */
let hangs = false;
let reached = 0;
let address = "";
const server = new Server();
const answered = handlers(({ metadata }: HandlerCall, answer: () => void) => {
  if (metadata.get("last").length > 0) return answer();
  reached += 1;
  if (!hangs) answer();
});

beforeAll(async () => {
  server.addService(ConformanceServiceService, { ...echo, ...answered });
  const port = await listen(server);
  address = `127.0.0.1:${port}`;
});

afterAll(() => server.forceShutdown());

const attemptMs = 100;
const openMs = 400;
const probes = 2;

/** A client under steady load, and what became of its calls. */
function load(breaker: BreakerPolicyOptions | false) {
  const weir = createWeir();
  const changes: BreakerStateChange[] = [];
  weir.policy("breaker").onStateChange((change) => changes.push(change));
  const options = weir.client({ retry: false, breaker, timeouts: { attemptMs } });
  const client = new ConformanceServiceClient(address, credentials.createInsecure(), options);
  const reasons: (string | undefined)[] = [];
  const running: Promise<void>[] = [];
  /** How many ended so late that the process must have been held up. To the breaker they say nothing of the server. */
  const late = { count: 0 };
  const call = () => {
    const beganMs = performance.now();
    const ended = new Promise<void>((resolve) => {
      client.unary({ payload, sequence: 1 }, (error) => {
        if (performance.now() - beganMs > attemptMs + 15) late.count += 1;
        reasons.push(error === null ? "OK" : rejectionOf(error)?.reason);
        resolve();
      });
    });
    running.push(ended);
    return ended;
  };
  /** Until all that was sent has reached the handler: by grpc-js alone, behind the others on their connection. */
  const arrived = () =>
    new Promise<void>((resolve) => {
      const last = new Metadata();
      last.set("last", "1");
      client.unary({ payload, sequence: 1 }, last, { interceptors: [] }, () => resolve());
    });
  /** Ten calls at once, every ten milliseconds. */
  const during = async (ms: number) => {
    const untilMs = performance.now() + ms;
    while (performance.now() < untilMs) {
      for (let each = 0; each < 10; each += 1) void call();
      await sleep(10);
    }
    await Promise.all(running);
  };
  return { weir, client, changes, reasons, late, call, arrived, during };
}

describe("a dependency that hangs", () => {
  it("is reached by no more than a few probes after each rest, and by all once it answers", async () => {
    const { client, changes, reasons, late, call, arrived, during } = load({
      consecutiveFailures: 5,
      openMs,
      openFactor: 1,
      openJitter: 0,
      probes,
      rampMs: false,
    });
    hangs = false;
    await call();
    hangs = true;
    // Calls that were under way together say it once: it takes three that began one after another.
    // On a busy machine timers are late, and what ends late for that says nothing of the server.
    for (let tries = 0; tries < 10 && changes.length === 0; tries += 1) await during(attemptMs * 4);
    await arrived();
    expect(changes.at(0)).toMatchObject({ to: "open" });
    expect(changes.at(0)).toMatchObject({ to: "open", reason: "failure-rate" });
    const openedBefore = changes.filter(({ to }) => to === "open").length;
    const reachedBefore = reached;
    const madeBefore = reasons.length;
    const lateBefore = late.count;
    const beganMs = performance.now();
    await during(2_000);
    const tookMs = performance.now() - beganMs;
    const openPeriods = changes.filter(({ to }) => to === "open").length - openedBefore + 1;
    const probed = reached - reachedBefore;
    // Each open period ends in at most so many probes, and one more for each that said nothing.
    expect(openPeriods).toBeGreaterThan(1);
    expect(probed).toBeGreaterThan(0);
    expect(probed).toBeLessThanOrEqual(openPeriods * probes + late.count - lateBefore);
    // No open period is shorter than it should be, so that many is all there can be.
    expect(openPeriods).toBeLessThanOrEqual(tookMs / openMs + 2);
    const made = reasons.length - madeBefore;
    expect(made).toBeGreaterThan(10 * probed);
    const refused = reasons.slice(madeBefore).filter((reason) => reason?.startsWith("BREAKER"));
    expect(refused.length).toBeGreaterThan(0.8 * made);

    hangs = false;
    const closed = () => changes.at(-1)?.to === "closed";
    for (let tries = 0; tries < 60 && !closed(); tries += 1) {
      await call();
      await sleep(20);
    }
    expect(changes.at(-1)).toMatchObject({ to: "closed", reason: "probes-succeeded" });
    const madeAgain = reasons.length;
    await Promise.all(Array.from({ length: 20 }, call));
    expect(reasons.slice(madeAgain).filter((reason) => reason?.startsWith("BREAKER"))).toEqual([]);
    client.close();
  });

  it("is reached by everything without a breaker", async () => {
    const { client, reasons, call, during } = load(false);
    hangs = false;
    await call();
    hangs = true;
    const reachedBefore = reached;
    await during(300);
    expect(reached - reachedBefore).toBeGreaterThan(0.5 * reasons.length);
    client.close();
  });

  it("opens the breaker while calls still hang that nothing times out", async () => {
    const weir = createWeir();
    const options = weir.client({
      retry: false,
      breaker: { consecutiveFailures: 2, inFlightMs: 100, openMs: 60_000 },
    });
    const client = new ConformanceServiceClient(address, credentials.createInsecure(), options);
    hangs = true;
    const reachedBefore = reached;
    const call = () => client.unary({ payload, sequence: 1 }, () => {});
    const calls = [call(), call(), call(), call()];
    await sleep(200);
    // It began when those before it were known to hang.
    calls.push(call());
    await sleep(200);
    const reason = await new Promise<string | undefined>((resolve) => {
      client.unary({ payload, sequence: 1 }, (error) => resolve(rejectionOf(error)?.reason));
    });
    expect(reason).toBe("BREAKER_OPEN");
    expect(reached - reachedBefore).toBeLessThanOrEqual(5);
    for (const hanging of calls) hanging.cancel();
    client.close();
  });
});
