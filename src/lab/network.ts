import { type Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import type { Random } from "../core/clock.js";
import { bareStatus } from "../testing/in-memory/status.js";
import type { LabProcess } from "./process.js";
import type { World } from "./world.js";

export interface NetworkOptions {
  /**
   * How long a message takes from one process to another, in milliseconds, or a function that draws it. Messages of one
   * connection do not overtake each other. @defaultValue 0.25
   */
  readonly latencyMs?: number | ((random: Random) => number);
}

/** A request of a single message, as the server gets it. */
export interface WireRequest {
  readonly path: string;
  readonly host: string;
  readonly metadata: Metadata;
  /** The deadline as the client sends it, in whole milliseconds from now; `undefined` without one. */
  readonly timeoutMs: number | undefined;
  readonly message: Buffer;
}

/** The answer to a request, as the client gets it. */
export interface WireResponse {
  /** Absent where the server answers with trailers only. */
  readonly headers: Metadata | undefined;
  readonly message: Buffer | undefined;
  readonly status: StatusObject;
}

/** The client's end of a call on a connection. */
export interface ClientEnd {
  answered(response: WireResponse): void;
  /** The connection has ended. */
  lost(status: StatusObject): void;
}

/** The server's end of a call on a connection. */
export interface ServerEnd {
  /** The client has reset the call, or the connection has ended. */
  cancelled(): void;
}

/** What listens at an address. */
export interface Listener {
  readonly process: LabProcess;
  /** A client connects. Runs in the process. */
  accept(): void;
  /** A request has arrived. Runs in the process. */
  serve(stream: Stream, request: WireRequest): void;
}

/** One call on a connection. */
export interface Stream {
  readonly connection: Connection;
  readonly client: ClientEnd;
  /** Absent until the request has arrived. */
  server: ServerEnd | undefined;
}

/** How many streams a client may reset at once, and for how many more each second, before Node closes the connection. */
const resets = { burst: 1_000, perSecond: 33 };

/** A connection from one client to one server. Its ends learn what the other has done one latency later. */
export class Connection {
  readonly address: string;
  readonly #network: Network;
  readonly #client: LabProcess;
  readonly #listener: Listener;
  readonly #onLost: () => void;
  /**
   * Those that the client waits for, and those that the server has got and not answered, in their order. Made when they are
   * needed: most of the connections of a fleet are idle.
   */
  #streams: Set<Stream> | undefined;
  #served: Set<Stream> | undefined;
  #toServerMs = 0;
  #toClientMs = 0;
  #clientUp = true;
  #serverUp = true;
  #resetsLeft = resets.burst;
  #resetMs = 0;

  /** @param onLost Told in the client's process when it has lost the connection. */
  constructor(
    network: Network,
    client: LabProcess,
    listener: Listener,
    address: string,
    onLost: () => void,
  ) {
    this.address = address;
    this.#network = network;
    this.#client = client;
    this.#listener = listener;
    this.#onLost = onLost;
    listener.process.whenKilled(this.#serverDied);
    client.whenKilled(this.#clientDied);
  }

  /** The name of the client's process. */
  get client(): string {
    return this.#client.name;
  }

  /** The client can still use it, as far as it knows. */
  get usable(): boolean {
    return this.#clientUp;
  }

  /** Sends a request. */
  open(client: ClientEnd, request: WireRequest): Stream {
    const stream: Stream = { connection: this, client, server: undefined };
    this.#streams ??= new Set();
    this.#streams.add(stream);
    this.#toServer(() => {
      this.#served ??= new Set();
      this.#served.add(stream);
      this.#listener.serve(stream, request);
    });
    return stream;
  }

  /** The server answers a call. */
  answer(stream: Stream, response: WireResponse): void {
    if (this.#served?.delete(stream) !== true) return;
    this.#toClient(() => {
      if (this.#streams?.delete(stream) === true) stream.client.answered(response);
    });
  }

  /** The client cancels a call. A server closes a connection with too many resets, as Node does. */
  reset(stream: Stream): void {
    if (this.#streams?.delete(stream) !== true) return;
    this.#toServer(() => {
      this.#countReset();
      if (this.#served?.delete(stream) === true) stream.server?.cancelled();
    });
  }

  /** Something between the two ends cuts the connection. Both notice it after a latency. */
  cut(): void {
    const { nowMs } = this.#network.world;
    const latencyMs = this.#network.latencyMs();
    this.#client.deliver(nowMs + latencyMs, () => {
      this.#lose(bareStatus(Status.UNAVAILABLE, "read ECONNRESET"));
    });
    this.#listener.process.deliver(nowMs + latencyMs, () => this.#serverLost());
  }

  #countReset(): void {
    const nowMs = this.#listener.process.now();
    const refilled = this.#resetsLeft + ((nowMs - this.#resetMs) / 1_000) * resets.perSecond;
    this.#resetsLeft = Math.min(resets.burst, refilled) - 1;
    this.#resetMs = nowMs;
    if (this.#resetsLeft >= 0 || !this.#serverUp) return;
    const details =
      "Received RST_STREAM with code 2 triggered by internal client error: Session closed with error code 2";
    this.#toClient(() => this.#lose(bareStatus(Status.INTERNAL, details)));
    this.#serverLost();
  }

  readonly #serverDied = (): void => {
    if (!this.#serverUp) return;
    this.#serverUp = false;
    // The operating system of the dead process closes the connection.
    const { nowMs } = this.#network.world;
    this.#client.deliver(Math.max(nowMs + this.#network.latencyMs(), this.#toClientMs), () => {
      this.#lose(bareStatus(Status.UNAVAILABLE, "Connection dropped"));
    });
  };

  readonly #clientDied = (): void => {
    this.#clientUp = false;
    this.#streams = undefined;
    const { nowMs } = this.#network.world;
    this.#listener.process.deliver(nowMs + this.#network.latencyMs(), () => this.#serverLost());
  };

  #serverLost(): void {
    if (!this.#serverUp) return;
    this.#serverUp = false;
    this.#listener.process.forget(this.#serverDied);
    const cut = [...(this.#served ?? [])];
    this.#served = undefined;
    for (const { server } of cut) server?.cancelled();
  }

  #lose(status: StatusObject): void {
    if (!this.#clientUp) return;
    this.#clientUp = false;
    this.#client.forget(this.#clientDied);
    this.#network.closed(this);
    this.#onLost();
    const lost = [...(this.#streams ?? [])];
    this.#streams = undefined;
    for (const { client } of lost) client.lost(status);
  }

  #toServer(task: () => void): void {
    this.#client.send(() => {
      const arrivesMs = this.#client.now() + this.#network.latencyMs();
      this.#toServerMs = Math.max(this.#toServerMs, arrivesMs);
      this.#listener.process.deliver(this.#toServerMs, () => {
        if (this.#serverUp) task();
      });
    });
  }

  #toClient(task: () => void): void {
    if (!this.#serverUp) return;
    const { process } = this.#listener;
    process.send(() => {
      const arrivesMs = process.now() + this.#network.latencyMs();
      this.#toClientMs = Math.max(this.#toClientMs, arrivesMs);
      this.#client.deliver(this.#toClientMs, () => {
        if (this.#clientUp) task();
      });
    });
  }
}

/** Connects processes by messages that take their time. */
export class Network {
  readonly world: World;
  readonly #latencyMs: number | ((random: Random) => number);
  readonly #listeners = new Map<string, Listener>();
  /** Those that clients still use, by address, for whoever cuts them. */
  readonly #connections = new Map<string, Set<Connection>>();

  constructor(world: World, options: NetworkOptions = {}) {
    this.world = world;
    this.#latencyMs = options.latencyMs ?? 0.25;
  }

  /** How long the next message takes, in milliseconds. */
  latencyMs(): number {
    const latency = this.#latencyMs;
    return typeof latency === "number" ? latency : Math.max(0, latency(this.world.random));
  }

  /** From now on, the listener gets what is sent to the address, as long as its process lives. */
  listen(address: string, listener: Listener): void {
    this.#listeners.set(address, listener);
  }

  /** The connections to an address that clients still use. */
  connectionsTo(address: string): readonly Connection[] {
    return [...(this.#connections.get(address) ?? [])];
  }

  /** For connections: the client of one has lost it. */
  closed(connection: Connection): void {
    this.#connections.get(connection.address)?.delete(connection);
  }

  /**
   * Connects a process to an address. The operating system answers after a round trip, and the server's process after
   * another, when it comes to it.
   *
   * @param done Gets the connection; `undefined` where nobody listens.
   * @param lost Called when the connection has ended.
   */
  connect(
    client: LabProcess,
    address: string,
    done: (connection: Connection | undefined) => void,
    lost: () => void,
  ): void {
    const knockMs = client.now() + this.latencyMs();
    this.world.at(knockMs, () => {
      const listener = this.#listeners.get(address);
      const backMs = knockMs + this.latencyMs();
      if (listener?.process.alive !== true) {
        client.deliver(backMs, () => done(undefined));
        return;
      }
      const server = listener.process;
      const killed = () => {
        client.deliver(this.world.nowMs + this.latencyMs(), () => done(undefined));
      };
      server.whenKilled(killed);
      server.deliver(backMs + this.latencyMs(), () => {
        server.forget(killed);
        listener.accept();
        const connection = new Connection(this, client, listener, address, lost);
        const all = this.#connections.get(address) ?? new Set();
        this.#connections.set(address, all.add(connection));
        client.deliver(server.now() + this.latencyMs(), () => {
          done(connection.usable ? connection : undefined);
        });
      });
    });
  }
}
