import type { InMemoryNetwork } from "./network.js";
import { type ClientEnd, rst, Stream, type StreamHead } from "./stream.js";

/** A connection from one client to one server. */
export class Connection {
  readonly clientAddress: string;
  readonly serverAddress: string;
  readonly #network: InMemoryNetwork;
  readonly #serve: (stream: Stream, connection: Connection) => void;
  readonly #streams = new Set<Stream>();
  #serverAlive = true;
  #clientAlive = true;
  #onLost: () => void = () => {};

  constructor(
    network: InMemoryNetwork,
    clientAddress: string,
    serverAddress: string,
    serve: (stream: Stream, connection: Connection) => void,
  ) {
    this.#network = network;
    this.clientAddress = clientAddress;
    this.serverAddress = serverAddress;
    this.#serve = serve;
  }

  get usable(): boolean {
    return this.#clientAlive;
  }

  /** Calls `listener` when the client notices that the connection broke. */
  onLost(listener: () => void): void {
    this.#onLost = listener;
  }

  open(head: StreamHead, client: ClientEnd): Stream {
    const stream = new Stream(
      this.#network,
      head,
      client,
      (arrived) => this.#arrive(arrived),
      (settled) => this.#streams.delete(settled),
    );
    this.#streams.add(stream);
    return stream;
  }

  /** The server loses the connection at once, and the client notices one latency later. */
  break(): void {
    if (!this.#serverAlive) return;
    this.#loseServer();
    this.#network.after(this.#network.latencyMs("toClient"), () => this.#loseClient());
  }

  /** Both sides lose the connection at once. */
  destroy(): void {
    this.#loseServer();
    this.#loseClient();
  }

  #loseServer(): void {
    this.#serverAlive = false;
    for (const stream of this.#streams) stream.loseServer();
  }

  #loseClient(): void {
    if (!this.#clientAlive) return;
    this.#clientAlive = false;
    this.#onLost();
    for (const stream of this.#streams) stream.loseClient();
    this.#streams.clear();
  }

  #arrive(stream: Stream): void {
    if (!this.#serverAlive) return;
    this.#streams.add(stream);
    const fate = this.#network.fate();
    if (fate === "refused") stream.serverResets(rst.refusedStream);
    else if (fate === "reset-before") stream.serverResets(rst.internalError);
    else {
      if (fate === "reset-after") stream.resetOnResponse();
      this.#serve(stream, this);
    }
  }
}
