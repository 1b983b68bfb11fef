// A control plane leads a client: to two servers, of which one fails, and then to another cluster.
// #region imports
import { credentials } from "@grpc/grpc-js";
import { register } from "@grpc/grpc-js-xds";
import { createWeir } from "grpc-weir";
// #endregion
import { InventoryServiceClient } from "../gen/demo/shop/v1/inventory.js";
import { answer, startInventory } from "../shop.js";
import { controlPlane } from "./control-plane.js";

let oneIsDown = false;
const start = (fails: boolean) =>
  startInventory({
    getStock: ({ request }, callback) =>
      fails && oneIsDown
        ? callback({ code: 14, details: "down" })
        : callback(null, { sku: request.sku, quantity: 42 }),
  });
const servers = await Promise.all([start(true), start(false), start(false)]);
const [failing = 0, first = 0, second = 0] = servers.map(({ target }) =>
  Number(target.split(":")[1]),
);
const plane = await controlPlane({ clusters: { a: [failing, first], b: [second] }, to: "a" });
Object.assign(process.env, { GRPC_XDS_BOOTSTRAP_CONFIG: plane.bootstrap });

// #region attach
register(); // from now on grpc-js knows targets that begin with xds:
const weir = createWeir();
const client = new InventoryServiceClient(
  "xds:///shop",
  credentials.createInsecure(),
  weir.client(),
);
// #endregion

const ask = () => answer((done) => client.getStock({ sku: "boots" }, done));
const names = new Map([
  [failing, "the failing server"],
  [first, "the first server"],
  [second, "the second server"],
]);
const attempts = () =>
  weir
    .history()
    .last[0]?.attempts.map(({ peer }) => names.get(Number(peer?.split(":")[1])))
    .join(", then ");

// Until there are connections to both servers.
const seen = new Set<string | undefined>();
while (seen.size < 2) {
  await ask();
  seen.add(attempts());
}
oneIsDown = true;
await ask();
console.log(`OK, from ${attempts()}`);

plane.change({ to: "b" });
while (!attempts()?.includes("second")) await ask();
console.log(`the route leads to another cluster: OK, from ${attempts()}`);

client.close();
weir.close();
plane.close();
for (const server of servers) server.stop();
// The xDS client of a process goes on to look for its control plane.
process.exit();
