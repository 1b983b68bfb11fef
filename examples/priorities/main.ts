// How much calls matter, and whose they are: said by callers, read at the edge, carried on to the service behind.
import { setTimeout as sleep } from "node:timers/promises";
import { credentials, Metadata, Server } from "@grpc/grpc-js";
// #region imports
import {
  createWeir,
  currentCall,
  isServiceError,
  prioritized,
  rejectionOf,
  withPriority,
} from "grpc-weir";
import { googleCriticality } from "grpc-weir/server";
// #endregion
import {
  OrdersServiceClient,
  type OrdersServiceServer,
  OrdersServiceService,
} from "../gen/demo/shop/v1/orders.js";
import { answer, inventoryClient, listen, startInventory } from "../shop.js";

const weir = createWeir();
const gatewayToken = "known to the gateway only";
let pool = 0;
let talks = true;
const say = (line: string) => {
  if (talks) console.log(line);
};

// The service behind. It sheds while its pool is pressed, and what it sheds goes by priority and cohort.
const inventoryService = await startInventory(
  {
    getStock: ({ request }, callback) => {
      const { priority, cohort } = currentCall() ?? {};
      say(`    GetStock of ${request.sku} is ${priority}, cohort ${cohort}`);
      callback(null, { sku: request.sku, quantity: 42 });
    },
    reserve: ({ request }, callback) => {
      callback(null, { reservationId: request.orderId, left: 41 });
    },
  },
  // #region pressure
  weir.server({
    admission: {
      pressure: {
        signals: { pool: () => pool }, // 0 to 1: how long the pool makes its users wait, say
        shedOn: ["pool"],
        sampleMs: 10,
      },
    },
  }),
  // #endregion
);
const inventory = inventoryClient(inventoryService, weir.client({ retry: false, breaker: false }));

// #region server
const edge = new Server(
  weir.server({
    priority: {
      key: "x-criticality", // what callers from outside send
      map: googleCriticality, // CRITICAL_PLUS, CRITICAL, SHEDDABLE_PLUS, SHEDDABLE
      default: "normal",
      methods: { "demo.shop.v1.OrdersService/PriceQuotes": "low" }, // whatever callers say
      trust: ({ metadata }) => metadata.get("x-gateway-token")[0] === gatewayToken,
      cohort: "x-user", // those of a user are served or shed together
    },
  }),
);
// #endregion
edge.addService(OrdersServiceService, {
  placeOrder(call, callback) {
    const { orderId, sku, quantity } = call.request;
    say(`  PlaceOrder is ${currentCall()?.priority}`);
    const stock = (of: string, done: () => void) => inventory.getStock({ sku: of }, () => done());
    stock(sku, () => {
      // #region with-priority
      // A part of the work that matters less: nobody waits for it.
      withPriority("low", () => inventory.getStock({ sku: `${sku} in other colours` }, () => {}));
      // #endregion
      inventory.reserve({ orderId, sku, quantity }, (error, reserved) => {
        if (error !== null) callback(error);
        else callback(null, { orderId, reservationId: reserved.reservationId });
      });
    });
  },
} satisfies Pick<OrdersServiceServer, "placeOrder">);
const edgeService = await listen(edge);
const orders = new OrdersServiceClient(
  edgeService.target,
  credentials.createInsecure(),
  weir.client({ retry: false, breaker: false }),
);

const order = (orderId: string) => ({ orderId, sku: "boots", quantity: 1 });
async function place(said: Readonly<Record<string, string>>): Promise<string> {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(said)) metadata.set(key, value);
  try {
    await answer((done) => orders.placeOrder(order("order"), metadata, done));
    return "served";
  } catch (error) {
    if (!isServiceError(error)) throw error;
    return rejectionOf(error)?.reason ?? error.details;
  }
}

console.log("the gateway says CRITICAL, which is high here, for Anna:");
await place({ "x-criticality": "CRITICAL", "x-gateway-token": gatewayToken, "x-user": "anna" });
await sleep(20);
console.log("somebody else says CRITICAL_PLUS, and has normal:");
await place({ "x-criticality": "CRITICAL_PLUS", "x-user": "mallory" });
await sleep(20);

console.log("three ways to say it of a call of one's own:");
const done = () => {};
// #region say
inventory.getStock({ sku: "boots by metadata" }, prioritized("critical"), done);
inventory.getStock(
  { sku: "boots by options" },
  new Metadata(),
  weir.with({}, { priority: "high" }),
  done,
);
withPriority("low", () => inventory.getStock({ sku: "boots by context" }, done));
// #endregion
await sleep(50);

talks = false;
const users = ["anna", "bob", "carl", "dora", "emil", "fay", "gus", "hana", "ivo", "jane"];
const placeFor = (user: string) =>
  place({ "x-criticality": "SHEDDABLE_PLUS", "x-gateway-token": gatewayToken, "x-user": user });
const shedShare = () => weir.policy("admission").snapshot()[0]?.shedShare ?? 0;
pool = 1; // much more than there should be: the share that is shed rises
for (let turn = 0; turn < 2_000 && shedShare() < 0.4; turn += 1) {
  await placeFor(users[turn % users.length] ?? "anna");
}
pool = 0.5; // as much as there may be: the share stays
await sleep(20);
console.log(
  `the pool behind is pressed; it sheds ${Math.round(100 * shedShare())} % of the calls:`,
);
const ends = new Map<string, string[]>();
for (let round = 0; round < 5; round += 1) {
  for (const user of users) ends.set(user, [...(ends.get(user) ?? []), await placeFor(user)]);
}
for (const [user, all] of ends) {
  console.log(`  ${user.padEnd(5)} ${all.filter((end) => end === "served").length} of 5 served`);
}

for (const each of [inventory, orders]) each.close();
for (const each of [inventoryService, edgeService]) each.stop();
weir.close();
