import { setTimeout as wait } from "node:timers/promises";
import {
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  ServerMetricRecorder,
  status,
} from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { weightedRoundRobin } from "../../../examples/load-balancing/recipes.js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import { createWeir, type Weir } from "../../../src/weir.js";
import { echo } from "../../scene.js";

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

/** A server that tells its load to those that balance by it. Its handlers take 40 ms. */
class Reporting {
  readonly weir: Weir;
  readonly server: Server;
  calls = 0;
  port = 0;

  constructor(onRefusal: (reason: string | undefined) => void) {
    this.weir = createWeir({
      onDecision: ({ verdict, reason }) => {
        if (verdict === "reject") onRefusal(reason);
      },
    });
    this.server = new Server(this.weir.server({ admission: { limit: 8 } }));
    const implementation: ConformanceServiceServer = {
      ...echo,
      unary: (call, callback) => {
        this.calls += 1;
        setTimeout(() => callback(null, call.request), 40);
      },
    };
    this.server.addService(ConformanceServiceService, implementation);
  }

  async start(port: number): Promise<this> {
    const recorder = new ServerMetricRecorder();
    recorder.addToServer(this.server);
    this.port = await new Promise<number>((resolve, reject) => {
      const bound = (error: Error | null, taken: number) =>
        error === null ? resolve(taken) : reject(error);
      this.server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), bound);
    });
    this.weir.reportLoad(recorder, { intervalMs: 100 });
    cleanups.push(() => this.stop());
    return this;
  }

  stop(): void {
    this.weir.close();
    this.server.forceShutdown();
  }
}

describe("weighted_round_robin by load reports", { timeout: 40_000 }, () => {
  it("gives each of three servers its share again in a rolling restart, with no call lost and none shed", async () => {
    const refusals: (string | undefined)[] = [];
    const boot = (port: number) => new Reporting((reason) => refusals.push(reason)).start(port);
    const servers = [await boot(0), await boot(0), await boot(0)];
    const weir = createWeir();
    const [{ weighted_round_robin: recipe } = {}] = weightedRoundRobin.loadBalancingConfig;
    const hurried = {
      ...recipe,
      oob_load_reporting_period: "0.1s",
      weight_update_period: "0.1s",
    };
    const target = `ipv4:${servers.map(({ port }) => `127.0.0.1:${port}`).join(",")}`;
    const policy = {
      deadline: { defaultMs: 5_000 },
      breaker: { consecutiveFailures: false, failureRate: 0.8 },
    } as const;
    const own = {
      "grpc.use_local_subchannel_pool": 1,
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 200,
      "grpc.service_config": JSON.stringify({
        loadBalancingConfig: [{ weighted_round_robin: hurried }],
      }),
    };
    const client = new ConformanceServiceClient(
      target,
      credentials.createInsecure(),
      weir.client(policy, own),
    );
    cleanups.push(() => client.close());

    const endings: string[] = [];
    const call = () =>
      new Promise<void>((resolve) => {
        client.unary({ payload: Buffer.alloc(0), sequence: 1 }, new Metadata(), {}, (error) => {
          endings.push(error ? `${status[error.code]} ${rejectionOf(error)?.reason}` : "OK");
          resolve();
        });
      });
    const load = async (count: number): Promise<number[]> => {
      for (const server of servers) server.calls = 0;
      const calls: Promise<void>[] = [];
      for (let index = 0; index < count; index += 1) {
        calls.push(call());
        await wait(8);
      }
      await Promise.all(calls);
      return servers.map(({ calls }) => calls);
    };

    await load(60);
    for (const [index, old] of servers.entries()) {
      const during = load(150);
      await old.weir.drain(old.server, { graceMs: 2_000 });
      old.stop();
      servers[index] = await boot(old.port);
      await during;
      // A reconnect, and one report.
      await load(100);
      const shares = await load(150);
      expect(Math.max(...shares) / Math.min(...shares)).toBeLessThan(1.25);
    }
    expect(endings.filter((ending) => ending !== "OK")).toEqual([]);
    // A retry would hide what was refused. Calls that meet a server that goes are sent elsewhere.
    expect(refusals.filter((reason) => reason !== "DRAINING")).toEqual([]);
  });
});
