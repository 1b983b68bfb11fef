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
 * A way from clients to one server. The same test runs over real sockets and over the in-memory
 * network, because it asks only this much of either.
 */
export interface Transport {
  /** For test names: `loopback`, `in-memory`. */
  readonly name: string;
  /** The clock that the transport lives by; hand it to the interceptors under test. */
  readonly clock: Clock;
  /** The chance that the transport lives by; hand it to the interceptors under test. */
  readonly random: Random;
  /** Starts a server and gives the way to it. */
  open(setup: LinkSetup): Promise<Link>;
}

export interface LinkSetup {
  readonly service: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
  /** Interceptors, transformer and channel options of every client of this link. */
  readonly clientOptions?: ClientOptions;
  /** Nearest the wire first, as in `ServerOptions.interceptors`. */
  readonly serverInterceptors?: readonly ServerInterceptor[];
  /** Options of the server apart from its interceptors. A network that is only modelled may ignore them. */
  readonly serverOptions?: Omit<ServerOptions, "interceptors">;
}

/** The constructor of a grpc-js client, generated or not. */
export type ClientConstructor<C extends Client> = new (
  address: string,
  credentials: import("@grpc/grpc-js").ChannelCredentials,
  options?: ClientOptions,
) => C;

export interface Link {
  /** Creates a client that reaches this link's server. */
  client<C extends Client>(make: ClientConstructor<C>): C;
  /** Lets `ms` pass: in real time, or by moving the virtual clock. */
  pass(ms: number): Promise<void>;
  /**
   * Waits for the promise, moving virtual time as far as it takes.
   * Rejects when it has not settled within `limitMs` (default 10,000) of this link's time.
   */
  until<T>(promise: Promise<T>, limitMs?: number): Promise<T>;
  /** The server is gone: connections break without a goodbye and new ones are refused. */
  crash(): Promise<void>;
  /** Calls that have not ended, counted on the client's wire side and on the server. */
  inFlight(): number;
  /** Closes clients and server. */
  close(): Promise<void>;
}
