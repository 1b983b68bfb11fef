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
  /**
   * The share of messages that get lost, from 0 to 1. Each is sent again after 200 ms, and what follows it on its connection
   * waits for it, as with TCP. @defaultValue 0
   */
  readonly lossShare?: number;
}

/** A request of a single message, as the server gets it. */
export interface WireRequest {
  readonly path: string;
  readonly host: string;
  readonly metadata: Metadata;
  /** The deadline as the client sends it, in whole milliseconds from now; `undefined` without one. */
  readonly timeoutMs: number | undefined;
  readonly message: Buffer;
  /** The answer is a stream of messages. */
  readonly streaming: boolean;
}

/** A part of the answer to a request that is answered with a stream. */
export interface WirePart {
  readonly headers: Metadata | undefined;
  readonly message: Buffer | undefined;
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
  /** A part of the answer has arrived, and there is more to come. */
  received(part: WirePart): void;
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
  /** It still accepts connections. */
  readonly listening: boolean;
  /** A client has connected. Runs in the process. */
  accept(connection: Connection): void;
  /** A request has arrived. Runs in the process. */
  serve(stream: Stream, request: WireRequest): void;
}

/** One call on a connection. */
export interface Stream {
  readonly connection: Connection;
  readonly client: ClientEnd;
  /** When the client sent the request, in milliseconds since the world began. */
  readonly sentMs: number;
  /** Absent until the request has arrived. */
  server: ServerEnd | undefined;
}

/** How long TCP waits before it sends what was lost again, at first. Each wait is twice as long as the one before. */
const resendMs = { data: 200, connect: 1_000 } as const;
/** An attempt to connect that nobody answers fails after so many of them, in 127 s. */
const connectTries = 7;

/** When TCP sends again what it sent at `sentMs` and was lost, for the first time not before `fromMs`. */
function resentMs(sentMs: number, firstWaitMs: number, fromMs: number): number {
  let atMs = sentMs;
  for (let waitMs = firstWaitMs; atMs < fromMs; waitMs *= 2) atMs += waitMs;
  return atMs;
}

/** One direction of a connection: messages arrive in their order, and wait where the way is interrupted. */
class Way {
  readonly #network: Network;
  readonly #address: string;
  readonly #to: LabProcess;
  #lastMs = 0;
  #held: (() => void)[] | undefined;
  #heldSinceMs = 0;

  constructor(network: Network, address: string, to: LabProcess) {
    this.#network = network;
    this.#address = address;
    this.#to = to;
  }

  /** A message leaves at `leavesMs`; `task` reads it in the process where it arrives. */
  send(leavesMs: number, task: () => void): void {
    if (this.#held !== undefined) this.#held.push(task);
    else if (this.#network.interrupted(this.#address)) {
      this.#held = [task];
      this.#heldSinceMs = leavesMs;
    } else this.#arrive(leavesMs + this.#network.messageMs(this.#address), task);
  }

  /** The way is free again. What was lost meanwhile arrives when TCP sends it again. */
  resume(): void {
    const { world } = this.#network;
    if (this.#held === undefined) return;
    const atMs = resentMs(this.#heldSinceMs, resendMs.data, world.nowMs);
    world.at(atMs, () => {
      if (this.#network.interrupted(this.#address)) return;
      const held = this.#held ?? [];
      this.#held = undefined;
      for (const task of held) this.#arrive(atMs + this.#network.latencyMs(this.#address), task);
    });
  }

  #arrive(atMs: number, task: () => void): void {
    this.#lastMs = Math.max(this.#lastMs, atMs);
    this.#to.deliver(this.#lastMs, task);
  }
}

/** How many streams a client may reset at once, and for how many more each second, before Node closes the connection. */
const resets = { burst: 1_000, perSecond: 33 };

/** A connection from one client to one server. Its ends learn what the other has done one latency later. */
export class Connection {
  readonly address: string;
  readonly #network: Network;
  readonly #client: LabProcess;
  readonly listener: Listener;
  readonly #onLost: () => void;
  /**
   * Those that the client waits for, and those that the server has got and not answered, in their order. Made when they are
   * needed: most of the connections of a fleet are idle.
   */
  #streams: Set<Stream> | undefined;
  #served: Set<Stream> | undefined;
  readonly #toServer: Way;
  readonly #toClient: Way;
  #clientUp = true;
  #serverUp = true;
  /** The server takes no more calls on it. */
  #leaving = false;
  /** The client knows that it gets no more calls through, or that the connection has ended. */
  #left = false;
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
    this.listener = listener;
    this.#onLost = onLost;
    this.#toServer = new Way(network, address, listener.process);
    this.#toClient = new Way(network, address, client);
    listener.process.whenKilled(this.#serverDied);
    client.whenKilled(this.#clientDied);
  }

  /** The name of the client's process. */
  get client(): string {
    return this.#client.name;
  }

  /** The client can still make calls on it, as far as it knows. */
  get usable(): boolean {
    return this.#clientUp && !this.#left;
  }

  /** Sends a request. */
  request(client: ClientEnd, request: WireRequest): Stream {
    const sentMs = this.#client.now();
    const stream: Stream = { connection: this, client, sentMs, server: undefined };
    this.#streams ??= new Set();
    this.#streams.add(stream);
    this.#sendToServer(() => {
      if (this.#leaving) return;
      this.#served ??= new Set();
      this.#served.add(stream);
      this.listener.serve(stream, request);
    });
    return stream;
  }

  /** The server sends a part of its answer, and goes on. */
  push(stream: Stream, part: WirePart): void {
    if (this.#served?.has(stream) !== true) return;
    this.#sendToClient(() => {
      if (this.#streams?.has(stream) === true) stream.client.received(part);
    });
  }

  /** The server answers a call. */
  answer(stream: Stream, response: WireResponse): void {
    if (this.#served?.delete(stream) !== true) return;
    this.#sendToClient(() => {
      if (this.#streams?.delete(stream) === true) stream.client.answered(response);
    });
  }

  /**
   * The server says that it takes no more calls (GOAWAY); those that it has go on. Those that are on their way to it are
   * lost, as with grpc-js.
   */
  goAway(): void {
    if (this.#leaving) return;
    this.#leaving = true;
    this.#sendToClient(() => {
      this.#leave();
      const open = [...(this.#streams ?? [])];
      for (const stream of open) {
        if (stream.server !== undefined) continue;
        this.#streams?.delete(stream);
        stream.client.lost(bareStatus(Status.UNAVAILABLE, "Connection dropped"));
      }
    });
  }

  /** The client cancels a call. A server closes a connection with too many resets, as Node does. */
  reset(stream: Stream): void {
    if (this.#streams?.delete(stream) !== true) return;
    this.#sendToServer(() => {
      this.#countReset();
      if (this.#served?.delete(stream) === true) stream.server?.cancelled();
    });
  }

  /** Something between the two ends cuts the connection. Both notice it after a latency. */
  cut(): void {
    const { nowMs } = this.#network.world;
    const latencyMs = this.#network.latencyMs(this.address);
    this.#client.deliver(nowMs + latencyMs, () => {
      this.#lose(bareStatus(Status.UNAVAILABLE, "read ECONNRESET"));
    });
    this.listener.process.deliver(nowMs + latencyMs, () => this.#serverLost());
  }

  #countReset(): void {
    const nowMs = this.listener.process.now();
    const refilled = this.#resetsLeft + ((nowMs - this.#resetMs) / 1_000) * resets.perSecond;
    this.#resetsLeft = Math.min(resets.burst, refilled) - 1;
    this.#resetMs = nowMs;
    if (this.#resetsLeft >= 0 || !this.#serverUp) return;
    const details =
      "Received RST_STREAM with code 2 triggered by internal client error: Session closed with error code 2";
    this.#sendToClient(() => this.#lose(bareStatus(Status.INTERNAL, details)));
    this.#serverLost();
  }

  readonly #serverDied = (): void => {
    if (!this.#serverUp) return;
    this.#serverUp = false;
    // The operating system of the dead process closes the connection.
    this.#toClient.send(this.#network.world.nowMs, () => {
      this.#lose(bareStatus(Status.UNAVAILABLE, "Connection dropped"));
    });
  };

  readonly #clientDied = (): void => {
    this.#clientUp = false;
    this.#streams = undefined;
    this.#toServer.send(this.#network.world.nowMs, () => this.#serverLost());
  };

  #serverLost(): void {
    if (!this.#serverUp) return;
    this.#serverUp = false;
    this.listener.process.forget(this.#serverDied);
    const cut = [...(this.#served ?? [])];
    this.#served = undefined;
    for (const { server } of cut) server?.cancelled();
  }

  #lose(status: StatusObject): void {
    if (!this.#clientUp) return;
    this.#clientUp = false;
    this.#client.forget(this.#clientDied);
    this.#network.closed(this);
    this.#leave();
    const lost = [...(this.#streams ?? [])];
    this.#streams = undefined;
    for (const { client } of lost) client.lost(status);
  }

  #leave(): void {
    if (this.#left) return;
    this.#left = true;
    this.#onLost();
  }

  #sendToServer(task: () => void): void {
    this.#client.send(() => {
      this.#toServer.send(this.#client.now(), () => {
        if (this.#serverUp) task();
      });
    });
  }

  #sendToClient(task: () => void): void {
    if (!this.#serverUp) return;
    const { process } = this.listener;
    process.send(() => {
      this.#toClient.send(process.now(), () => {
        if (this.#clientUp) task();
      });
    });
  }

  /** The way between the two ends is free again. */
  resume(): void {
    this.#toServer.resume();
    this.#toClient.resume();
  }
}

/** Connects processes by messages that take their time. */
export class Network {
  readonly world: World;
  readonly #latencyMs: number | ((random: Random) => number);
  readonly #lossShare: number;
  readonly #listeners = new Map<string, Listener>();
  /** Those that clients have open, by address, for whoever cuts them. */
  readonly #connections = new Map<string, Set<Connection>>();
  /** The addresses to and from which nothing gets through. */
  readonly #interrupted = new Set<string>();
  /** How much longer messages to and from an address take, in milliseconds. */
  readonly #delays = new Map<string, number>();

  constructor(world: World, options: NetworkOptions = {}) {
    this.world = world;
    this.#latencyMs = options.latencyMs ?? 0.25;
    this.#lossShare = options.lossShare ?? 0;
  }

  /** How long the next packet to or from an address takes, in milliseconds. */
  latencyMs(address: string): number {
    const latency = this.#latencyMs;
    const latencyMs =
      typeof latency === "number" ? latency : Math.max(0, latency(this.world.random));
    return latencyMs + (this.#delays.get(address) ?? 0);
  }

  /** How long the next message takes, which may get lost and be sent again. */
  messageMs(address: string): number {
    const latencyMs = this.latencyMs(address);
    if (this.#lossShare === 0 || this.world.random() >= this.#lossShare) return latencyMs;
    return latencyMs + resendMs.data;
  }

  /** From now on, the listener gets what is sent to the address, as long as its process lives. */
  listen(address: string, listener: Listener): void {
    this.#listeners.set(address, listener);
  }

  /** The connections to an address that clients have open. */
  connectionsTo(address: string): readonly Connection[] {
    return [...(this.#connections.get(address) ?? [])];
  }

  /** For connections: the client of one has lost it. */
  closed(connection: Connection): void {
    this.#connections.get(connection.address)?.delete(connection);
  }

  /** From now on, messages to and from an address take so much longer, in milliseconds. */
  delay(address: string, ms: number): void {
    this.#delays.set(address, ms);
  }

  /** From now on, nothing gets to an address and back, and nobody is told. */
  interrupt(address: string): void {
    this.#interrupted.add(address);
  }

  interrupted(address: string): boolean {
    return this.#interrupted.has(address);
  }

  /** From now on, the way to an address is free again. */
  resume(address: string): void {
    if (!this.#interrupted.delete(address)) return;
    for (const connection of this.connectionsTo(address)) connection.resume();
  }

  /**
   * Connects a process to an address. The operating system answers after a round trip, and the server's process after
   * another, when it comes to it. Where the way is interrupted, TCP tries again for 127 s.
   *
   * @param done Gets the connection; `undefined` where nobody listens.
   * @param lost Called when the client can make no more calls on the connection.
   */
  connect(
    client: LabProcess,
    address: string,
    done: (connection: Connection | undefined) => void,
    lost: () => void,
  ): void {
    const knock = (sentMs: number, tries: number) => {
      const knockMs = sentMs + this.latencyMs(address);
      this.world.at(knockMs, () => {
        if (!client.alive) return;
        if (!this.interrupted(address)) {
          this.#answerKnock(client, address, done, lost);
          return;
        }
        const againMs = sentMs + resendMs.connect * 2 ** (tries - 1);
        if (tries === connectTries) client.deliver(againMs, () => done(undefined));
        else knock(againMs, tries + 1);
      });
    };
    knock(client.now(), 1);
  }

  #answerKnock(
    client: LabProcess,
    address: string,
    done: (connection: Connection | undefined) => void,
    lost: () => void,
  ): void {
    const listener = this.#listeners.get(address);
    const backMs = this.world.nowMs + this.latencyMs(address);
    if (listener?.process.alive !== true || !listener.listening) {
      client.deliver(backMs, () => done(undefined));
      return;
    }
    const server = listener.process;
    const killed = () => {
      client.deliver(this.world.nowMs + this.latencyMs(address), () => done(undefined));
    };
    server.whenKilled(killed);
    server.deliver(backMs + this.latencyMs(address), () => {
      server.forget(killed);
      const connection = new Connection(this, client, listener, address, lost);
      listener.accept(connection);
      const all = this.#connections.get(address) ?? new Set();
      this.#connections.set(address, all.add(connection));
      client.deliver(server.now() + this.latencyMs(address), () => {
        done(connection.usable ? connection : undefined);
      });
    });
  }
}
