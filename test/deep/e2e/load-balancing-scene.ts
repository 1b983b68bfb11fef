import { setTimeout as wait } from "node:timers/promises";
import {
  type ClientOptions,
  credentials,
  Metadata,
  Server,
  ServerMetricRecorder,
  type ServiceError,
  type status,
} from "@grpc/grpc-js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import type { Weir } from "../../../src/weir.js";
import { echo } from "../../scene.js";
import { listen } from "./listen.js";

/** One server of several. What it does can be changed while it runs. */
export class Replica {
  calls = 0;
  /** It answers every call with this code. */
  failsWith: status | undefined;
  /** It lets every call wait. */
  hangs = false;
  /** Hears whose connection each call comes on. */
  onCall: (peer: string) => void = () => {};
  address = "";
  readonly load = new ServerMetricRecorder();
  readonly #server: Server;

  constructor(weir: Weir) {
    this.#server = new Server(weir.server());
    const implementation: ConformanceServiceServer = {
      ...echo,
      unary: (call, callback) => {
        this.calls += 1;
        this.onCall(call.getPeer());
        if (this.hangs) return;
        if (this.failsWith === undefined) callback(null, call.request);
        else callback({ code: this.failsWith, details: "this one is bad" });
      },
    };
    this.#server.addService(ConformanceServiceService, implementation);
    this.load.addToServer(this.#server);
  }

  async start(): Promise<void> {
    const port = await listen(this.#server);
    this.address = `127.0.0.1:${port}`;
  }

  report(callsPerSecond: number, utilization: number): void {
    this.load.setQpsMetric(callsPerSecond);
    this.load.setApplicationUtilizationMetric(utilization);
  }

  stop(): void {
    this.#server.forceShutdown();
  }
}

export interface Fleet {
  readonly replicas: readonly Replica[];
  readonly target: string;
  readonly client: (
    serviceConfig: object | undefined,
    options: ClientOptions,
  ) => ConformanceServiceClient;
  readonly stop: () => void;
}

/** So many servers behind one target. */
export async function fleet(weir: Weir, size: number): Promise<Fleet> {
  const replicas = Array.from({ length: size }, () => new Replica(weir));
  await Promise.all(replicas.map((replica) => replica.start()));
  const target = `ipv4:${replicas.map(({ address }) => address).join(",")}`;
  const clients: ConformanceServiceClient[] = [];
  return {
    replicas,
    target,
    client: (serviceConfig, options) => {
      const client = new ConformanceServiceClient(target, credentials.createInsecure(), {
        "grpc.use_local_subchannel_pool": 1,
        ...(serviceConfig === undefined
          ? {}
          : { "grpc.service_config": JSON.stringify(serviceConfig) }),
        ...options,
      });
      clients.push(client);
      return client;
    },
    stop: () => {
      for (const client of clients) client.close();
      for (const replica of replicas) replica.stop();
    },
  };
}

/** What came of some calls: how many each server got, and what their callers saw. */
export interface Shares {
  readonly calls: readonly number[];
  readonly errors: readonly ServiceError[];
}

/** Makes `count` calls, so many callers side by side. */
export async function callMany(
  { replicas }: Fleet,
  client: ConformanceServiceClient,
  { count = 30, callers = 6, deadlineMs = 10_000 } = {},
): Promise<Shares> {
  const before = replicas.map(({ calls }) => calls);
  const errors: ServiceError[] = [];
  let left = count;
  const caller = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      const error = await callOnce(client, deadlineMs);
      if (error !== null) errors.push(error);
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  return { calls: replicas.map(({ calls }, index) => calls - (before[index] ?? 0)), errors };
}

function callOnce(
  client: ConformanceServiceClient,
  deadlineMs: number,
): Promise<ServiceError | null> {
  return new Promise((resolve) => {
    const options = { deadline: Date.now() + deadlineMs };
    const request = { payload: Buffer.alloc(0), sequence: 1 };
    client.unary(request, new Metadata(), options, (error) => resolve(error));
  });
}

/** Goes on calling until what comes of it is as wanted. Time is the test's own limit. */
export async function callUntil(
  scene: Fleet,
  client: ConformanceServiceClient,
  wanted: (shares: Shares) => boolean,
  options: Parameters<typeof callMany>[2] = {},
): Promise<Shares> {
  for (;;) {
    const shares = await callMany(scene, client, options);
    if (wanted(shares)) return shares;
    // What is waited for are timers of grpc-js, which take their time however much is called.
    await wait(20);
  }
}
