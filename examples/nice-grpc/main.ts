// Clients and servers of nice-grpc with the toolkit.
import { ChannelCredentials } from "@grpc/grpc-js";
import { createWeir, currentCall } from "grpc-weir";
import {
  createClient,
  createServer,
  Metadata,
  ServerError,
  type ServiceImplementation,
  Status,
} from "nice-grpc";
import { InventoryServiceService } from "../gen/demo/shop/v1/inventory.js";

// One method of the service, to keep this short.
const Stock = { getStock: InventoryServiceService.getStock };

let asked = 0;
const handlers: ServiceImplementation<typeof Stock> = {
  async getStock({ sku }) {
    asked += 1;
    const caller = currentCall();
    console.log(`  server: ${sku}, priority ${caller?.priority}, request ${asked}`);
    if (asked === 1) throw new ServerError(Status.UNAVAILABLE, "the shelf is being repaired");
    return { sku, quantity: 42 };
  },
};

// #region server
const weir = createWeir();
const server = createServer(weir.server({ admission: {} }));
server.add(Stock, handlers);
const port = await server.listen("127.0.0.1:0");
// #endregion

// #region client
// In place of createChannel(): the calls of this channel pass the policies.
const channel = weir.channel(`127.0.0.1:${port}`, ChannelCredentials.createInsecure(), {
  deadline: { defaultMs: 2_000 },
  methods: { "demo.shop.v1.InventoryService/GetStock": { retry: { idempotent: true } } },
});
const inventory = createClient(Stock, channel);
// #endregion

// #region call
const metadata = new Metadata({ "x-request-priority": "high" });
const stock = await inventory.getStock({ sku: "boots" }, { metadata });
console.log(`client: ${stock.quantity} ${stock.sku} after ${asked} requests`);
// #endregion

channel.close();
await server.shutdown();
weir.close();
