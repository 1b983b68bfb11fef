import net from "node:net";
import { type ClientOptions, credentials, Metadata, Server, status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it, vi } from "vitest";
import { roundRobin } from "../../../examples/load-balancing/recipes.js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { reconnectBackoff } from "../../../src/grpc/channel/options.js";
import { createWeir, type Weir } from "../../../src/weir.js";
import { breakersOf, onlyBreaker } from "../../policies/breaker/client-scene.js";
import { handlers, payload } from "../../scene.js";
import { listen } from "./listen.js";
import { type Fleet, fleet, type Replica } from "./load-balancing-scene.js";
import { RestartingServer, sleep } from "./soak-scene.js";

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

function weirOf(): Weir {
  const weir = createWeir();
  cleanups.push(() => weir.close());
  return weir;
}

function clientOf(target: string, options: ClientOptions): ConformanceServiceClient {
  const client = new ConformanceServiceClient(target, credentials.createInsecure(), {
    // Two clients with the same options would share a connection, and its fate.
    "grpc.use_local_subchannel_pool": 1,
    ...options,
  });
  cleanups.push(() => client.close());
  return client;
}

function call(client: ConformanceServiceClient, deadlineMs = 1_000): Promise<status> {
  return new Promise((resolve) => {
    const options = { deadline: Date.now() + deadlineMs };
    client.unary({ payload, sequence: 3 }, new Metadata(), options, (error) =>
      resolve(error?.code ?? status.OK),
    );
  });
}

/** How many of the same calls, at the same times, each client has served. */
async function servedOf(
  clients: readonly ConformanceServiceClient[],
  count: number,
): Promise<readonly number[]> {
  const ends: Promise<status>[][] = clients.map(() => []);
  for (let n = 0; n < count; n += 1) {
    for (const [index, client] of clients.entries()) {
      for (let side = 0; side < 3; side += 1) ends[index]?.push(call(client));
    }
    await sleep(10);
  }
  const codes = await Promise.all(ends.map((all) => Promise.all(all)));
  return codes.map((all) => all.filter((code) => code === status.OK).length);
}

describe("three servers behind round_robin", { timeout: 40_000 }, () => {
  async function three() {
    const weir = weirOf();
    const scene: Fleet = await fleet(weirOf(), 3);
    cleanups.push(scene.stop);
    const own = {
      "grpc.use_local_subchannel_pool": 1,
      "grpc.service_config": JSON.stringify(roundRobin),
    };
    const bare = scene.client(roundRobin, {});
    const ours = scene.client(undefined, weir.client({}, own));
    const single = scene.client(undefined, weir.client({ retry: false }, own));
    const clients = [bare, ours, single];
    await servedOf(clients, 20);
    const [bad] = scene.replicas;
    if (bad === undefined) throw new Error("too few servers");
    return { weir, clients, bad };
  }

  it.each<[string, (bad: Replica) => void]>([
    ["is killed", (bad) => bad.stop()],
    [
      "answers only errors",
      (bad) => {
        bad.failsWith = status.UNAVAILABLE;
      },
    ],
    [
      "answers only errors that nobody retries",
      (bad) => {
        bad.failsWith = status.INTERNAL;
      },
    ],
  ])("serve no fewer calls than without the toolkit when one of them %s", async (_what, harm) => {
    const { weir, clients, bad } = await three();
    harm(bad);
    const [bare = 0, ours = 0, single = 0] = await servedOf(clients, 150);
    // Each client has its own turns, so a call or two may fall to another server.
    const least = bare - 0.02 * 450;
    expect(ours).toBeGreaterThanOrEqual(least);
    expect(single).toBeGreaterThanOrEqual(least);
    for (const policy of weir.policy("breaker").snapshot()) {
      for (const breaker of Object.values(policy.breakers)) expect(breaker.state).toBe("closed");
    }
  });
});

describe("a server that is gone for a while", { timeout: 40_000 }, () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  // grpc-js draws the waits between its attempts to connect, a fifth more or less. Left to chance, whoever is due next when
  // the server is back would be the sooner one; here each draw is the same for both.
  it.each([
    [300, 0.5],
    [1_200, 0],
    [2_500, 0.5],
  ])(
    "for %d ms serves a client with the defaults again as soon as one without, when all draws are %d",
    async (goneMs, draw) => {
      vi.spyOn(Math, "random").mockReturnValue(draw);
      const server = new RestartingServer((_call, answer) => answer());
      await server.start();
      cleanups.push(() => void server.stop(0));
      const weir = weirOf();
      const ways = [{}, reconnectBackoff({}), weir.client()];
      const clients = ways.map((options) => clientOf(server.address, options));
      let backAtMs = Number.POSITIVE_INFINITY;
      const firstMs = clients.map(() => Number.POSITIVE_INFINITY);
      let stop = false;
      const callers = clients.map(async (client, index) => {
        const all: Promise<void>[] = [];
        while (!stop) {
          all.push(
            call(client).then((code) => {
              const nowMs = performance.now();
              if (code !== status.OK || nowMs < backAtMs) return;
              firstMs[index] = Math.min(firstMs[index] ?? nowMs, nowMs - backAtMs);
            }),
          );
          await sleep(10);
        }
        await Promise.all(all);
      });
      await sleep(250);
      await server.stop(0);
      await sleep(goneMs);
      await server.start();
      backAtMs = performance.now();
      while (firstMs.includes(Number.POSITIVE_INFINITY)) await sleep(10);
      stop = true;
      await Promise.all(callers);
      const [bare = 0, connected = 0, ours = 0] = firstMs;
      expect(ours).toBeLessThanOrEqual(bare + 500);
      // The toolkit lets calls go as soon as the channel connects.
      expect(ours).toBeLessThanOrEqual(connected + 500);
    },
  );
});

describe("one connection that breaks", { timeout: 20_000 }, () => {
  /** A server behind a relay whose connections can be broken, while the server is well. */
  async function relayed() {
    const server = new Server();
    const behave = handlers((_call, answer) => void setTimeout(answer, 100));
    server.addService(ConformanceServiceService, behave);
    const port = await listen(server);
    const sockets = new Set<net.Socket>();
    const relay = net.createServer((near) => {
      const far = net.connect(port, "127.0.0.1");
      sockets.add(near);
      for (const socket of [near, far]) socket.on("error", () => {});
      near.on("close", () => {
        sockets.delete(near);
        far.destroy();
      });
      far.on("close", () => near.destroy());
      near.pipe(far).pipe(near);
    });
    await new Promise<void>((resolve) => {
      relay.listen(0, "127.0.0.1", resolve);
    });
    const address = relay.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    cleanups.push(() => {
      relay.close();
      for (const socket of sockets) socket.destroy();
      server.forceShutdown();
    });
    const cut = () => {
      for (const socket of sockets) socket.resetAndDestroy();
    };
    return { target: `127.0.0.1:${address.port}`, cut };
  }

  it.each([8, 60])("under %d calls opens no breaker, and refuses nobody", async (count) => {
    const { target, cut } = await relayed();
    const weir = weirOf();
    const client = clientOf(target, weir.client({ retry: { idempotent: true } }));
    expect(await call(client)).toBe(status.OK);
    const calls = Array.from({ length: count }, () => call(client, 5_000));
    await sleep(50);
    cut();
    const codes = await Promise.all(calls);
    // The budget allows thirty retries in ten seconds, and a fifth of the calls more.
    expect(codes.filter((code) => code === status.OK).length).toBeGreaterThanOrEqual(
      Math.min(count, 30),
    );
    expect(onlyBreaker(weir)).toMatchObject({ state: "closed", openedInARow: 0 });
    expect(await call(client)).toBe(status.OK);
  });
});

describe("a server that ends its connections for their age", { timeout: 20_000 }, () => {
  it("opens no breaker of streams that delivered, and of those that waited once", async () => {
    const server = new Server({
      "grpc.max_connection_age_ms": 300,
      "grpc.max_connection_age_grace_ms": 30,
    });
    const implementation: ConformanceServiceServer = {
      ...handlers((_call, answer) => answer()),
      serverStream: (stream) => {
        // Every other stream waits for something that does not happen.
        if (stream.request.sequence % 2 === 0) return;
        const timer = setInterval(() => stream.write({ payload, sequence: 1 }), 10);
        stream.on("cancelled", () => clearInterval(timer));
      },
    };
    server.addService(ConformanceServiceService, implementation);
    const port = await listen(server);
    cleanups.push(() => server.forceShutdown());
    const weir = weirOf();
    const client = clientOf(`127.0.0.1:${port}`, weir.client({ retry: false }));
    let ended = 0;
    const streams = Array.from({ length: 12 }, async (_, sequence) => {
      const stream = client.serverStream({ payload, sequence });
      stream.on("data", () => {});
      await new Promise<void>((resolve) => {
        stream.on("error", () => {
          ended += 1;
          resolve();
        });
      });
    });
    await Promise.all(streams);
    expect(ended).toBe(12);
    const [breaker] = Object.values(breakersOf(weir));
    expect(breaker).toMatchObject({ state: "closed", consecutiveFailures: 1 });
    expect(await call(client)).toBe(status.OK);
  });
});
