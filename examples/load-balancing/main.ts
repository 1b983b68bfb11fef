// Three servers behind one target, one of them bad: who gets how many calls.
import { setTimeout as wait } from "node:timers/promises";
import {
  type ClientOptions,
  credentials,
  Server,
  ServerMetricRecorder,
  status,
} from "@grpc/grpc-js";
import { createWeir } from "grpc-weir";
import {
  InventoryServiceClient,
  type InventoryServiceServer,
  InventoryServiceService,
} from "../gen/demo/shop/v1/inventory.js";
import { answer, listen } from "../shop.js";
import { hurried, outlierDetection, roundRobin, weightedRoundRobin } from "./recipes.js";

const weir = createWeir();

/** One server of three. */
class Replica {
  calls = 0;
  broken = false;
  target = "";
  stop = (): void => {};
  readonly load = new ServerMetricRecorder();

  async start(): Promise<void> {
    const server = new Server(weir.server());
    server.addService(InventoryServiceService, this.#handlers());
    this.load.addToServer(server);
    this.report(100, 0.2);
    const listening = await listen(server);
    this.target = listening.target;
    this.stop = () => listening.stop();
  }

  // #region report
  /** Both must be above 0, or the report counts for nothing. The weight is the first by the second. */
  report(callsPerSecond: number, utilization: number): void {
    this.load.setQpsMetric(callsPerSecond);
    this.load.setApplicationUtilizationMetric(utilization);
  }
  // #endregion

  #handlers(): Pick<InventoryServiceServer, "getStock"> {
    return {
      getStock: ({ request }, callback) => {
        this.calls += 1;
        if (this.broken) callback({ code: status.UNAVAILABLE, details: "broken" });
        else callback(null, { sku: request.sku, quantity: 42 });
      },
    };
  }
}

const replicas = [new Replica(), new Replica(), new Replica()] as const;
for (const replica of replicas) await replica.start();
const [, second] = replicas;

// #region client
/** Any number of addresses in one target; a name in DNS that has several does the same. */
const target = `ipv4:${replicas.map((replica) => replica.target).join(",")}`;

function clientBy(serviceConfig: object, own: ClientOptions = {}): InventoryServiceClient {
  const options = { ...own, "grpc.service_config": JSON.stringify(serviceConfig) };
  return new InventoryServiceClient(target, credentials.createInsecure(), weir.client({}, options));
}
// #endregion

/** Calls as fast as eight callers can, at least 60 times, and says who got them. */
async function load(what: string, client: InventoryServiceClient, ms = 100): Promise<void> {
  for (const replica of replicas) replica.calls = 0;
  let made = 0;
  let failed = 0;
  const endMs = performance.now() + ms;
  const caller = async (): Promise<void> => {
    while (performance.now() < endMs || made < 60) {
      made += 1;
      try {
        await answer((done) => client.getStock({ sku: "boots" }, done));
      } catch {
        failed += 1;
      }
    }
  };
  await Promise.all(Array.from({ length: 8 }, caller));
  const shares = replicas.map(({ calls }) => calls).join(", ");
  console.log(`${what}: ${shares}; ${failed} failed for the caller`);
}

const one = clientBy({});
await load("no service config", one);
const spread = clientBy(hurried(roundRobin));
await load("round_robin", spread);

const careful = clientBy(hurried(outlierDetection));
await load("outlier_detection, all are well", careful);
second.broken = true;
await load("outlier_detection, the second fails", careful, 400);
await load("outlier_detection, a little later", careful);
second.broken = false;
await wait(900);
await load("outlier_detection, the second is well again", careful);

const weighted = clientBy(hurried(weightedRoundRobin));
second.report(100, 0.8);
await load("weighted_round_robin, the first calls", weighted);
await wait(500);
await load("weighted_round_robin, the second is four times as busy", weighted);

for (const client of [one, spread, careful, weighted]) client.close();
for (const replica of replicas) replica.stop();
