// One process of the incident, started by main.ts: `node process.js <role> <with|without>`.
import { type Server, ServerCredentials } from "@grpc/grpc-js";
import { Caller } from "./caller.js";
import { edgeServer } from "./edge.js";
import { type Hop, withoutToolkit, withToolkit } from "./hop.js";
import { inventoryServer } from "./inventory.js";
import { type Conditions, type Order, type Role, report } from "./messages.js";
import { ordersServer } from "./orders.js";
import type { Script } from "./script.js";
import { startTracing } from "./tracing.js";

const role = process.argv[2] as Role;
const equipped = process.argv[3] === "with";
const sendSpans = equipped ? startTracing(role) : () => Promise.resolve();

let server: Server | undefined;
let caller: Caller | undefined;
let become: (conditions: Conditions) => void = () => {};

function hopOf(script: Script): Hop {
  return equipped ? withToolkit(script) : withoutToolkit(script);
}

function serverOf(hop: Hop, next: string): Server {
  switch (role) {
    case "edge":
      return edgeServer(hop, next);
    case "orders":
      return ordersServer(hop, next);
    case "inventory": {
      const inventory = inventoryServer(hop);
      become = (conditions) => inventory.become(conditions);
      return inventory.server;
    }
    case "caller":
      throw new Error("the caller serves nobody");
  }
}

function listen(listening: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    listening.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
}

async function obey(order: Order): Promise<void> {
  switch (order.type) {
    case "listen":
      server ??= serverOf(hopOf(order.script), order.next);
      report({ type: "listening", port: await listen(server, order.port) });
      break;
    case "conditions":
      become(order);
      break;
    case "prime":
      caller = new Caller(hopOf(order.script), order.target);
      await caller.prime(order.calls);
      report({ type: "primed" });
      break;
    case "begin":
      report({ type: "results", calls: (await caller?.run(order.calls)) ?? [] });
      break;
    case "stop":
      caller?.close();
      server?.forceShutdown();
      await sendSpans();
      report({ type: "stopped" }, () => process.exit(0));
      break;
  }
}

process.on("message", (order: Order) => {
  obey(order).catch((error: unknown) => {
    console.error(`${role}:`, error);
    process.exit(1);
  });
});
// The director decides when this ends; without it there is nothing to do.
process.on("disconnect", () => process.exit(0));
process.on("SIGINT", () => {});
report({ type: "ready" });
