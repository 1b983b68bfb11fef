// One process of the incident, started by main.ts: `node process.js <role> <way> [address for OTLP]`.
import { type Server, ServerCredentials } from "@grpc/grpc-js";
import { Caller } from "./caller.js";
import { edgeServer } from "./edge.js";
import { hopOf } from "./hop.js";
import { inventoryServer } from "./inventory.js";
import { watchLateness } from "./lateness.js";
import { type Conditions, type Order, type Role, report } from "./messages.js";
import { Network } from "./network.js";
import { ordersServer } from "./orders.js";
import { startTracing } from "./tracing.js";
import { isWay, type Way } from "./ways.js";

const role = process.argv[2] as Role;
const way = wayOf(process.argv[3]);
const spans = way === "toolkit" ? await startTracing(process.argv[4]) : undefined;
const hop = await hopOf(way);

const servers: Server[] = [];
let caller: Caller | undefined;
let network: Network | undefined;
let breaks: NodeJS.Timeout | undefined;
let become: (conditions: Conditions) => void = () => {};

function wayOf(name: string | undefined): Way {
  if (isWay(name)) return name;
  throw new Error(`no way to play is called ${String(name)}`);
}

function bind(server: Server): Promise<number> {
  servers.push(server);
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) resolve(port);
      else reject(error);
    });
  });
}

async function listenAsInventory(port: number): Promise<number> {
  const inventory = inventoryServer(hop);
  const wire = new Network(await bind(inventory.server));
  network = wire;
  become = (conditions) => {
    inventory.become(conditions);
    clearInterval(breaks);
    if (conditions.breaksEveryMs === 0) return;
    breaks = setInterval(() => wire.breakConnections(), conditions.breaksEveryMs);
  };
  return await wire.listen(port);
}

async function openShop(inventory: string): Promise<Caller> {
  const ordersPort = await bind(ordersServer(hop, inventory));
  const edgePort = await bind(edgeServer(hop, `127.0.0.1:${ordersPort}`));
  return new Caller(hop, `127.0.0.1:${edgePort}`);
}

async function obey(order: Order): Promise<void> {
  switch (order.type) {
    case "listen":
      report({ type: "listening", port: await listenAsInventory(order.port) });
      break;
    case "conditions":
      become(order);
      break;
    case "open":
      caller = await openShop(order.inventory);
      report({ type: "opened" });
      break;
    case "prime":
      await caller?.prime(order.calls);
      report({ type: "primed" });
      break;
    case "begin":
      await spans?.forget();
      if (caller === undefined) throw new Error("the shop is not open");
      report({ type: "results", calls: await caller.run(order.calls) });
      break;
    case "flow":
      caller?.flow(order.callsPerSecond);
      break;
    case "send":
      await spans?.send();
      report({ type: "sent" });
      break;
    case "stop":
      clearInterval(breaks);
      caller?.close();
      for (const server of servers) server.forceShutdown();
      network?.close();
      await spans?.send();
      await spans?.close();
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
watchLateness((ms) => report({ type: "late", ms }));
report({ type: "ready" });
