// A viewer inside of a process: the page shows the calls of the process, and a trace is printed as a waterfall.
import assert from "node:assert/strict";
import { Metadata, status } from "@grpc/grpc-js";
import { context, propagation, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { createWeir, priorityKey } from "grpc-weir";
import { type CallsView, consoleTree, traceViewer } from "grpc-weir/viewer";
import { traceContext } from "../incident/trace-context.js";
import { answer, inventoryClient, startInventory } from "../shop.js";

/** For the tree that is printed at the end. */
const finished = new InMemorySpanExporter();

// #region process
const viewer = await traceViewer();
console.log(`open ${viewer.url}`);
trace.setGlobalTracerProvider(
  new BasicTracerProvider({
    // Beside the processors that you have.
    spanProcessors: [viewer.spanProcessor, new SimpleSpanProcessor(finished)],
  }),
);
// #endregion
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
propagation.setGlobalPropagator(traceContext);

const weir = createWeir();
let asked = 0;
const server = await startInventory(
  {
    getStock: (_call, callback) => {
      asked += 1;
      if (asked === 1) callback({ code: status.UNAVAILABLE, details: "not ready" });
      else setTimeout(() => callback(null, { sku: "boots", quantity: 42 }), 20);
    },
  },
  weir.server({ admission: {} }),
);
const client = inventoryClient(server, weir.client({ retry: { idempotent: true } }));

const metadata = new Metadata();
metadata.set(priorityKey, "high");
await answer((done) => client.getStock({ sku: "boots" }, metadata, done));

// What the page asks for, by method, status, priority, policy, reason and duration.
const response = await fetch(`${viewer.url}/api/calls?policy=retry&minMs=1`);
const { calls, total }: CallsView = JSON.parse(await response.text());
assert.equal(total, 1);
console.log(
  `the page shows: ${calls[0]?.method} ${calls[0]?.status}, ${calls[0]?.attempts} attempts\n`,
);

// #region tree
console.log(consoleTree(finished.getFinishedSpans()));
// #endregion

client.close();
server.stop();
weir.close();
// #region close
await viewer.close();
// #endregion
