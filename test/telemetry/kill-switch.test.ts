import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { staticFlags } from "../../src/policies/flags/source.js";
import { apart } from "../policies/flags/kill-scene.js";
import { kinds, scene } from "../scene.js";
import { decisionsOf, startTracing, type TracingUnderTest } from "./tracing.js";

let tracing: TracingUnderTest;
beforeEach(() => {
  tracing = startTracing();
});
afterEach(() => tracing.stop());

describe.each(kinds)("the spans of a %s call whose method is switched off", (method) => {
  it("say so on the server that refuses it, and on the client whose attempt it was", async () => {
    const world = await apart({ client: { breaker: false } });
    world.server.flags.set("kill", true);
    await world.call(method);
    const [call] = tracing.calls();
    const [server] = tracing.servers();
    expect(server?.attributes).toMatchObject({
      "weir.rejection.reason": "KILLED",
      "rpc.status_code": "UNAVAILABLE",
    });
    expect(decisionsOf(server)).toEqual([expect.stringMatching(/flags.*reject.*KILLED/)]);
    expect(call?.attributes).toMatchObject({
      "weir.rejection.reason": "KILLED",
      "weir.rejection.local": false,
    });
    expect(tracing.attempts()).toHaveLength(1);
  });

  it("say so on the client that does not send it, which has no attempt", async () => {
    const world = await scene({ client: {}, flags: staticFlags({ kill: true }) });
    await world.call(method);
    const [call] = tracing.calls();
    expect(call?.attributes).toMatchObject({
      "weir.rejection.reason": "KILLED",
      "weir.rejection.local": true,
    });
    expect(decisionsOf(call)).toEqual([expect.stringMatching(/flags.*reject.*KILLED/)]);
    expect(tracing.attempts()).toEqual([]);
  });
});
