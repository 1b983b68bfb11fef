import { type ClientOptions, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { FinishedCall } from "../../src/index.js";
import type { LabProcess } from "../../src/lab/process.js";
import { createWeir } from "../../src/weir.js";
import { hangingHandler, scene } from "./scene.js";

/** The toolkit in a process of the lab, and the calls that it has seen end. */
function weirIn(process: LabProcess) {
  const calls: FinishedCall[] = [];
  const weir = createWeir({
    clock: process,
    random: process.random,
    onCall: (call) => calls.push(call),
  });
  return { weir, calls };
}

describe("the toolkit in the lab", () => {
  const toolkitScene = () => {
    const scenery = scene();
    const { weir, calls } = weirIn(scenery.clientProcess);
    const client = (addresses?: readonly string[], own: ClientOptions = {}) =>
      scenery.client(addresses, { options: weir.client({}, own) });
    return { ...scenery, calls, client };
  };

  it("makes calls, and measures them by the clock of the process", async () => {
    const { world, client, server, call, calls } = toolkitScene();
    server();
    const made = call(client(), { deadlineMs: 100 });
    await world.run(200);
    expect(made.ended).toMatchObject({ code: status.OK, response: "lab", atMs: 6 });
    expect(calls).toMatchObject([
      { code: status.OK, durationMs: 6, attempts: [{ peer: "server:1" }] },
    ]);
  });

  it("sends its deadline, and ends the call when it passes", async () => {
    const { world, client, server, call } = toolkitScene();
    const { calls, handler } = hangingHandler();
    server(handler);
    const made = call(client(), { deadlineMs: 50 });
    await world.run(200);
    expect(made.ended).toMatchObject({
      code: status.DEADLINE_EXCEEDED,
      details: "Deadline exceeded after 0.050s, 1 attempt [DEADLINE_EXCEEDED]",
      origin: "deadline",
    });
    expect(calls.map(({ cancelled }) => cancelled)).toEqual([true]);
  });

  it("retries calls that were never sent, until a server is there", async () => {
    const { world, client, server, call, calls } = toolkitScene();
    const of = client();
    const made = call(of, { deadlineMs: 2_000 });
    world.at(20, () => server());
    await world.run(2_000);
    expect(made.ended).toMatchObject({ code: status.OK });
    expect(calls[0]?.attempts[0]).toMatchObject({ origin: "never-sent" });
  });

  it("counts calls that a dying server took with it as a broken connection", async () => {
    const { world, client, server, call, calls } = toolkitScene();
    const process = server(hangingHandler().handler);
    call(client());
    world.at(20, () => process.kill());
    await world.run(100);
    expect(calls).toMatchObject([{ code: status.UNAVAILABLE, origin: "transport" }]);
  });

  it("refuses calls on the server, and the client knows the reason", async () => {
    const { world, client, server, call, calls } = toolkitScene();
    const limit = { limit: 1, maxQueued: 0, criticalHeadroom: 0, thresholds: false } as const;
    const { handler } = hangingHandler();
    server(handler, "server:1", (process) => {
      return weirIn(process).weir.server({ admission: limit }).interceptors ?? [];
    });
    const of = client();
    call(of, { deadlineMs: 500 });
    const refused = call(of, { atMs: 20, deadlineMs: 100 });
    await world.run(200);
    expect(refused.ended?.code).toBe(status.RESOURCE_EXHAUSTED);
    expect(calls[0]).toMatchObject({ origin: "remote", reason: "CONCURRENCY_LIMIT" });
  });
});
