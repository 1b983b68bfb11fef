import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { currentCall, detached } from "../../../src/grpc/context/inbound-call.js";
import { degradationOf } from "../../../src/grpc/status/degraded.js";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import { staticValue } from "../../../src/policies/fallback/client-providers.js";
import { staleCache } from "../../../src/policies/fallback/stale-cache/client-cache.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { createWeir } from "../../../src/weir.js";
import { echo, failing, kinds, startCall } from "../../scene.js";
import { message } from "./client-scene.js";

const off: ClientPolicy = { retry: false, breaker: false };
const unaryPath = "weir.v1.ConformanceService/Unary";

/** Edge → page → shop, in memory. The page's handler is given clients of the shop: without and with a fallback. */
async function hops(
  page: (
    shop: Readonly<Record<"plain" | "safe" | "observing", ConformanceServiceClient>>,
    ask: (client: ConformanceServiceClient, sequence?: number) => Promise<number>,
  ) => Promise<void>,
  shop: ConformanceServiceServer = failing(Number.POSITIVE_INFINITY).handlers,
) {
  const transport = inMemoryTransport();
  const weir = createWeir({ clock: transport.clock, random: transport.random });
  const { interceptors = [] } = weir.server({});
  const below = await transport.open({
    service: ConformanceServiceService,
    implementation: shop,
    clientOptions: weir.client(off),
    serverInterceptors: interceptors,
  });
  const withFallback = async (mode: "enforce" | "observe") => {
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: shop,
      clientOptions: weir.client({
        ...off,
        fallback: { mode, providers: [staticValue(message(5))] },
      }),
      serverInterceptors: interceptors,
    });
    return link.client(ConformanceServiceClient);
  };
  const clients = {
    plain: below.client(ConformanceServiceClient),
    safe: await withFallback("enforce"),
    observing: await withFallback("observe"),
  };
  const ask = (client: ConformanceServiceClient, sequence = 1) =>
    new Promise<number>((resolve) => {
      client.unary(message(sequence), (error, response) =>
        resolve(error === null ? response.sequence : -error.code),
      );
    });
  const run = (done: () => void) => {
    void page(clients, ask).then(done);
  };
  const pageHandlers: ConformanceServiceServer = {
    unary: (call, callback) => run(() => callback(null, call.request)),
    clientStream: (call, callback) => {
      call.on("data", () => {});
      call.on("end", () => run(() => callback(null, { payload: Buffer.alloc(0), sequences: [] })));
    },
    serverStream: (call) => run(() => call.end()),
    bidiStream: (call) => {
      call.on("data", () => {});
      call.on("end", () => run(() => call.end()));
    },
  };
  const edge = await transport.open({
    service: ConformanceServiceService,
    implementation: pageHandlers,
    clientOptions: weir.client(off),
    serverInterceptors: interceptors,
  });
  const client = edge.client(ConformanceServiceClient);
  const call = async (method: (typeof kinds)[number]) => {
    const { ended } = startCall(client, method, {}, new Metadata());
    const { code, trailers } = await edge.until(ended, 1e6);
    expect(code).toBe(Status.OK);
    return degradationOf(trailers);
  };
  return { call, transport };
}

describe.each(kinds)("a handler of %s", (method) => {
  it("passes on that a fallback of its own has answered", async () => {
    const { call } = await hops(async ({ safe }, ask) => {
      expect(await ask(safe)).toBe(5);
      expect(currentCall()?.degradations).toHaveLength(1);
    });
    expect(await call(method)).toEqual([{ source: "fallback", name: "static", method: unaryPath }]);
  });

  it("passes on what it says itself", async () => {
    const { call } = await hops(async () => {
      currentCall()?.degrade("reviews");
      currentCall()?.degrade("reviews");
    });
    expect(await call(method)).toMatchObject([{ source: "handler", name: "reviews" }]);
  });
});

const marking: ConformanceServiceServer = {
  ...echo,
  unary: (call, callback) => {
    currentCall()?.degrade("prices");
    callback(null, call.request);
  },
};

describe("an answer", () => {
  it("that is what it should be has no mark", async () => {
    const { call } = await hops(async ({ plain, safe }, ask) => {
      await Promise.all([ask(plain), ask(safe)]);
    }, echo);
    expect(await call("unary")).toEqual([]);
  });

  it("says each cause once, however many calls had it", async () => {
    const { call } = await hops(async ({ safe }, ask) => {
      await Promise.all(Array.from({ length: 40 }, () => ask(safe)));
    });
    expect(await call("unary")).toHaveLength(1);
  });

  it("says nothing of calls that failed, nor of what is detached", async () => {
    const { call } = await hops(async ({ plain, safe }, ask) => {
      expect(await ask(plain)).toBe(-Status.UNAVAILABLE);
      await detached(() => ask(safe));
    });
    expect(await call("unary")).toEqual([]);
  });

  it("says nothing of the mark of a call that failed", async () => {
    const metadata = new Metadata();
    metadata.set("x-weir-degraded", "fallback=static");
    const failure = { code: Status.UNAVAILABLE, details: "down", metadata };
    const { call } = await hops(async ({ plain }, ask) => {
      expect(await ask(plain)).toBe(-Status.UNAVAILABLE);
    }, failing(Number.POSITIVE_INFINITY, failure).handlers);
    expect(await call("unary")).toEqual([]);
  });

  it("is bounded, however much a handler says", async () => {
    const { call } = await hops(async () => {
      for (let index = 0; index < 100; index += 1) currentCall()?.degrade(`part-${index}`);
    });
    expect(await call("unary")).toHaveLength(16);
  });

  it.each(["plain", "safe", "observing"] as const)(
    "of a service below is passed on by a handler whose client is %s",
    async (which) => {
      const { call } = await hops(async (clients, ask) => {
        expect(await ask(clients[which])).toBe(1);
      }, marking);
      expect(await call("unary")).toEqual([
        { source: "handler", name: "prices", method: unaryPath },
      ]);
    },
  );

  it("of a service below is not stored as a good one", async () => {
    const transport = inMemoryTransport();
    const weir = createWeir({ clock: transport.clock, random: transport.random });
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: marking,
      clientOptions: weir.client({
        ...off,
        fallback: { providers: [staleCache({ shared: true })] },
      }),
      serverInterceptors: weir.server({}).interceptors ?? [],
    });
    const client = link.client(ConformanceServiceClient);
    const { ended } = startCall(client, "unary", {}, new Metadata());
    expect(degradationOf((await link.until(ended, 1e6)).trailers)).toHaveLength(1);
    expect(weir.policy("fallback").snapshot()).toMatchObject([{ cache: { stored: 0 } }]);
  });
});
