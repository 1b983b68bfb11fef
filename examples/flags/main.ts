// Recommendations are slow, and with them every page of the shop. Somebody switches them off from another terminal, with a
// real Redis where `redis-server` is installed.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Server, type ServerOptions, type ServiceDefinition } from "@grpc/grpc-js";
// #region imports
import { createWeir, currentCall, type FlagSource, isServiceError, staticFlags } from "grpc-weir";
import { fromIoredis, redisFlags } from "grpc-weir/redis";
import { Redis } from "ioredis";
// #endregion
import { startRedis } from "../idempotency/redis.js";
import { answer, listen } from "../shop.js";
import { providerWith, withOpenFeature } from "./open-feature.js";
import {
  type Items,
  type ItemsClient,
  itemsClient,
  type ListItems,
  pageService,
  recommendationsService,
} from "./services.js";

const redisServer = await startRedis();
const url = `redis://127.0.0.1:${redisServer?.port}`;

/** Flags that the program sets itself, for machines without `redis-server`. */
const own = staticFlags();

async function inRedis(): Promise<{ readonly flags: FlagSource; readonly close: () => void }> {
  // #region redis
  const redis = new Redis(url);
  const flags = redisFlags(fromIoredis(redis));
  await flags.ready; // what is switched off is so from the first call on
  // #endregion
  const close = () => {
    flags.close();
    redis.disconnect();
  };
  return { flags, close };
}

const { flags, close } =
  redisServer === undefined ? { flags: own, close: () => {} } : await inRedis();

// #region weir
const weir = createWeir({
  flags,
  onDecision: ({ verdict, detail }) => {
    if (verdict === "switch") console.log(`  log: ${detail}`); // one line in each process
  },
});
// #endregion

let slowMs = 5;
const recommend: ListItems = ({ request }, callback) => {
  setTimeout(() => callback(null, { items: [`boots for ${request.name}`, "socks"] }), slowMs);
};
const recommendations = await start(recommendationsService, recommend, weir.server());
const client = itemsClient(recommendationsService, recommendations.target, weir.client());

// #region handler
const page: ListItems = ({ request }, callback) => {
  if (currentCall()?.shouldSkip("recommendations") === true) callback(null, { items: [] });
  else client.list(request, (error, items) => callback(error, items));
};
// #endregion
const shop = await start(pageService, page, weir.server());
const shopper = itemsClient(pageService, shop.target, {});

await open("a quiet day");
slowMs = 800;
await open("the model is slow");
await operator("set", "skip.recommendations", "true", "--for", "10m");
await open("left out");
console.log("\nWho mends the model wants no calls at all:");
await operator("set", "kill.shop.Recommendations", "true", "--for", "10m");
await open("another caller of the service", client);
await operator("list");
slowMs = 5;
await operator("unset", "kill.shop.Recommendations");
await operator("unset", "skip.recommendations");
await open("all is well");
const { source, killed, skipped } = weir.snapshot().flags ?? {};
console.log(`\nflags from ${source}: ${killed} call killed, ${skipped} time left out`);

const other = await withOpenFeature(providerWith("observe"));
other.weir.client();
console.log(`with OpenFeature the breaker is on ${other.weir.policy("breaker").mode}`);
other.weir.close();
other.flags.close();

client.close();
shopper.close();
shop.stop();
recommendations.stop();
weir.close();
close();
redisServer?.stop();

function start(service: ServiceDefinition, list: ListItems, options: ServerOptions) {
  const server = new Server(options);
  server.addService(service, { list });
  return listen(server);
}

/** Opens the page, or asks another service for items. */
async function open(when: string, by: ItemsClient = shopper): Promise<void> {
  const beganMs = performance.now();
  const tookMs = () => `${Math.round(performance.now() - beganMs)} ms`;
  try {
    const { items } = await answer<Items>((done) => by.list({ name: "Anna" }, done));
    console.log(`${when}: ${items.join(", ") || "(nothing recommended)"} after ${tookMs()}`);
  } catch (error) {
    if (!isServiceError(error)) throw error;
    console.log(`${when}: ${error.details} after ${tookMs()}`);
  }
}

/** What somebody types in another terminal, until it has arrived here. */
async function operator(...args: readonly string[]): Promise<void> {
  console.log(`\n$ npx grpc-weir flag ${args.join(" ")}`);
  const [command = "", name = "", value] = args;
  const arrived = new Promise<void>((resolve) => {
    const stop = flags.onChange(() => {
      stop();
      resolve();
    });
  });
  if (redisServer === undefined) {
    if (command === "set") own.set(name, value === "true");
    if (command === "unset") own.unset(name);
  } else {
    const program = fileURLToPath(new URL("../../../dist/cli/main.js", import.meta.url));
    const env = { ...process.env, REDIS_URL: url };
    const typed = [program, "flag", ...args];
    const { stdout } = await promisify(execFile)(process.execPath, typed, { env });
    console.log(stdout.trimEnd());
  }
  if (command !== "list") await arrived;
}
