// What the owner of a service knows of its methods stands in its schema, and holds for every client and server.
import { fileURLToPath } from "node:url";
import {
  type Client,
  credentials,
  makeClientConstructor,
  Server,
  type ServerUnaryCall,
  type ServiceDefinition,
  type ServiceError,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { createWeir, currentCall } from "grpc-weir";
import { schemaSource } from "grpc-weir/config";
import { answer, listen } from "../shop.js";

interface Price {
  readonly sku: string;
  readonly cents: number;
}

interface CatalogClient extends Client {
  getPrice(
    request: { sku: string },
    done: (error: ServiceError | null, price: Price) => void,
  ): void;
}

// The compiled program stands in build/examples/schema.
const root = fileURLToPath(new URL("../../../", import.meta.url));
// #region load
const definition = loadSync("catalog.proto", {
  // `weir/v1/options.proto` is in the package: node_modules/grpc-weir/proto.
  includeDirs: [`${root}examples/schema`, `${root}proto`],
});
const weir = createWeir({ schema: schemaSource(definition) });
// #endregion
const service = definition["demo.catalog.v1.CatalogService"] as ServiceDefinition;
const Catalog = makeClientConstructor(service, "CatalogService");

let repaired = true;
const server = new Server(weir.server());
server.addService(service, {
  getPrice(call: ServerUnaryCall<{ sku: string }, Price>, done: sendUnaryData<Price>) {
    console.log(`  server: GetPrice, priority ${currentCall()?.priority}`);
    if (repaired) done(null, { sku: call.request.sku, cents: 8_900 });
    else done({ code: status.INTERNAL, details: "the price list is torn" });
  },
});
const catalog = await listen(server);

// #region client
const client = new Catalog(
  catalog.target,
  credentials.createInsecure(),
  weir.client(), // nothing is said here of this service
) as unknown as CatalogClient;
// #endregion
const ask = () => answer<Price>((done) => client.getPrice({ sku: "boots" }, done));

console.log(`boots: ${(await ask()).cents} cents`);
repaired = false;
console.log(`boots: ${(await ask()).cents} cents, from the cache`);

// #region explain
console.log(weir.explainPolicy("demo.catalog.v1.CatalogService/GetPrice").text);
// #endregion
client.close();
weir.close();
catalog.stop();
