import { type Client, credentials } from "@grpc/grpc-js";
import type { Random } from "../../core/clock.js";
import { seededRandom } from "../clock/seeded-random.js";
import { VirtualClock } from "../clock/virtual-clock.js";
import type { ClientConstructor, Link, LinkSetup, Transport } from "../transport.js";
import { InMemoryChannel } from "./channel.js";
import { InMemoryNetwork, type NetworkOptions } from "./network.js";
import { InMemoryServer } from "./server.js";

/** The options of an in-memory transport. */
export interface InMemoryOptions {
  /** The same seed gives the same run. @defaultValue 1 */
  readonly seed?: number;
  /** Give several transports one clock to have them share the same time. @defaultValue a new clock */
  readonly clock?: VirtualClock;
  /** @defaultValue no latency and no faults */
  readonly network?: NetworkOptions;
}

/** Crashes a server and starts it again. */
export interface ServerControl {
  /** Breaks connections without a GOAWAY, and refuses new ones until `start`. */
  crash(): void;
  /** Accepts connections again. Clients notice with their next attempt to connect. */
  start(): void;
}

/** A link of an in-memory transport. */
export interface InMemoryLink extends Link {
  /** The server of this link. */
  readonly server: ServerControl;
}

/** A transport over a modelled network under virtual time. */
export interface InMemoryTransport extends Transport {
  readonly name: "in-memory";
  readonly clock: VirtualClock;
  /** Changes the network while calls are in progress: `network.set({ loss: 0.1 })`. */
  readonly network: Pick<InMemoryNetwork, "set">;
  /** Controls the servers of all links at once. */
  readonly server: ServerControl;
  open(setup: LinkSetup): Promise<InMemoryLink>;
}

/**
 * Connects real clients of grpc-js and real server interceptors by a modelled network under virtual time. An outage of a
 * thousand seconds runs in milliseconds, and in the same way each time for the same seed.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/testing.md
 */
export function inMemoryTransport(options: InMemoryOptions = {}): InMemoryTransport {
  const seed = options.seed ?? 1;
  const clock = options.clock ?? new VirtualClock();
  // Two sources, so that the network does not depend on how often a policy under test draws.
  const network = new InMemoryNetwork(clock, seededRandom(seed), options.network ?? {});
  const random: Random = seededRandom(seed ^ 0x5eed);
  const links: InMemoryLinkImpl[] = [];
  return {
    name: "in-memory",
    clock,
    random,
    network,
    server: {
      crash: () => {
        for (const link of links) link.server.crash();
      },
      start: () => {
        for (const link of links) link.server.start();
      },
    },
    open: (setup) => {
      const link = new InMemoryLinkImpl(
        `127.0.0.1:${40_001 + links.length}`,
        network,
        clock,
        setup,
      );
      links.push(link);
      return Promise.resolve(link);
    },
  };
}

class InMemoryLinkImpl implements InMemoryLink {
  readonly server: InMemoryServer;
  readonly #network: InMemoryNetwork;
  readonly #clock: VirtualClock;
  readonly #setup: LinkSetup;
  readonly #clients: Client[] = [];
  readonly #channels: InMemoryChannel[] = [];

  constructor(address: string, network: InMemoryNetwork, clock: VirtualClock, setup: LinkSetup) {
    this.#network = network;
    this.#clock = clock;
    this.#setup = setup;
    this.server = new InMemoryServer(address, network, setup);
  }

  client<C extends Client>(make: ClientConstructor<C>): C {
    const options = this.#setup.clientOptions ?? {};
    const channel = new InMemoryChannel(this.server, this.#network, options);
    const client = new make(this.server.address, credentials.createInsecure(), {
      ...options,
      channelOverride: channel,
    });
    this.#channels.push(channel);
    this.#clients.push(client);
    return client;
  }

  pass(ms: number): Promise<void> {
    return this.#clock.pass(ms);
  }

  until<T>(promise: Promise<T>, limitMs?: number): Promise<T> {
    return this.#clock.until(promise, limitMs);
  }

  async crash(): Promise<void> {
    this.server.crash();
  }

  inFlight(): number {
    return this.server.calls + this.#channels.reduce((sum, channel) => sum + channel.calls, 0);
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.close();
    this.server.close();
    await this.#clock.pass(0); // until calls that were in progress have ended
  }
}
