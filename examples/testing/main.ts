// A client's policies under a virtual clock, and the conformance of an interceptor of one's own.
import assert from "node:assert/strict";
import { InterceptingCall, type Interceptor, status } from "@grpc/grpc-js";
import { createWeir, type DecisionEvent, isServiceError } from "grpc-weir";
import { conformance, inMemoryTransport } from "grpc-weir/testing";
import {
  type GetStockResponse,
  InventoryServiceClient,
  type InventoryServiceServer,
  InventoryServiceService,
} from "../gen/demo/shop/v1/inventory.js";
import { answer } from "../shop.js";

/** An outage of ten minutes, in no time. */
async function outage(): Promise<string> {
  // #region virtual
  const transport = inMemoryTransport({ seed: 7, network: { latencyMs: 5 } });
  const { clock, random } = transport;
  const decisions: DecisionEvent[] = [];
  const weir = createWeir({ clock, random, onDecision: (decision) => decisions.push(decision) });
  const link = await transport.open({
    service: InventoryServiceService,
    implementation: {
      getStock: ({ request }, callback) => callback(null, { sku: request.sku, quantity: 42 }),
    } satisfies Pick<InventoryServiceServer, "getStock">,
    clientOptions: weir.client(
      { retry: { maxAttempts: 3 }, breaker: { openMs: 30_000 } },
      { "grpc.max_reconnect_backoff_ms": 10_000 },
    ),
    serverInterceptors: weir.server().interceptors ?? [],
  });
  const client = link.client(InventoryServiceClient);
  const stock = () =>
    link.until(answer<GetStockResponse>((done) => client.getStock({ sku: "boots" }, done)));

  assert.equal((await stock()).quantity, 42);
  link.server.crash();
  for (let minute = 0; minute < 10; minute += 1) {
    await assert.rejects(
      stock,
      (error) => isServiceError(error) && error.code === status.UNAVAILABLE,
    );
    await link.pass(60_000);
  }
  link.server.start();
  await link.pass(60_000);
  assert.equal((await stock()).quantity, 42);
  await link.close();
  // #endregion
  const retries = decisions.filter(({ verdict }) => verdict === "retry").length;
  const refused = decisions.filter(({ reason }) => reason === "BREAKER_OPEN").length;
  const minutes = Math.round((clock.now() - 1_000_000) / 60_000);
  return `${minutes} minutes passed: ${retries} retries, ${refused} refused by the breaker`;
}

/** Does to calls what it should not: it forgets that the caller may cancel. */
const deaf: Interceptor = (options, nextCall) =>
  new InterceptingCall(nextCall(options), { cancel: () => {} });

// #region conformance
async function broken(interceptor: Interceptor): Promise<string[]> {
  const names: string[] = [];
  for (const each of conformance({ client: () => [interceptor] }, inMemoryTransport)) {
    await each.run().catch(() => names.push(each.name));
  }
  return names;
}
// #endregion

const before = performance.now();
console.log(await outage());
console.log(`  in ${Math.round(performance.now() - before)} ms, and the same for the same seed`);

const polite: Interceptor = (options, nextCall) => new InterceptingCall(nextCall(options));
console.log(`an interceptor that passes all on: ${(await broken(polite)).length} cases fail`);
const names = await broken(deaf);
console.log(`one that swallows cancellations: ${names.length} cases fail`);
for (const name of names.slice(0, 3)) console.log(`  ${name}`);
