// A server of the overload bench, in a process of its own, so that its event loop and its CPU time are its own.
import { type handleUnaryCall, Server, ServerCredentials } from "@grpc/grpc-js";
import { type Column, type Guarding, guarding, refusing } from "./overload-columns.js";
import { overloadService, type WorkName, works } from "./overload-handlers.js";
import { obeyOrders } from "./peer.js";

export type ServerOrder =
  /** Ends the server there was, and begins another that knows nothing of the calls before. */
  | {
      readonly do: "listen";
      readonly column: Column;
      readonly work: WorkName;
      readonly roundsPerMs: number;
    }
  | { readonly do: "listen-refusing"; readonly column: "limit" | "weir" }
  | { readonly do: "cpu" };
export interface ServerAnswer {
  readonly port?: number;
  /** CPU time since the process began, in microseconds. */
  readonly cpuUs?: number;
  readonly error?: string;
}

const empty: handleUnaryCall<Buffer, Buffer> = (call, callback) => callback(null, call.request);
let end: (() => void) | undefined;

function listen(guard: Guarding, handler: handleUnaryCall<Buffer, Buffer>): Promise<number> {
  end?.();
  const server = new Server(guard.options);
  end = () => {
    server.forceShutdown();
    guard.close();
  };
  server.addService(overloadService, { work: handler, empty, hold: () => {} });
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) resolve(port);
      else reject(error);
    });
  });
}

async function obey(order: ServerOrder): Promise<ServerAnswer> {
  switch (order.do) {
    case "listen":
      return {
        port: await listen(
          guarding(order.column, order.work),
          works[order.work].make(order.roundsPerMs),
        ),
      };
    case "listen-refusing":
      return { port: await listen(refusing(order.column), empty) };
    case "cpu": {
      const { user, system } = process.cpuUsage();
      return { cpuUs: user + system };
    }
    default:
      return order satisfies never;
  }
}

obeyOrders(obey);
