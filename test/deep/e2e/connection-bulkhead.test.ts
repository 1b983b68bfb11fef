import { setTimeout as wait } from "node:timers/promises";
import {
  type ClientOptions,
  credentials,
  Metadata,
  Server,
  type ServerOptions,
  status,
} from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { type PartitionedChannelOptions, partitionedChannel } from "../../../src/client.js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { createWeir } from "../../../src/weir.js";
import { echo, withResolvers } from "../../scene.js";
import { listen } from "./listen.js";
import { WindowKeepingRelay } from "./window-keeping-relay.js";

const chunk = { payload: Buffer.alloc(16_000), sequence: 1 };
const partitions = { urgent: { priorities: ["critical", "high"] }, rest: {} } as const;
/** Of a service whose other methods answer with what they are sent. */
type Handlers = Partial<
  Pick<ConformanceServiceServer, "unary" | "clientStream" | "serverStream" | "bidiStream">
>;
const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

async function serve(handlers: Handlers, options: ServerOptions = {}): Promise<number> {
  const server = new Server(options);
  const implementation: ConformanceServiceServer = { ...echo, ...handlers };
  server.addService(ConformanceServiceService, implementation);
  cleanups.push(() => server.forceShutdown());
  return listen(server);
}

async function relayTo(port: number): Promise<WindowKeepingRelay> {
  const relay = await WindowKeepingRelay.to(port);
  cleanups.push(() => relay.close());
  return relay;
}

/** One client over one ordinary channel, or over one with partitions. */
function clientOf(address: string, options: ClientOptions = {}): ConformanceServiceClient {
  const client = new ConformanceServiceClient(address, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    ...options,
  });
  cleanups.push(() => client.close());
  return client;
}

function partitionedTo<Name extends string>(
  address: string,
  options: PartitionedChannelOptions<Name>,
) {
  const channel = partitionedChannel(address, credentials.createInsecure(), options);
  return { channel, client: clientOf(address, { channelOverride: channel }) };
}

const urgent = new Metadata();
urgent.set("x-request-priority", "high");

function ask(client: ConformanceServiceClient, deadlineMs: number): Promise<status> {
  const { promise, resolve } = withResolvers<status>();
  const options = { deadline: Date.now() + deadlineMs };
  client.unary({ payload: Buffer.alloc(10), sequence: 1 }, urgent, options, (error) =>
    resolve(error === null ? status.OK : error.code),
  );
  return promise;
}

/** Resolves when `count` has risen and then stood still for a while. */
async function standstill(count: () => number): Promise<void> {
  for (let before = 0; before === 0 || before !== count(); ) {
    before = count();
    await wait(250);
  }
}

/** Writes as fast as it may until it is stopped. */
class Flood {
  written = 0;
  readonly #stream: Flooded;
  #stopped = false;

  constructor(stream: Flooded) {
    this.#stream = stream;
    this.#go();
  }

  stop(): void {
    this.#stopped = true;
    this.#stream.end();
  }

  #go(): void {
    if (this.#stopped || this.#stream.destroyed) return;
    this.written += 1;
    if (this.#stream.write(chunk)) setImmediate(() => this.#go());
    else this.#stream.once("drain", () => this.#go());
  }
}

interface Flooded {
  readonly destroyed: boolean;
  write(message: typeof chunk): boolean;
  once(event: "drain", then: () => void): unknown;
  end(): void;
}

/** A way of one class to use a connection up. */
interface Way {
  readonly relayed: boolean;
  readonly options?: ServerOptions;
  readonly handlers: Handlers;
  /** Opens calls that use the connection up, and stay. */
  readonly stick: (client: ConformanceServiceClient) => Promise<void>;
  /** Lets them all go on. */
  readonly release: () => void;
}

function unreadResponses(): Way {
  const floods: Flood[] = [];
  const readers: (() => void)[] = [];
  return {
    relayed: true,
    handlers: {
      serverStream: (call) => {
        floods.push(new Flood(call));
      },
    },
    stick: async (client) => {
      const call = client.serverStream({ payload: Buffer.alloc(0), sequence: 1 });
      call.on("error", () => {});
      // Before the first read, grpc-js would take in all that comes.
      call.once("data", () => call.pause());
      readers.push(() => call.resume());
      await standstill(() => floods.reduce((sum, { written }) => sum + written, 0));
    },
    release: () => {
      for (const flood of floods) flood.stop();
      for (const read of readers) read();
    },
  };
}

function unreadRequests(): Way {
  const floods: Flood[] = [];
  const readers: (() => void)[] = [];
  return {
    relayed: true,
    handlers: {
      clientStream: (call) => {
        readers.push(() => call.resume());
      },
    },
    stick: async (client) => {
      const call = client.clientStream(() => {});
      call.on("error", () => {});
      const flood = new Flood(call);
      floods.push(flood);
      await standstill(() => flood.written);
    },
    release: () => {
      for (const flood of floods) flood.stop();
      for (const read of readers) read();
    },
  };
}

function allStreamsTaken(): Way {
  const calls: { cancel(): void }[] = [];
  return {
    relayed: false,
    options: { "grpc.max_concurrent_streams": 3 },
    handlers: { bidiStream: (call) => call.sendMetadata(new Metadata()) },
    stick: async (client) => {
      const opened = [1, 2, 3].map(() => client.bidiStream());
      calls.push(...opened);
      for (const call of opened) call.on("error", () => {}).on("data", () => {});
      await Promise.all(
        opened.map((call) => new Promise<unknown>((resolve) => call.once("metadata", resolve))),
      );
    },
    release: () => {
      for (const call of calls) call.cancel();
    },
  };
}

describe.each([
  ["responses that the client does not read fill the connection's window", unreadResponses],
  ["requests that the server does not read fill the connection's window", unreadRequests],
  ["open calls take all streams that the server allows on a connection", allStreamsTaken],
])("while %s", (_name, makeWay) => {
  it("calls of another partition go on; on a single channel they hang", async () => {
    const way = makeWay();
    const port = await serve(way.handlers, way.options);
    const address = way.relayed ? (await relayTo(port)).address : `127.0.0.1:${port}`;
    const single = clientOf(address);
    const { client, channel } = partitionedTo(address, { partitions });
    expect(await Promise.all([ask(single, 10_000), ask(client, 10_000)])).toEqual([0, 0]);
    await Promise.all([way.stick(single), way.stick(client)]);

    const asked = Promise.all(Array.from({ length: 5 }, () => ask(client, 10_000)));
    expect(await ask(single, 800)).toBe(status.DEADLINE_EXCEEDED);
    expect(await asked).toEqual([0, 0, 0, 0, 0]);

    // It was those calls and nothing else that held the others up.
    way.release();
    expect(await ask(single, 10_000)).toBe(status.OK);
    expect(channel.snapshot().partitions.urgent).toMatchObject({ inFlight: 0, started: 6 });
  });
});

it("between Node peers, streams that nobody reads hold up nobody: each has a window of its own", async () => {
  const port = await serve({ serverStream: (call) => void new Flood(call) });
  const client = clientOf(`127.0.0.1:${port}`);
  for (let n = 0; n < 4; n += 1) {
    const call = client.serverStream({ payload: Buffer.alloc(0), sequence: 1 });
    call.on("error", () => {}).once("data", () => call.pause());
  }
  await wait(300);
  expect(await ask(client, 10_000)).toBe(status.OK);
});

describe("the connections of a partitioned channel", () => {
  /** Answers with nothing, and notes whose connection it came on. */
  function noting() {
    const peers: string[] = [];
    const held: (() => void)[] = [];
    const handlers: Handlers = {
      unary: (call, callback) => {
        peers.push(call.getPeer());
        if (call.request.sequence === 1) callback(null, call.request);
        else held.push(() => callback(null, call.request));
      },
    };
    return { peers, held, handlers };
  }
  const sizes = {
    partitions: { urgent: { priorities: ["high"], connections: 2 }, rest: { connections: 3 } },
  } as const;

  function call(client: ConformanceServiceClient, metadata: Metadata, sequence = 1): Promise<void> {
    return new Promise((resolve, reject) => {
      client.unary({ payload: Buffer.alloc(0), sequence }, metadata, (error) =>
        error === null ? resolve() : reject(error),
      );
    });
  }

  it("are as many as the sizes add up to, and gone when it is closed", async () => {
    const { handlers, peers } = noting();
    const relay = await relayTo(await serve(handlers));
    const { client, channel } = partitionedTo(relay.address, sizes);
    expect(relay.connections).toBe(0);
    for (let n = 0; n < 6; n += 1) {
      await Promise.all([call(client, urgent), call(client, new Metadata())]);
    }
    expect(new Set(peers).size).toBe(5);
    expect(relay.connections).toBe(5);
    expect(channel.snapshot().partitions).toMatchObject({
      urgent: { inFlight: 0, connections: [{ started: 3 }, { started: 3 }] },
      rest: { inFlight: 0, connections: [{ started: 2 }, { started: 2 }, { started: 2 }] },
    });
    client.close();
    while (relay.connections > 0) await wait(10);
  });

  it("take a call where the fewest are in flight", async () => {
    const { handlers, peers, held } = noting();
    const port = await serve(handlers);
    const { client, channel } = partitionedTo(`127.0.0.1:${port}`, sizes);
    const holding = call(client, urgent, 2);
    while (held.length === 0) await wait(10);
    for (let n = 0; n < 5; n += 1) await call(client, urgent);
    const [busy, ...others] = peers;
    expect(new Set(others)).toEqual(new Set([others[0]]));
    expect(others[0]).not.toBe(busy);
    expect(channel.snapshot().partitions.urgent.inFlight).toBe(1);
    for (const answer of held) answer();
    await holding;
    expect(channel.snapshot().partitions.urgent.inFlight).toBe(0);
  });

  it("are all opened by waitForReady, and the toolkit's pipeline rides on them", async () => {
    const { handlers } = noting();
    const relay = await relayTo(await serve(handlers));
    const targets = new Set<string>();
    const weir = createWeir();
    const policy = {
      bulkhead: {
        key: ({ target }: { target: string }) => {
          targets.add(target);
          return target;
        },
      },
    };
    const client = clientOf(
      relay.address,
      weir.client(policy, {
        channelFactoryOverride: (target, credential, channelOptions) =>
          partitionedChannel(target, credential, { ...sizes, channelOptions }),
      }),
    );
    await new Promise<void>((resolve, reject) => {
      client.waitForReady(Date.now() + 10_000, (error) => (error ? reject(error) : resolve()));
    });
    while (relay.connections < 5) await wait(10);
    await call(client, urgent);
    expect([...targets]).toEqual([client.getChannel().getTarget()]);
    expect([...targets]).toEqual([`dns:${relay.address}`]);
  });
});
