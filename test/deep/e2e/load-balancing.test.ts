import { type ClientOptions, status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import {
  hurried,
  outlierDetection,
  roundRobin,
  weightedRoundRobin,
  weightedWithoutOutliers,
} from "../../../examples/load-balancing/recipes.js";
import { type ClientPolicy, partitionedChannel } from "../../../src/client.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import { createWeir } from "../../../src/weir.js";
import { callMany, callUntil, type Fleet, fleet } from "./load-balancing-scene.js";

const weir = createWeir();
const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

async function servers(size: number): Promise<Fleet> {
  const scene = await fleet(weir, size);
  cleanups.push(scene.stop);
  return scene;
}

/** The toolkit's pipeline over a recipe, and a breaker that one bad server of three does not open. */
function overRecipe(policy: ClientPolicy = {}, own: ClientOptions = {}): ClientOptions {
  return weir.client({ breaker: { consecutiveFailures: false, failureRate: 0.8 }, ...policy }, own);
}

/** Within a call or two of the same for all. */
function even({ calls }: { readonly calls: readonly number[] }): boolean {
  return Math.max(...calls) - Math.min(...calls) <= 2;
}

describe("addresses in one target", { timeout: 40_000 }, () => {
  it("are one server as long as nothing is said", async () => {
    const scene = await servers(3);
    const { calls } = await callMany(scene, scene.client(undefined, overRecipe()));
    expect(calls).toEqual([30, 0, 0]);
  });

  it("take turns by round_robin", async () => {
    const scene = await servers(3);
    const client = scene.client(roundRobin, overRecipe());
    // Those that are connected already begin.
    await callUntil(scene, client, even);
    expect((await callMany(scene, client)).calls).toEqual([10, 10, 10]);
  });
});

describe("outlier_detection", { timeout: 40_000 }, () => {
  it("takes the calls from a server that fails, and gives them back when it is well", async () => {
    const scene = await servers(3);
    const [, bad] = scene.replicas;
    if (bad === undefined) throw new Error("too few servers");
    const client = scene.client(hurried(outlierDetection), overRecipe());
    await callUntil(scene, client, even);

    bad.failsWith = status.UNAVAILABLE;
    const detected = await callUntil(scene, client, ({ calls }) => calls[1] === 0);
    expect(detected.errors).toEqual([]);

    bad.failsWith = undefined;
    const recovered = await callUntil(scene, client, even);
    expect(recovered.calls[1]).toBeGreaterThanOrEqual(8);
  });

  it("sees slowness only where calls have deadlines", async () => {
    const scene = await servers(3);
    const [, slow] = scene.replicas;
    if (slow === undefined) throw new Error("too few servers");
    const client = scene.client(hurried(outlierDetection), overRecipe({ retry: false }));
    await callUntil(scene, client, even);
    slow.hangs = true;
    // On a busy machine the others may be slow, too, for a while.
    const shared = await callUntil(scene, client, ({ calls }) => calls.join() === "15,0,15", {
      deadlineMs: 300,
      callers: 20,
    });
    expect(shared.calls).toEqual([15, 0, 15]);
  });

  it("takes every status but OK for a failure of the server", async () => {
    const scene = await servers(3);
    const [, busy] = scene.replicas;
    if (busy === undefined) throw new Error("too few servers");
    busy.failsWith = status.NOT_FOUND;
    const client = scene.client(hurried(outlierDetection), overRecipe());
    const { errors } = await callUntil(scene, client, ({ calls }) => calls[1] === 0);
    expect(errors).toEqual([]);
  });

  it.each([
    [
      "a duration that is a string makes it pick_first, and nobody says so",
      { interval: "0.1s" },
      [30, 0, 0],
    ],
    [
      "names in camel case are not read, and the defaults ask for five servers",
      { failurePercentageEjection: {} },
      [10, 10, 10],
    ],
  ])("is particular: %s", async (_what, options, expected) => {
    const scene = await servers(3);
    const [first] = scene.replicas;
    if (first === undefined) throw new Error("too few servers");
    const config = { outlier_detection: { ...options, child_policy: [{ round_robin: {} }] } };
    const client = scene.client({ loadBalancingConfig: [config] }, overRecipe());
    if (expected[1] !== 0) await callUntil(scene, client, even);
    expect((await callMany(scene, client)).calls).toEqual(expected);
  });
});

describe("weighted_round_robin", { timeout: 40_000 }, () => {
  it("gives each server what it reports that it can bear, and follows when that changes", async () => {
    const scene = await servers(3);
    const [first, second, third] = scene.replicas;
    first?.report(100, 0.2);
    second?.report(100, 0.8);
    third?.report(100, 0.2);
    const client = scene.client(hurried(weightedRoundRobin), overRecipe());
    // 4 : 1 : 4 of thirty.
    const weighted = await callUntil(
      scene,
      client,
      ({ calls: [a = 0, b = 0, c = 0] }) => b >= 2 && b <= 5 && a >= 11 && c >= 11,
    );
    expect(weighted.errors).toEqual([]);
    second?.report(100, 0.2);
    await callUntil(scene, client, even);
  });

  it("starves a server that reports nothing, as soon as two others have a weight", async () => {
    const scene = await servers(3);
    const [first, , third] = scene.replicas;
    first?.report(100, 0.2);
    third?.report(100, 0.2);
    const client = scene.client(hurried(weightedRoundRobin), overRecipe());
    await callUntil(
      scene,
      client,
      ({ calls: [a = 0, b = 0, c = 0] }) => b === 0 && a > 12 && c > 12,
    );
    expect((await callMany(scene, client)).calls[1]).toBe(0);
  });

  it("goes together with outlier_detection", async () => {
    const scene = await servers(3);
    const [first, second, third] = scene.replicas;
    first?.report(100, 0.2);
    second?.report(100, 0.2);
    third?.report(100, 0.8);
    const client = scene.client(hurried(weightedWithoutOutliers), overRecipe());
    const fewForThird = (c = 0) => c >= 2 && c <= 5;
    await callUntil(scene, client, ({ calls: [, , c] }) => fewForThird(c));
    if (first !== undefined) first.failsWith = status.UNAVAILABLE;
    const { calls } = await callUntil(scene, client, (shares) => shares.calls[0] === 0);
    expect(calls[1]).toBeGreaterThan(calls[2] ?? 30);
  });
});

describe("together with the toolkit", { timeout: 40_000 }, () => {
  it("a retry takes the turn of the next server, so that callers see nothing of one that fails", async () => {
    const scene = await servers(3);
    const client = scene.client(roundRobin, overRecipe());
    await callUntil(scene, client, even);
    const [, bad] = scene.replicas;
    if (bad !== undefined) bad.failsWith = status.UNAVAILABLE;
    const { errors, calls } = await callMany(scene, client, { count: 12, callers: 1 });
    expect(errors).toEqual([]);
    expect(calls[1]).toBeGreaterThanOrEqual(4);
  });

  it("a breaker is the target's: one bad server of two opens it for none, and both open it", async () => {
    const scene = await servers(2);
    const breaker = { consecutiveFailures: false, failureRate: 0.3 } as const;
    const client = scene.client(roundRobin, weir.client({ retry: false, breaker }));
    await callUntil(scene, client, even);
    const [, bad] = scene.replicas;
    if (bad !== undefined) bad.failsWith = status.UNAVAILABLE;
    const one = await callMany(scene, client, { count: 200 });
    expect(one.errors.filter((error) => rejectionOf(error) !== undefined)).toEqual([]);
    expect(one.calls[0]).toBeGreaterThan(90);
    for (const replica of scene.replicas) replica.failsWith = status.UNAVAILABLE;
    await callUntil(scene, client, ({ errors }) =>
      errors.some((error) => rejectionOf(error)?.reason === "BREAKER_OPEN"),
    );
  });

  it("a partition of connections has one to every address", async () => {
    const scene = await servers(2);
    const connections: string[] = [];
    const client = scene.client(
      roundRobin,
      overRecipe(
        {},
        {
          channelFactoryOverride: (target, credentials, channelOptions) =>
            partitionedChannel(target, credentials, {
              partitions: { all: { connections: 2 } },
              channelOptions,
            }),
        },
      ),
    );
    for (const replica of scene.replicas) replica.onCall = (peer) => connections.push(peer);
    await callUntil(scene, client, () => new Set(connections).size === 4);
    expect((await callMany(scene, client)).errors).toEqual([]);
    expect(new Set(connections).size).toBe(4);
  });
});
