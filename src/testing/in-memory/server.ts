import {
  Metadata,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  type ServerMethodDefinition,
  status,
} from "@grpc/grpc-js";
import type { LinkSetup } from "../transport.js";
import { Connection } from "./connection.js";
import { type Handler, runHandler } from "./handlers.js";
import { responseHeaders } from "./headers.js";
import type { InMemoryNetwork } from "./network.js";
import { InMemoryServerCall } from "./server-call.js";
import type { Stream } from "./stream.js";

interface Registered {
  readonly definition: ServerMethodDefinition<unknown, unknown>;
  readonly handler: Handler;
}

/** The server of a link: it accepts connections while it is up, and runs handlers. */
export class InMemoryServer {
  readonly address: string;
  readonly #network: InMemoryNetwork;
  readonly #interceptors: readonly ServerInterceptor[];
  readonly #methods: ReadonlyMap<string, Registered>;
  readonly #connections = new Set<Connection>();
  #up = true;
  #calls = 0;
  #lastClientPort = 50_000;

  constructor(address: string, network: InMemoryNetwork, setup: LinkSetup) {
    this.address = address;
    this.#network = network;
    this.#interceptors = setup.serverInterceptors ?? [];
    this.#methods = register(setup);
  }

  /** Calls that have reached the interceptors and have not ended. */
  get calls(): number {
    return this.#calls;
  }

  /** Breaks connections without a GOAWAY, and refuses new ones. */
  crash(): void {
    this.#up = false;
    for (const connection of this.#connections) connection.break();
    this.#connections.clear();
  }

  /** Closes everything at once, for both sides. */
  close(): void {
    this.#up = false;
    for (const connection of this.#connections) connection.destroy();
    this.#connections.clear();
  }

  /** Accepts connections again. */
  start(): void {
    this.#up = true;
  }

  /** Connects, which takes one latency to the server and one back. `undefined` while the server is down. */
  connect(
    network: InMemoryNetwork,
    ref: boolean,
    answer: (connection: Connection | undefined) => void,
  ): void {
    const arrive = () => {
      const connection = this.#up ? this.#accept() : undefined;
      network.after(network.latencyMs("toClient"), () => answer(connection), ref);
    };
    network.after(network.latencyMs("toServer"), arrive, ref);
  }

  #accept(): Connection {
    this.#lastClientPort += 1;
    const connection = new Connection(
      this.#network,
      `127.0.0.1:${this.#lastClientPort}`,
      this.address,
      (stream, at) => this.#serve(stream, at),
    );
    this.#connections.add(connection);
    return connection;
  }

  #serve(stream: Stream, connection: Connection): void {
    const { path } = stream.head;
    const registered = this.#methods.get(path);
    if (registered === undefined) {
      // As in grpc-js, interceptors do not see calls of a method that no service has.
      stream.serverFinishes(
        {
          code: status.UNIMPLEMENTED,
          details: unimplemented(path).details,
          headers: responseHeaders({}, this.#network.clock.wallNow()),
        },
        () => {},
      );
      stream.serverCloses();
      return;
    }
    this.#calls += 1;
    const base: ServerInterceptingCallInterface = new InMemoryServerCall(
      this.#network,
      connection,
      stream,
      registered.definition,
      () => {
        this.#calls -= 1;
      },
    );
    // As in grpc-js, each call has its own object, which must not be used as a key.
    const definition = { ...registered.definition };
    const call = this.#interceptors.reduce<ServerInterceptingCallInterface>(
      (below, interceptor) => interceptor(definition, below),
      base,
    );
    runHandler(call, definition, registered.handler);
  }
}

function unimplemented(method: string) {
  const details = `The server does not implement the method ${method}`;
  return { code: status.UNIMPLEMENTED, details, metadata: new Metadata() };
}

function register({ service, implementation }: LinkSetup): Map<string, Registered> {
  const methods = new Map<string, Registered>();
  for (const [name, definition] of Object.entries(service)) {
    const { path, requestStream, responseStream, requestDeserialize, responseSerialize } =
      definition;
    const original = "originalName" in definition ? definition.originalName : undefined;
    const own = implementation[name] ?? implementation[original ?? name];
    const handler: Handler =
      own === undefined
        ? missingHandler(name)
        : (call, respond) => void Reflect.apply(own, implementation, [call, respond]);
    methods.set(path, {
      definition: { path, requestStream, responseStream, requestDeserialize, responseSerialize },
      handler,
    });
  }
  return methods;
}

/** For a method without an implementation. As in grpc-js, its calls do reach the interceptors. */
function missingHandler(name: string): Handler {
  return (call, respond) => {
    if (respond !== undefined) respond(unimplemented(name), null);
    else (call as NodeJS.EventEmitter).emit("error", unimplemented(name));
  };
}
