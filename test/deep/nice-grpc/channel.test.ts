import { ChannelCredentials, connectivityState } from "@grpc/grpc-js";
import {
  ClientError,
  createClient,
  createServer,
  Metadata,
  ServerError,
  type ServiceImplementation,
  Status,
  waitForChannelReady,
} from "nice-grpc";
import { expect, it, onTestFinished } from "vitest";
import { InventoryServiceService } from "../../../examples/gen/demo/shop/v1/inventory.js";
import { OrdersServiceService } from "../../../examples/gen/demo/shop/v1/orders.js";
import { staticValue } from "../../../src/client.js";
import { type ClientPolicy, createWeir, currentCall } from "../../../src/index.js";

const Quotes = { priceQuotes: OrdersServiceService.priceQuotes };

type Inventory = ServiceImplementation<typeof InventoryServiceService>;

/** A server of nice-grpc and clients over a channel, both with a weir. A method fails as often as `failures` says. */
async function shop(
  policy: ClientPolicy = {},
  { failures = 0, ...own }: Partial<Inventory> & { failures?: number } = {},
) {
  const weir = createWeir();
  const inbound = createWeir();
  let left = failures;
  const seen: (string | undefined)[] = [];
  const enter = () => {
    seen.push(currentCall()?.priority);
    left -= 1;
    if (left >= 0) throw new ServerError(Status.UNAVAILABLE, "not yet");
  };
  const server = createServer(inbound.server({ admission: {} }));
  server.add(InventoryServiceService, {
    async reserve({ orderId }) {
      enter();
      return { reservationId: orderId, left: 1 };
    },
    async getStock({ sku }) {
      enter();
      return { sku, quantity: 42 };
    },
    async *watchStock({ sku, maxUpdates }) {
      enter();
      for (let quantity = 1; quantity <= maxUpdates; quantity += 1) yield { sku, quantity };
    },
    async importStock(requests) {
      enter();
      let lines = 0;
      let quantity = 0;
      for await (const request of requests) {
        lines += 1;
        quantity += request.quantity;
      }
      return { lines, quantity };
    },
    ...own,
  });
  server.add(Quotes, {
    async *priceQuotes(requests) {
      enter();
      for await (const { sku, quantity } of requests) yield { sku, priceCents: 100 * quantity };
    },
  });
  const port = await server.listen("127.0.0.1:0");
  const target = `127.0.0.1:${port}`;
  const channel = weir.channel(target, ChannelCredentials.createInsecure(), policy);
  onTestFinished(() => {
    channel.close();
    server.forceShutdown();
    weir.close();
    inbound.close();
  });
  const inventory = createClient(InventoryServiceService, channel);
  return { weir, channel, inventory, quotes: createClient(Quotes, channel), seen };
}

/** Requests that are sent in several turns of the event loop. */
async function* requests<T>(...list: readonly T[]): AsyncGenerator<T> {
  for (const one of list) {
    await new Promise(setImmediate);
    yield one;
  }
}

async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const one of stream) list.push(one);
  return list;
}

it("retries a call of each kind, and tells the policies its kind as far as a channel knows it", async () => {
  const { weir, inventory, quotes, seen } = await shop({}, { failures: 1 });
  expect(await inventory.getStock({ sku: "boots" })).toEqual({ sku: "boots", quantity: 42 });
  expect(seen).toHaveLength(2);
  expect(await all(inventory.watchStock({ sku: "boots", maxUpdates: 3 }))).toHaveLength(3);
  const lines = requests({ sku: "a", quantity: 1 }, { sku: "b", quantity: 2 });
  expect(await inventory.importStock(lines)).toEqual({ lines: 2, quantity: 3 });
  const asked = requests({ sku: "a", quantity: 1 }, { sku: "b", quantity: 2 });
  expect(await all(quotes.priceQuotes(asked))).toEqual([
    { sku: "a", priceCents: 100 },
    { sku: "b", priceCents: 200 },
  ]);
  const kinds = weir.history().last.map(({ kind, status }) => [kind, status]);
  expect(kinds).toEqual([
    ["bidi", "OK"],
    // A channel cannot tell it from the one above.
    ["bidi", "OK"],
    ["server-stream", "OK"],
    ["unary", "OK"],
  ]);
  const [first] = weir.history().last.slice(-1);
  expect(first?.attempts).toHaveLength(2);
});

it("takes a stream of requests that is empty", async () => {
  const { inventory } = await shop();
  expect(await inventory.importStock(requests())).toEqual({ lines: 0, quantity: 0 });
});

it("sends metadata, and brings back headers and trailers", async () => {
  let key: string | undefined;
  const { inventory, seen } = await shop(
    {},
    {
      async reserve({ orderId }, context) {
        key = context.metadata.get("x-key");
        context.header.set("x-header", "first");
        context.trailer.set("x-trailer", "last");
        seen.push(currentCall()?.priority);
        return { reservationId: orderId, left: 0 };
      },
    },
  );
  const got: (string | undefined)[] = [];
  await inventory.reserve(
    { orderId: "1", sku: "boots", quantity: 1 },
    {
      metadata: new Metadata({ "x-key": "mine", "x-request-priority": "high" }),
      onHeader: (header) => got.push(header.get("x-header")),
      onTrailer: (trailer) => got.push(trailer.get("x-trailer")),
    },
  );
  expect(key).toBe("mine");
  expect(got).toEqual(["first", "last"]);
  expect(seen).toEqual(["high"]);
});

it("ends a call at the deadline of its policy", async () => {
  const { inventory } = await shop(
    { deadline: { defaultMs: 300 } },
    { getStock: () => new Promise(() => {}) },
  );
  const failed = await inventory.getStock({ sku: "boots" }).catch((error: unknown) => error);
  expect(failed).toBeInstanceOf(ClientError);
  expect(failed).toMatchObject({ code: Status.DEADLINE_EXCEEDED });
});

it("cancels the call of a signal, on the server too", async () => {
  const controller = new AbortController();
  let cancelled: (() => void) | undefined;
  const seenByServer = new Promise<void>((resolve) => {
    cancelled = resolve;
  });
  const { inventory, weir } = await shop(
    {},
    {
      getStock: (_request, { signal }) => {
        signal.addEventListener("abort", () => cancelled?.());
        controller.abort();
        return new Promise(() => {});
      },
    },
  );
  const { signal } = controller;
  await expect(inventory.getStock({ sku: "boots" }, { signal })).rejects.toThrow(/abort/i);
  await seenByServer;
  expect(weir.history().last).toMatchObject([{ status: "CANCELLED" }]);
});

it("cancels a call whose signal is aborted before it is sent", async () => {
  const { inventory } = await shop();
  const stream = inventory.watchStock({ sku: "a", maxUpdates: 9 }, { signal: AbortSignal.abort() });
  await expect(all(stream)).rejects.toThrow(/abort/i);
});

it("refuses what a policy refuses, with the reason in the text", async () => {
  const { inventory } = await shop(
    { bulkhead: { maxConcurrent: 1, maxQueued: 0 } },
    { getStock: () => new Promise(() => {}) },
  );
  const controller = new AbortController();
  const held = inventory.getStock({ sku: "a" }, { signal: controller.signal });
  await expect(inventory.getStock({ sku: "b" })).rejects.toThrow(/\[BULKHEAD_FULL\]$/);
  controller.abort();
  await expect(held).rejects.toThrow(/abort/i);
});

it("has the connection of one channel: its state, its target and its end", async () => {
  const { channel, inventory } = await shop();
  expect(channel.getConnectivityState(false)).toBe(connectivityState.IDLE);
  await waitForChannelReady(channel, new Date(Date.now() + 10_000));
  expect(channel.getConnectivityState(false)).toBe(connectivityState.READY);
  expect(channel.getTarget()).toMatch(/127\.0\.0\.1:\d+$/);
  channel.close();
  expect(channel.getConnectivityState(false)).toBe(connectivityState.SHUTDOWN);
  await expect(inventory.getStock({ sku: "a" })).rejects.toThrow("Channel has been shut down");
});

it("inherits deadline and priority in a handler", async () => {
  let inner: ReturnType<typeof currentCall>;
  const below = await shop(
    {},
    {
      async getStock({ sku }) {
        inner = currentCall();
        return { sku, quantity: 1 };
      },
    },
  );
  const above = await shop(
    { deadline: { defaultMs: 60_000 } },
    {
      async reserve({ orderId, sku }) {
        const { quantity } = await below.inventory.getStock({ sku });
        return { reservationId: orderId, left: quantity };
      },
    },
  );
  const metadata = new Metadata({ "x-request-priority": "low" });
  await above.inventory.reserve({ orderId: "1", sku: "a", quantity: 1 }, { metadata });
  expect(inner?.priority).toBe("low");
  expect(inner?.remainingMs()).toBeGreaterThan(0);
  expect(inner?.remainingMs()).toBeLessThanOrEqual(60_000);
});

it("gives functions of the user the bytes of a message, and takes bytes", async () => {
  const answered = (value: unknown) =>
    shop({ retry: false, fallback: { providers: [staticValue(value)] } }, { failures: 9 }).then(
      ({ inventory }) => inventory.getStock({ sku: "a" }),
    );
  const bytes = InventoryServiceService.getStock.responseSerialize({ sku: "old", quantity: 7 });
  expect(await answered(bytes)).toEqual({ sku: "old", quantity: 7 });
  await expect(answered({ sku: "old", quantity: 7 })).rejects.toThrow("has to answer with bytes");
});
