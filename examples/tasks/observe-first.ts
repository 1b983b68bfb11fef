// Policies that are attached to services in production, and at first change nothing.
import { createWeir } from "grpc-weir";
import { answer, inventoryClient, startInventory } from "../shop.js";

// #region attach
const weir = createWeir();
const clientOptions = weir.client({
  retry: { mode: "observe" },
  breaker: { mode: "observe" },
});
const serverOptions = weir.server({
  admission: { mode: "observe" },
  deadlineGuard: { mode: "observe" },
});
// #endregion

// #region report
/** What the policies would have refused since the start, and how those calls ended instead. */
function report(): string[] {
  return Object.entries(weir.observed()).flatMap(([policy, reasons]) =>
    Object.entries(reasons ?? {}).map(
      ([reason, { refused, success, failure }]) =>
        `${policy}: ${refused} × ${reason}, of which ${success} ended well and ${failure} failed`,
    ),
  );
}
// #endregion

// #region enforce
/** One policy at a time, the least risky first. */
function enforce(policy: "deadline-guard" | "retry" | "breaker" | "admission"): void {
  weir.policy(policy).mode = "enforce";
}
// #endregion

export async function observeFirst(): Promise<void> {
  let down = true;
  const service = await startInventory(
    {
      getStock: ({ request }, callback) => {
        if (down) callback(new Error("the shelf has fallen down"));
        else callback(null, { sku: request.sku, quantity: 42 });
      },
    },
    serverOptions,
  );
  const client = inventoryClient(service, clientOptions);
  const ask = () => answer((done) => client.getStock({ sku: "boots" }, done)).catch(() => {});
  for (let call = 0; call < 20; call += 1) await ask();
  down = false;
  for (let call = 0; call < 5; call += 1) await ask();
  console.log("what observed policies would have done:");
  for (const line of report()) console.log(`  ${line}`);
  enforce("breaker");
  console.log(`  from now on the breaker is in mode ${weir.policy("breaker").mode}`);
  client.close();
  service.stop();
  weir.close();
}
