// A call that is tried again, one that fails, and a handler that is slow: why each ended as it did, and the logs of two loggers.
import { PassThrough } from "node:stream";
import { type ServiceError, status } from "@grpc/grpc-js";
import { createWeir, explain } from "grpc-weir";
import { inventoryClient, startInventory } from "../shop.js";
import { pinoLogs } from "./pino.js";
import { winstonLogs } from "./winston.js";

/** What the loggers write. */
const lines: string[] = [];
const written = new PassThrough();
written.on("data", (line: Buffer) => lines.push(line.toString().trim()));
const loggers = [pinoLogs(written), winstonLogs(written)];

let asked = 0;
const server = await startInventory({
  getStock: ({ request }, callback) => {
    asked += 1;
    if (request.sku === "boots" && asked > 2) callback(null, { sku: "boots", quantity: 42 });
    else callback({ code: status.UNAVAILABLE, details: "the warehouse is moving" });
  },
});

// #region options
const weir = createWeir({
  history: { last: 50, slowMs: 500 },
  onCall: (call) => {
    for (const logger of loggers) logger.onCall(call);
  },
  onDecision: (decision) => {
    for (const logger of loggers) logger.onDecision(decision);
  },
});
// #endregion
const client = inventoryClient(server, weir.client({ retry: { idempotent: true } }));

// #region call
const call = client.getStock({ sku: "boots" }, () => {
  console.log(weir.explain(call)); // a call that grpc-js gave you, while it runs or after its end
});
// #endregion
await new Promise((resolve) => call.on("status", resolve));

// #region error
const failed = await new Promise<ServiceError | null>((resolve) => {
  client.getStock({ sku: "umbrella" }, (error) => resolve(error));
});
console.log(`\n${explain(failed)}`); // an error, wherever you catch it
// #endregion

// #region history
const { last, failed: failures, slow } = weir.history();
console.log(`\n${last.length} calls, ${failures.length} failed, ${slow.length} slow`);
for (const { method, status: code, attemptCount } of failures) {
  console.log(`  ${method}: ${code} after ${attemptCount} attempts`);
}
// #endregion

await new Promise((resolve) => setImmediate(resolve));
console.log(
  `\n${lines.length} lines of logs, such as\n${lines.find((line) => line.includes("retry"))}`,
);
client.close();
server.stop();
weir.close();
