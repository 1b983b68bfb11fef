import type {
  Client,
  ClientOptions,
  ServerInterceptor,
  ServerOptions,
  ServiceDefinition,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Clock, Random } from "../core/clock.js";

/**
 * Connects clients to one server. A test that uses no more than this interface runs over real sockets and over the
 * in-memory network.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/testing.md
 */
export interface Transport {
  /** For test names: `loopback`, `in-memory`. */
  readonly name: string;
  /** The clock of the transport; give it to the interceptors under test. */
  readonly clock: Clock;
  /** A source of chance; give it to the interceptors under test. */
  readonly random: Random;
  /** Starts a server. */
  open(setup: LinkSetup): Promise<Link>;
}

/**
 * A server, and the options of its clients.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/testing.md
 */
export interface LinkSetup {
  readonly service: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
  /** The interceptors, transformer and channel options of each client of the link. */
  readonly clientOptions?: ClientOptions;
  /** The first is nearest to the wire, as in `ServerOptions.interceptors`. */
  readonly serverInterceptors?: readonly ServerInterceptor[];
  /** The options of the server without its interceptors. The in-memory transport ignores them. */
  readonly serverOptions?: Omit<ServerOptions, "interceptors">;
}

/**
 * The constructor of a grpc-js client, generated or not.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/testing.md
 */
export type ClientConstructor<C extends Client> = new (
  address: string,
  credentials: import("@grpc/grpc-js").ChannelCredentials,
  options?: ClientOptions,
) => C;

/**
 * One server and its clients.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/testing.md
 */
export interface Link {
  /** Makes a client of the server. */
  client<C extends Client>(make: ClientConstructor<C>): C;
  /** Waits for `ms` milliseconds: in real time, or by moving the virtual clock. */
  pass(ms: number): Promise<void>;
  /**
   * Waits for the promise, in real time or by moving the virtual clock. Rejects when it has not settled within `limitMs`.
   * The default of `limitMs` is 10,000.
   */
  until<T>(promise: Promise<T>, limitMs?: number): Promise<T>;
  /** Crashes the server: connections break without a GOAWAY, and new ones are refused. */
  crash(): Promise<void>;
  /** Calls that have not ended, counted on the client below all interceptors and again on the server. */
  inFlight(): number;
  /** Closes the clients and the server. */
  close(): Promise<void>;
}
