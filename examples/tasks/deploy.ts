// A server leaves while clients call it, and another one takes over.
import { setTimeout as sleep } from "node:timers/promises";
import { credentials, Server } from "@grpc/grpc-js";
import { createWeir, type HealthStatus, type Weir } from "grpc-weir";
import { InventoryServiceClient, InventoryServiceService } from "../gen/demo/shop/v1/inventory.js";
import { answer, type InventoryHandlers, listen } from "../shop.js";

// #region client
/** Two instances, in turns. DRAINING tells the client that the call may go to the other one. */
function connect(weir: Weir, addresses: string[]): InventoryServiceClient {
  const own = {
    "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
  };
  const target = `ipv4:${addresses.join(",")}`;
  return new InventoryServiceClient(target, credentials.createInsecure(), weir.client({}, own));
}
// #endregion

// #region stop
/** For the signal by which the platform stops an instance. */
async function stop(weir: Weir, server: Server, health: HealthStatus): Promise<void> {
  const { inFlight, cutOff, tookMs } = await weir.drain(server, {
    health, // a HealthImplementation of grpc-health-check
    noticeMs: 200, // under Kubernetes, 5 to 10 s
    graceMs: 2_000, // with noticeMs, below terminationGracePeriodSeconds
  });
  console.log(
    `  drained: ${inFlight} in flight, ${cutOff} cut off, ${tookMs < 2_500 ? "in" : "out of"} time`,
  );
  weir.close();
}
// process.once("SIGTERM", () => void stop(weir, server, health));
// #endregion

export async function surviveADeploy(): Promise<void> {
  const instances = await Promise.all(
    ["old", "new"].map(async (name) => {
      const weir = createWeir();
      const server = new Server(weir.server({ admission: {} }));
      server.addService(InventoryServiceService, {
        getStock: ({ request }, callback) => {
          setTimeout(() => callback(null, { sku: request.sku, quantity: 42 }), 10);
        },
      } satisfies InventoryHandlers);
      return { name, weir, server, listening: await listen(server) };
    }),
  );
  const callers = createWeir();
  const client = connect(
    callers,
    instances.map(({ listening }) => listening.target),
  );
  const health: HealthStatus = { setStatus: () => {} };
  let served = 0;
  const calls = Array.from({ length: 100 }, async (_, n) => {
    await sleep(n * 10);
    await answer((done) => client.getStock({ sku: "boots" }, done)).then(
      () => {
        served += 1;
      },
      () => {},
    );
  });
  await sleep(300);
  console.log("an instance leaves while it is called:");
  const [old, young] = instances;
  if (old !== undefined) await stop(old.weir, old.server, health);
  await Promise.all(calls);
  console.log(`  ${served} of ${calls.length} calls were answered`);
  client.close();
  callers.close();
  young?.listening.stop();
  young?.weir.close();
}
