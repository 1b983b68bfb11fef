// A policy of one's own in the pipeline.
import { status } from "@grpc/grpc-js";
import { createWeir, isServiceError } from "grpc-weir";
import { answer, inventoryClient, startInventory } from "../shop.js";
import { checked } from "./checked.js";
import { tenant, tenants } from "./tenants.js";

/** Only reading is allowed here. */
const isReading = (method: string) => method.endsWith("/GetStock");

let asked = 0;
const server = await startInventory({
  getStock({ request, metadata }, callback) {
    asked += 1;
    if (asked === 1) callback({ code: status.UNAVAILABLE, details: "one moment" });
    else {
      const sku = `${request.sku} of ${String(metadata.get("x-tenant")[0])}`;
      callback(null, { sku, quantity: 42 });
    }
  },
});
// #region client
const weir = createWeir();
const client = inventoryClient(server, weir.client({ parts: [tenants, checked(isReading)] }));
// #endregion

console.log("a call of a tenant:");
const { sku } = await tenant.run("blue", () =>
  answer<{ sku: string }>((done) => client.getStock({ sku: "boots" }, done)),
);
console.log(`  answered: ${sku}`);
console.log("a call of nobody:");
try {
  await answer((done) => client.getStock({ sku: "boots" }, done));
} catch (error) {
  if (!isServiceError(error)) throw error;
  console.log(`  ${status[error.code]}: ${error.details}, ${asked} calls on the server`);
}
client.close();
weir.close();
server.stop();
