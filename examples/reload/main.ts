// An operator changes a file of policies while the service runs: once well, once wrong. Then a number is changed by hand.
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
// #region imports
import { createWeir, type PolicyEvent } from "grpc-weir";
import { fileSource } from "grpc-weir/config";
// #endregion
import { answer, inventoryClient, startInventory } from "../shop.js";

const folder = mkdtempSync(join(tmpdir(), "weir-"));
const path = join(folder, "policies.yaml");
writeFileSync(path, "client: { retry: { maxAttempts: 2 }, bulkhead: { maxConcurrent: 10 } }\n");

// #region watch
let told = (event: PolicyEvent): void => {
  if (event.kind === "refused") console.log(`refused: ${String(event.error)}`);
  else
    for (const { option, before, after } of event.changes) {
      console.log(`${option}: ${String(before)} → ${String(after)}`);
    }
};
const weir = createWeir({
  policies: fileSource(path), // read again every two seconds
  onPolicies: (event) => told(event),
  onError: () => {}, // what is refused comes here, too
});
// #endregion

/** Replaces the file as a deployment does, and waits until the process has noticed. */
function replace(document: string): Promise<unknown> {
  writeFileSync(`${path}.new`, document);
  const show = told;
  const noticed = new Promise((resolve) => {
    told = (event) => {
      told = show;
      show(event);
      resolve(event);
    };
  });
  renameSync(`${path}.new`, path);
  return noticed;
}

const server = await startInventory({
  getStock: ({ request }, callback) => callback(null, { sku: request.sku, quantity: 42 }),
});
const client = inventoryClient(server, weir.client());
const ask = () => answer((done) => client.getStock({ sku: "boots" }, done));
const bulkhead = () => {
  const [its] = weir.snapshot().policies.bulkhead?.instances ?? [];
  const [numbers] = Object.values(its?.bulkheads ?? {});
  return `${numbers?.admitted} calls so far, at most ${numbers?.maxConcurrent} at once`;
};

await ask();
console.log(bulkhead());

await replace("client: { retry: { maxAttempts: 3 }, bulkhead: { maxConcurrent: 5 } }\n");
await ask();
console.log(bulkhead());

await replace("client: { retry: { maxAttempts: 3 }, bulkhead: { maxConcurrent: 0 } }\n");
await ask();
console.log(bulkhead());

// #region update
weir.policy("bulkhead").update({ maxConcurrent: 20 }); // wins over file and code
console.log(bulkhead());
weir.policy("bulkhead").revert(); // the file says again
// #endregion
console.log(bulkhead());

client.close();
server.stop();
weir.close();
rmSync(folder, { recursive: true });
