// The server of the retries bench or one of its clients, in a process of its own: its CPU time is its own, and
// its machine code is shaped by one client only, as in a real service. The coordinator speaks to it over IPC.
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { obeyOrders } from "./peer.js";
import { type Call, FailingServer, type Load, retriesService, runLoad } from "./retries-call.js";
import { type Contestant, makers } from "./retries-clients.js";

export type Order =
  | { readonly do: "listen" }
  | { readonly do: "attempts" }
  | {
      readonly do: "load";
      readonly by: Contestant;
      readonly target: string;
      readonly load: Load;
    };
export interface Answer {
  readonly target?: string;
  /** How many have come since the server began. */
  readonly attempts?: number;
  /** CPU time of the load, in microseconds. */
  readonly cpuUs?: number;
  readonly elapsedMs?: number;
  readonly error?: string;
}

const failing = new FailingServer();
let call: Call | undefined;

function listen(): Promise<string> {
  const server = new Server();
  server.addService(retriesService, { unary: failing.unary });
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) resolve(`127.0.0.1:${port}`);
      else reject(error);
    });
  });
}

async function obey(order: Order): Promise<Answer> {
  switch (order.do) {
    case "listen":
      return { target: await listen() };
    case "attempts":
      return { attempts: failing.attempts };
    case "load": {
      call ??= makers[order.by](order.target);
      const before = process.cpuUsage();
      const startedMs = performance.now();
      await runLoad(call, order.load);
      const elapsedMs = performance.now() - startedMs;
      const { user, system } = process.cpuUsage(before);
      return { cpuUs: user + system, elapsedMs };
    }
    default:
      return order satisfies never;
  }
}

obeyOrders(obey);
