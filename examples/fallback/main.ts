// A service that recommends things dies step by step, and the shopper still has a page.
import {
  credentials,
  Metadata,
  Server,
  type ServiceError,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
// #region imports
import { createWeir, type Degradation, degradationOf } from "grpc-weir";
import { empty, staleCache, value } from "grpc-weir/client";
// #endregion
import { listen } from "../shop.js";
import {
  type Items,
  type ItemsClient,
  type ListItems,
  PageClient,
  pageService,
  RecommendationsClient,
  recommendationsService,
} from "./services.js";

type Health = "well" | "down" | "hanging";
let health: Health = "well";
let picks: readonly string[] | undefined = ["umbrella", "tea"];

// The service below: what it recommends is for one shopper.
const recommend: ListItems = ({ request }, callback) => {
  if (health === "down") callback({ code: status.UNAVAILABLE, details: "the model is gone" });
  if (health === "well") callback(null, { items: [`boots for ${request.name}`, "socks"] });
};
const below = new Server();
below.addService(recommendationsService, { List: recommend });
const recommendations = await listen(below);

const weir = createWeir();
// #region fallback
const options = weir.client({
  deadline: { defaultMs: 800 },
  fallback: {
    reserveMs: 400, //                               of the 800, so that a service which hangs can be replaced
    providers: [
      staleCache({ vary: ["shopper"], staleIfErrorMs: 1_200 }), // what this shopper saw a moment ago
      value(() => (picks === undefined ? undefined : { items: picks }), { name: "staff-picks" }),
      empty(), //                                    a page without recommendations is still a page
    ],
  },
  retry: false, //                                   they would help as ever; here each step is to be seen
  breaker: false,
});
// #endregion
const client = new RecommendationsClient(
  recommendations.target,
  credentials.createInsecure(),
  options,
) as unknown as ItemsClient;

// The page: all it does is ask. What it had to make do with goes to the shopper by itself.
const page: ListItems = ({ request }, callback) => {
  const metadata = new Metadata();
  metadata.set("shopper", request.name);
  client.list(request, metadata, {}, (error, response) =>
    error === null ? callback(null, response) : callback(error),
  );
};
const above = new Server(weir.server());
above.addService(pageService, { List: page });
const edge = await listen(above);

const shop = new PageClient(
  edge.target,
  credentials.createInsecure(),
  weir.client(),
) as unknown as ItemsClient;

interface Opened {
  readonly items: readonly string[];
  readonly degradations: readonly Degradation[];
}

// #region read
function open(name: string): Promise<Opened> {
  return new Promise((resolve, reject) => {
    let items: readonly string[] = [];
    const done = (error: ServiceError | null, response: Items | undefined) => {
      if (error !== null) reject(error);
      else items = response?.items ?? [];
    };
    const call = shop.list({ name }, new Metadata(), {}, done);
    call.on("status", (ended: StatusObject) =>
      resolve({ items, degradations: degradationOf(ended) }),
    );
  });
}
// #endregion

async function shopper(name: string): Promise<void> {
  const startedAt = performance.now();
  const { items, degradations } = await open(name);
  const tookMs = Math.round(performance.now() - startedAt);
  const seen = items.length === 0 ? "(nothing recommended)" : items.join(", ");
  const [mark] = degradations;
  const age = mark?.ageMs === undefined ? "" : `, ${mark.ageMs} ms old`;
  const degraded = mark === undefined ? "" : `   [${mark.name}${age}, for ${mark.method}]`;
  console.log(`  ${name} sees ${seen} after ${tookMs} ms${degraded}`);
}

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

// The first call of all pays for the connections.
await open("nobody");
console.log("all is well:");
await shopper("Anna");

health = "hanging";
console.log("the service hangs: Anna has what she saw before, Ben is new");
await Promise.all([shopper("Anna"), shopper("Ben")]);

health = "down";
console.log("the service is down:");
await shopper("Anna");

await wait(1_300);
console.log("what Anna saw is too old by now:");
await shopper("Anna");

picks = undefined;
console.log("the staff's picks are withdrawn:");
await shopper("Anna");

health = "well";
console.log("the service is back:");
await shopper("Ben");

const [numbers] = weir.policy("fallback").snapshot();
console.log(`  ${JSON.stringify(numbers)}`);

client.close();
shop.close();
recommendations.stop();
edge.stop();
