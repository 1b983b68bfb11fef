import { type Server, status as Status } from "@grpc/grpc-js";
import { HealthImplementation } from "grpc-health-check";
import { describe, expect, it } from "vitest";
import { rejectionOf } from "../../src/grpc/rejection.js";
import type { DrainableServer, DrainOptions } from "../../src/server/drain.js";
import { VirtualClock } from "../../src/testing/virtual-clock.js";
import { createWeir } from "../../src/weir.js";
import { handlers, kinds, scene } from "../scene.js";

/** A server that ends when it is told to, once nothing runs or by force. */
function serverThatEnds(): DrainableServer & { end: () => void; forced: () => boolean } {
  let callback: ((error?: Error) => void) | undefined;
  let forced = false;
  return {
    tryShutdown: (done) => {
      callback = done;
    },
    forceShutdown: () => {
      forced = true;
      callback?.();
    },
    end: () => callback?.(),
    forced: () => forced,
  };
}

describe.each(kinds)("a drain, with %s calls", (kind) => {
  it("lets calls in flight end, and refuses those who wait and those who come; nothing is lost", async () => {
    const made = await scene({
      client: { retry: false, breaker: false },
      server: { admission: { limit: 1, streams: { limit: 1, maxQueued: 1 }, maxWaitMs: 10_000 } },
      handlers: handlers((_call, answer) => void made.clock.schedule(500, answer)),
    });
    const { start, weir, link, clock } = made;
    const server = serverThatEnds();
    const running = start(kind);
    await clock.pass(50);
    const waiting = start(kind);
    await clock.pass(50);
    const drained = weir.drain(server, { graceMs: 5_000 });
    const late = start(kind);
    const ended = await link.until(Promise.all([running.ended, waiting.ended, late.ended]), 1e9);
    expect(ended.map(({ code }) => code)).toEqual([
      Status.OK,
      Status.UNAVAILABLE,
      Status.UNAVAILABLE,
    ]);
    for (const { error } of ended.slice(1)) {
      expect(rejectionOf(error)).toMatchObject({ reason: "DRAINING", local: false });
    }
    server.end();
    const report = await link.until(drained, 1e9);
    // The one that waited was past this gate, and not yet at its handler.
    expect(report).toMatchObject({ inFlight: 1, cutOff: 0 });
    expect(server.forced()).toBe(false);
    expect(clock.pending.refs).toBe(0);
  });
});

describe("a drain", () => {
  it("cuts off what runs longer than the grace, and counts it", async () => {
    const made = await scene({ server: {}, handlers: handlers(() => {}) });
    const { start, weir, link, clock } = made;
    const calls = [start("unary"), start("bidiStream")];
    await clock.pass(50);
    const server = serverThatEnds();
    const report = await link.until(weir.drain(server, { graceMs: 300 }), 1e9);
    expect(report).toEqual({ inFlight: 2, cutOff: 2, tookMs: 300 });
    expect(server.forced()).toBe(true);
    for (const call of calls) call.cancel();
    await link.until(Promise.all(calls.map(({ ended }) => ended)), 1e9);
  });

  it("says NOT_SERVING first, and goes on serving for as long as others need to notice", async () => {
    const clock = new VirtualClock();
    const weir = createWeir({ clock });
    const said: string[] = [];
    const health = {
      setStatus: (service: string, status: string) => said.push(`${service} ${status}`),
    };
    const server = serverThatEnds();
    let done = false;
    const drained = weir.drain(server, { health, services: ["", "a.B"], noticeMs: 2_000 });
    void drained.then(() => {
      done = true;
    });
    expect(said).toEqual([" NOT_SERVING", "a.B NOT_SERVING"]);
    await clock.pass(1_999);
    server.end();
    await clock.pass(0);
    expect(done).toBe(false);
    await clock.pass(1);
    server.end();
    expect(await drained).toMatchObject({ inFlight: 0, cutOff: 0 });
  });

  it("flips the health service of grpc-health-check", async () => {
    const health = new HealthImplementation({ "": "SERVING", "a.B": "SERVING" });
    const made = await scene({ server: {} });
    const server = serverThatEnds();
    const drained = made.weir.drain(server, { health, services: ["", "a.B"] });
    server.end();
    await made.link.until(drained, 1e9);
    // The map is its own business, but the only way to ask without a client.
    const { statusMap } = health as unknown as { statusMap: ReadonlyMap<string, string> };
    expect([...statusMap]).toEqual([
      ["", "NOT_SERVING"],
      ["a.B", "NOT_SERVING"],
    ]);
  });

  it("passes on what the server says went wrong", async () => {
    const server = {
      tryShutdown: (done: (error?: Error) => void) => done(new Error("not started")),
      forceShutdown: () => {},
    };
    await expect(createWeir().drain(server)).rejects.toThrow("not started");
  });

  it.each([
    ["drain.server", {}, {}],
    ["drain.graceMs", undefined, { graceMs: -1 }],
    ["drain.noticeMs", undefined, { noticeMs: "1s" }],
    ["drain.health", undefined, { health: {} }],
    ["drain.services", undefined, { services: "all" }],
    ["drain.timeoutMs", undefined, { timeoutMs: 5 }],
  ])("refuses nonsense and names %s", async (option, server, options) => {
    const drained = createWeir().drain(
      (server ?? serverThatEnds()) as Server,
      options as DrainOptions,
    );
    await expect(drained).rejects.toThrow(
      expect.objectContaining({ name: "InvalidOptionError", option }),
    );
  });
});
