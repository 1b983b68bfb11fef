// A server goes out of service while calls run on it: who is in flight ends well, who comes is told to go elsewhere.
import { setTimeout as sleep } from "node:timers/promises";
import {
  credentials,
  Server,
  ServerCredentials,
  ServerMetricRecorder,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { createWeir, currentCall, type HealthStatus, isServiceError, rejectionOf } from "grpc-weir";
import { InventoryServiceClient, InventoryServiceService } from "../gen/demo/shop/v1/inventory.js";
import { answer, type InventoryHandlers } from "../shop.js";

const weir = createWeir();
const server = new Server(weir.server({ admission: { limit: 3, maxWaitMs: 2_000 } }));
server.addService(InventoryServiceService, {
  getStock: ({ request }, callback) => {
    const tookMs = request.sku === "a report" ? 10_000 : 600;
    // Who is cut off has its work cancelled.
    sleep(tookMs, undefined, { signal: currentCall()?.signal }).then(
      () => callback(null, { sku: request.sku, quantity: 42 }),
      () => callback({ code: status.CANCELLED }),
    );
  },
} satisfies InventoryHandlers);

// #region load
// Clients that balance by weight (weighted_round_robin) turn away from a server that sheds.
const recorder = new ServerMetricRecorder();
recorder.addToServer(server); // for those that ask out of band
weir.reportLoad(recorder, { intervalMs: 200 });
// #endregion

const port = await new Promise<number>((resolve, reject) => {
  server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
    error === null ? resolve(bound) : reject(error),
  );
});
const connect = () =>
  new InventoryServiceClient(
    `127.0.0.1:${port}`,
    credentials.createInsecure(),
    weir.client({ retry: false, breaker: false }),
  );
const client = connect();

const beganMs = performance.now();
const at = () => `${Math.round((performance.now() - beganMs) / 100) * 100} ms`.padStart(8);
/** `HealthImplementation` of grpc-health-check has the same method. */
const health: HealthStatus = {
  setStatus: (service, said) => console.log(`${at()}  health: "${service}" is ${said}`),
};
async function ask(name: string, sku: string): Promise<void> {
  try {
    await answer((done) => client.getStock({ sku }, done));
    console.log(`${at()}  ${name}: OK`);
  } catch (error) {
    if (!isServiceError(error)) throw error;
    console.log(`${at()}  ${name}: ${status[error.code]} ${reasonOf(error)}`);
  }
}
const reasonOf = (error: ServiceError) => rejectionOf(error)?.reason ?? error.details.split(".")[0];

const calls = [
  ask("1st, in flight", "boots"),
  ask("2nd, in flight", "boots"),
  ask("a report, in flight", "a report"),
  ask("4th, waits in the queue", "boots"),
];
await sleep(100);
console.log(`${at()}  drain`);
// #region drain
const drained = weir.drain(server, {
  health, // says NOT_SERVING at once
  noticeMs: 200, // and goes on serving, until load balancers have heard it
  graceMs: 1_000, // then nobody is let in, and who runs may end
});
// #endregion
calls.push(sleep(400).then(() => ask("5th, comes too late", "boots")));
const report = await drained;
await Promise.all(calls);
console.log(`${at()}  drained: ${JSON.stringify(report)}`);

client.close();
weir.close();
