// The project of the tutorial. Its parts, pasted one below the other, are this file.
// #region services
import {
  type Client,
  type ClientOptions,
  credentials,
  type Metadata,
  makeClientConstructor,
  Server,
  ServerCredentials,
  type ServerOptions,
  type ServerUnaryCall,
  type ServiceDefinition,
  type ServiceError,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

// proto-loader makes no types, so these are written by hand.
type Order = { readonly orderId: string };
type Reservation = { readonly reservationId: string };
type Call = ServerUnaryCall<Order, Reservation>;
type Done = sendUnaryData<Reservation>;
type Answer = (error: ServiceError | null, reservation: Reservation) => void;
interface OrdersClient extends Client {
  placeOrder(order: Order, metadata: Metadata, options: object, answer: Answer): void;
}
interface InventoryClient extends Client {
  reserve(order: Order, answer: Answer): void;
}

const definition = loadSync("shop.proto");
const orders = definition["shop.v1.Orders"] as ServiceDefinition;
const inventory = definition["shop.v1.Inventory"] as ServiceDefinition;

function listen(server: Server): Promise<string> {
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(`127.0.0.1:${port}`) : reject(error),
    );
  });
}

/** Each reservation takes 20 ms in a database that works on two at a time: 100 a second. */
function inventoryServer(options: ServerOptions): Server {
  const waiting: (() => void)[] = [];
  let working = 0;
  let calls = 0;
  const work = () => {
    while (working < 2 && waiting.length > 0) {
      working += 1;
      setTimeout(waiting.shift() ?? work, 20);
    }
  };
  const server = new Server(options);
  server.addService(inventory, {
    reserve({ request }: Call, done: Done) {
      calls += 1;
      if (calls === 1) {
        done({ code: status.UNAVAILABLE, details: "still warming up" });
        return;
      }
      waiting.push(() => {
        working -= 1;
        done(null, { reservationId: `reservation of ${request.orderId}` });
        work();
      });
      work();
    },
  });
  return server;
}

/** Passes each order on to the inventory. */
function ordersServer(options: ServerOptions, inventoryTarget: string, client: ClientOptions) {
  const Inventory = makeClientConstructor(inventory, "Inventory");
  const insecure = credentials.createInsecure();
  const below = new Inventory(inventoryTarget, insecure, client) as unknown as InventoryClient;
  const server = new Server(options);
  server.addService(orders, {
    placeOrder({ request }: Call, done: Done) {
      below.reserve(request, (error, reservation) => done(error, reservation));
    },
  });
  return server;
}

// #endregion

// #region attach
import { createWeir } from "grpc-weir";

const weir = createWeir();
const bare = process.argv.includes("--bare");
const onClient = bare ? {} : weir.client();
const onOrders = bare ? {} : weir.server({ admission: {} });
const onInventory = bare ? {} : weir.server({ admission: { limit: 4 } }); // two work, two are ready

// #endregion

// #region traces
import { context, propagation, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { BasicTracerProvider } from "@opentelemetry/sdk-trace-base";
import { traceViewer } from "grpc-weir/viewer";

const viewer = await traceViewer({ keepProcessAlive: process.stdout.isTTY });
trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [viewer.spanProcessor] }));
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
propagation.setGlobalPropagator(new W3CTraceContextPropagator());

// #endregion

// #region priority
import { Metadata as RequestMetadata } from "@grpc/grpc-js";
import { type Priority, priorityKey } from "grpc-weir";

const inventoryService = inventoryServer(onInventory);
const inventoryTarget = await listen(inventoryService);
const ordersService = ordersServer(onOrders, inventoryTarget, onClient);
const ordersTarget = await listen(ordersService);
const Orders = makeClientConstructor(orders, "Orders");
const insecure = credentials.createInsecure();
const client = new Orders(ordersTarget, insecure, onClient) as unknown as OrdersClient;

/** Places an order, with half a second for all of it, and tells how that ended. */
function placeOrder(orderId: string, priority: Priority): Promise<string> {
  const metadata = new RequestMetadata();
  metadata.set(priorityKey, priority);
  const options = { deadline: Date.now() + 500 };
  return new Promise((resolve) => {
    client.placeOrder({ orderId }, metadata, options, (error) =>
      resolve(error === null ? "OK" : error.details),
    );
  });
}

console.log(`order 1: ${await placeOrder("order-1", "high")}`);
// #endregion

// #region overload
const priorities = ["critical", "high", "normal", "low"] as const;
const results = priorities.map((priority) => ({ priority, calls: 0, OK: 0 }));
const running: Promise<void>[] = [];
for (let tick = 0; tick < 100; tick += 1) {
  // Four orders in 20 ms: twice what the database can do.
  for (const result of results) {
    result.calls += 1;
    running.push(
      placeOrder(`order-${running.length + 2}`, result.priority).then((end) => {
        if (end === "OK") result.OK += 1;
      }),
    );
  }
  await new Promise((resolve) => setTimeout(resolve, 20));
}
await Promise.all(running);
console.table(results);
// #endregion

// #region end
for (const call of weir.history().failed.slice(0, 1)) console.log(weir.explain(call));
console.log(`open ${viewer.url} and press Ctrl+C when you have seen enough`);
client.close();
for (const server of [ordersService, inventoryService]) server.forceShutdown();
// #endregion
