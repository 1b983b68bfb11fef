// One program in two environments: its policies come from a file.
import { fileURLToPath } from "node:url";
import { createWeir } from "grpc-weir";
import { fileSource, objectSource, PolicyDocumentError } from "grpc-weir/config";
import { answer, inventoryClient, startInventory } from "../shop.js";

const server = await startInventory({
  getStock: ({ request }, callback) => callback(null, { sku: request.sku, quantity: 42 }),
});

for (const name of ["production", "staging"]) {
  const folder = new URL("../../../examples/configuration/", import.meta.url);
  const path = fileURLToPath(new URL(`${name}.yaml`, folder));
  // #region source
  const weir = createWeir({ policies: fileSource(path) });
  const client = inventoryClient(
    server,
    weir.client({ deadline: { marginMs: 20 } }), // what the code says wins over the file
  );
  const stock = weir.guard("stock-db"); // all its options are in the file
  // #endregion
  const { quantity } = await answer<{ quantity: number }>((done) =>
    client.getStock({ sku: "boots" }, done),
  );
  await stock.run(() => quantity);

  console.log(`\n${name}: ${quantity} boots`);
  // #region explain
  const explained = weir.explainPolicy("demo.shop.v1.InventoryService/GetStock");
  console.log(explained.text.replaceAll(path, `${name}.yaml`));
  // #endregion
  client.close();
  weir.close();
}
server.stop();

// #region wrong
try {
  createWeir({ policies: objectSource({ client: { retry: { maxAtempts: 4 } } }) });
} catch (error) {
  if (!(error instanceof PolicyDocumentError)) throw error;
  const [problem] = error.problems;
  console.log(`\n${problem?.path}: did you mean ${problem?.suggestion}?`);
}
// #endregion
