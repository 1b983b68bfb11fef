import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import type { GetStockResponse } from "../../../examples/gen/demo/shop/v1/inventory.js";
import * as cockatiel from "../../../examples/moving/cockatiel.js";
import * as niceGrpc from "../../../examples/moving/nice-grpc.js";
import { pricesAfter, pricesBefore } from "../../../examples/moving/opossum.js";
import * as serviceConfig from "../../../examples/moving/service-config.js";
import {
  retriedByClient,
  retriedBySidecar,
  retriedTwice,
} from "../../../examples/moving/sidecar.js";
import * as timeouts from "../../../examples/moving/timeouts.js";
import type { Way } from "../../../examples/moving/way.js";
import {
  answer,
  type InventoryHandlers,
  inventoryClient,
  type Listening,
  startInventory,
} from "../../../examples/shop.js";

const opened: { close(): void }[] = [];
afterEach(() => {
  for (const each of opened.splice(0)) each.close();
});

async function start(handlers: InventoryHandlers): Promise<Listening> {
  const server = await startInventory(handlers);
  opened.push({ close: () => server.stop() });
  return server;
}

/** A server that answers each request with the next of these statuses, and the last one from then on. */
async function answering(...codes: status[]) {
  const seen = { requests: 0 };
  const { target } = await start({
    getStock: ({ request }, callback) => {
      const code = codes[Math.min(seen.requests, codes.length - 1)] ?? status.OK;
      seen.requests += 1;
      if (code === status.OK) callback(null, { sku: request.sku, quantity: 42 });
      else callback({ code, details: "as told" });
    },
  });
  return { target, seen };
}

async function endOf(way: Way): Promise<string> {
  opened.push(way);
  return way.getStock("boots").then(
    ({ quantity }) => `${quantity} boots`,
    (error: { code?: number }) => status[error.code ?? status.UNKNOWN] ?? "no status",
  );
}

describe.each([
  ["the retryPolicy of a service config", serviceConfig],
  ["cockatiel", cockatiel],
  ["nice-grpc with its middlewares", niceGrpc],
])("moving from %s", (_, { before, after }) => {
  it.each([
    [
      "answers after two failures",
      [status.UNAVAILABLE, status.UNAVAILABLE, status.OK],
      3,
      "42 boots",
    ],
    ["gives up after three attempts", [status.UNAVAILABLE], 3, "UNAVAILABLE"],
    ["does not repeat what the server refuses", [status.INVALID_ARGUMENT], 1, "INVALID_ARGUMENT"],
  ] as const)("%s, before and after", async (_title, codes, requests, end) => {
    for (const connect of [before, after]) {
      const { target, seen } = await answering(...codes);
      expect(await endOf(connect(target)), connect.name).toBe(end);
      expect(seen.requests, connect.name).toBe(requests);
    }
  });
});

describe("moving from a wrapper of timeouts", () => {
  async function hanging() {
    const seen = { requests: 0, cancelled: 0 };
    const { target } = await start({
      getStock: (call) => {
        seen.requests += 1;
        call.on("cancelled", () => {
          seen.cancelled += 1;
        });
      },
    });
    return { target, seen };
  }

  it("gives up in time before and after, and only then tells the server", async () => {
    const [old, young] = [await hanging(), await hanging()];
    const way = timeouts.before(old.target);
    opened.push(way);
    await expect(way.getStock("boots")).rejects.toThrow("timed out");
    expect(await endOf(timeouts.after(young.target))).toBe("DEADLINE_EXCEEDED");
    await expect.poll(() => young.seen.cancelled, { timeout: 10_000 }).toBe(1);
    await expect.poll(() => old.seen.requests, { timeout: 10_000 }).toBe(1);
    expect(old.seen.cancelled).toBe(0);
  });
});

describe("moving from opossum", () => {
  it.each([
    ["before", pricesBefore],
    ["after", pricesAfter],
  ])(
    "%s, the fallback answers for work that hangs or fails, and what fails is left alone",
    async (_, build) => {
      let asked = 0;
      let hangs = true;
      const price = build(() => {
        asked += 1;
        if (hangs) return new Promise(() => {});
        return Promise.reject(new Error("the source is down"));
      });
      expect(await price("boots")).toBe(0);
      expect(asked).toBe(1);

      hangs = false;
      const answers: unknown[] = [];
      for (let call = 0; call < 100; call += 1) answers.push(await price("boots"));
      expect(answers).toEqual(answers.map(() => 0));
      expect(asked).toBeGreaterThanOrEqual(5);
      expect(asked).toBeLessThan(60);
    },
  );
});

describe("a sidecar that makes three attempts", () => {
  async function behindSidecar() {
    const backend = await answering(status.UNAVAILABLE);
    const client = inventoryClient(
      await Promise.resolve({ target: backend.target, stop: () => {} }),
    );
    opened.push(client);
    const attempt = (sku: string) =>
      answer<GetStockResponse>((done) => client.getStock({ sku }, done));
    const { target } = await start({
      getStock: ({ request: { sku } }, callback) => {
        attempt(sku)
          .catch(() => sleep(10).then(() => attempt(sku)))
          .catch(() => sleep(10).then(() => attempt(sku)))
          .then(
            (stock) => callback(null, stock),
            ({ code, details }) => callback({ code, details }),
          );
      },
    });
    return { sidecar: target, backend: backend.target, seen: backend.seen };
  }

  it("multiplies the attempts of a client that retries", async () => {
    const { sidecar, seen } = await behindSidecar();
    expect(await endOf(retriedTwice(sidecar))).toBe("UNAVAILABLE");
    expect(seen.requests).toBe(9);
  });

  it("retries alone where the client does not", async () => {
    const { sidecar, seen } = await behindSidecar();
    expect(await endOf(retriedBySidecar(sidecar))).toBe("UNAVAILABLE");
    expect(seen.requests).toBe(3);
  });

  it("leaves three attempts to the client where it only passes calls on", async () => {
    const { backend, seen } = await behindSidecar();
    expect(await endOf(retriedByClient(backend))).toBe("UNAVAILABLE");
    expect(seen.requests).toBe(3);
  });
});
