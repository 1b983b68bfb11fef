import { status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { LabProcess } from "../../src/lab/process.js";
import type { HandlerCall } from "../../src/lab/server.js";
import { createWeir } from "../../src/weir.js";
import { scene } from "./scene.js";

const method = "lab.Service/Watch";
const streams = new Set([method]);

/** Sends three messages, one each 10 ms, and ends 10 ms later. */
function thrice(call: HandlerCall, left = 3): void {
  if (call.cancelled) return;
  if (left === 0) {
    call.answer();
    return;
  }
  call.send();
  call.process.schedule(10, () => thrice(call, left - 1));
}

function weirIn(process: LabProcess) {
  return createWeir({ clock: process, random: process.random });
}

describe("a stream", () => {
  it("brings its messages as they are sent, and then the status", async () => {
    const { world, client, server, call } = scene();
    server((handled) => thrice(handled));
    const made = call(client(["server:1"], { streams }), { method });
    await world.run(100);
    expect(made.ended).toMatchObject({ code: status.OK, response: "lab", atMs: 36 });
  });

  it.each(["bare grpc-js", "the toolkit"])(
    "ends at its deadline, on both sides, with %s",
    async (who) => {
      const { world, clientProcess, client, server, call } = scene();
      let running: HandlerCall | undefined;
      const options = who === "the toolkit" ? weirIn(clientProcess).client() : {};
      server(
        (handled) => {
          running = handled;
          thrice(handled, 100);
        },
        "server:1",
        (process) => (who === "the toolkit" ? (weirIn(process).server().interceptors ?? []) : []),
      );
      const made = call(client(["server:1"], { streams, options }), { method, deadlineMs: 50 });
      await world.run(200);
      expect(made.ended).toMatchObject({ code: status.DEADLINE_EXCEEDED, atMs: 50 });
      expect(running?.cancelled).toBe(true);
    },
  );

  it("brings all messages through the toolkit", async () => {
    const { world, clientProcess, client, server, call } = scene();
    server(
      (handled) => thrice(handled),
      "server:1",
      (process) => weirIn(process).server({ admission: {} }).interceptors ?? [],
    );
    const options = weirIn(clientProcess).client();
    const made = call(client(["server:1"], { streams, options }), { method });
    await world.run(100);
    expect(made.ended).toMatchObject({ code: status.OK, response: "lab", atMs: 36 });
  });

  it("fails with the status of its handler, after what was sent", async () => {
    const { world, client, server, call } = scene();
    server((handled) => {
      handled.send();
      handled.fail(status.ABORTED, "no more");
    });
    const made = call(client(["server:1"], { streams }), { method });
    await world.run(100);
    expect(made.ended).toMatchObject({ code: status.ABORTED, response: "lab" });
  });

  it("is lost with its connection", async () => {
    const { world, network, client, server, call } = scene();
    server((handled) => thrice(handled));
    const made = call(client(["server:1"], { streams }), { method });
    world.at(20, () => network.connectionsTo("server:1")[0]?.cut());
    await world.run(100);
    expect(made.ended).toMatchObject({ code: status.UNAVAILABLE, atMs: 21 });
  });
});
