import type { ClientOptions, ServerInterceptor } from "@grpc/grpc-js";
import type { LabClient } from "../client.js";
import type { ClientCosts, ServerCosts } from "../costs.js";
import type { Caller } from "../load.js";
import type { LabProcess } from "../process.js";
import type { RetryPolicy } from "../retry-policy.js";
import type { DrainableServer } from "../server.js";
import type { BreakerReading, ServerReading } from "../timeline.js";

/** What a client does beyond bare grpc-js. */
export interface ClientSide {
  readonly costs: ClientCosts;
  readonly options?: ClientOptions;
  readonly retryPolicy?: RetryPolicy;
  /** Puts something around the calls of the client. */
  readonly around?: (client: LabClient) => Caller;
  /** Its circuit breakers, by their state now. @defaultValue it has none */
  readonly breakers?: () => BreakerReading;
}

/** What a server does beyond bare grpc-js. */
export interface ServerSide {
  readonly costs: ServerCosts;
  readonly interceptors: readonly ServerInterceptor[];
  /** Its calls now. @defaultValue all that have come and not ended run, without a limit */
  readonly reading?: () => ServerReading | undefined;
  /** Takes the server out of service. @defaultValue its `tryShutdown` alone */
  readonly drain?: (server: DrainableServer, exit: () => void) => void;
}

/** A way to make clients and servers resilient, to be compared with others in the same world. */
export interface Peer {
  readonly name: string;
  readonly client: (process: LabProcess) => ClientSide;
  /** @param fixedLimit The right number of running calls for the server, for peers that are told it. */
  readonly server: (process: LabProcess, fixedLimit: number) => ServerSide;
}
