import {
  type ClientOptions,
  Metadata,
  type ServerInterceptor,
  type ServiceError,
  status as Status,
} from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { refusal } from "../../src/core/permit.js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../src/gen/weir/v1/conformance.js";
import { pushbackKey, retriesExhaustedKey } from "../../src/grpc/metadata.js";
import {
  decodeStatusDetails,
  encodeStatusDetails,
  rejectionOf,
  statusDetailsKey,
} from "../../src/grpc/status/rejection.js";
import { serverRejection } from "../../src/grpc/status/server-rejection.js";
import type { ClientPolicy } from "../../src/pipeline/client.js";
import type { ServerPolicy } from "../../src/pipeline/server.js";
import { retry } from "../../src/policies/retry/client.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { createWeir } from "../../src/weir.js";
import { type Ended, handlers, kinds, type Method, startCall } from "../scene.js";

type Failure = { code: Status; details: string; metadata?: Metadata };
type Given = ServiceError & { metadata: Metadata };

const pushback = (ms = "7") => {
  const metadata = new Metadata();
  metadata.set(pushbackKey, ms);
  return metadata;
};

const details = (code: Status, more: Parameters<typeof encodeStatusDetails>[2]) => {
  const metadata = new Metadata();
  metadata.set(statusDetailsKey, encodeStatusDetails(code, "busy", more));
  return metadata;
};

const refusedWith = (reason: "LOAD_SHED" | "DRAINING"): Failure => {
  const refused = serverRejection(refusal(reason, "full", 7));
  const metadata = new Metadata();
  metadata.merge(refused.metadata);
  return { ...refused, metadata };
};

/** What the last service of a chain fails with. */
const failures: Readonly<Record<string, () => Failure>> = {
  UNAVAILABLE: () => ({ code: Status.UNAVAILABLE, details: "down" }),
  "UNAVAILABLE with pushback": () => ({
    code: Status.UNAVAILABLE,
    details: "down",
    metadata: pushback(),
  }),
  "RESOURCE_EXHAUSTED with pushback": () => ({
    code: Status.RESOURCE_EXHAUSTED,
    details: "busy",
    metadata: pushback(),
  }),
  "RESOURCE_EXHAUSTED with RetryInfo": () => ({
    code: Status.RESOURCE_EXHAUSTED,
    details: "busy",
    metadata: details(Status.RESOURCE_EXHAUSTED, { retryDelayMs: 7 }),
  }),
  LOAD_SHED: () => refusedWith("LOAD_SHED"),
  DRAINING: () => refusedWith("DRAINING"),
};

function failure(name: string): () => Failure {
  const made = failures[name];
  if (made === undefined) throw new Error(`no failure ${name}`);
  return made;
}

const copyOf = (metadata: Metadata, into: Metadata): Metadata => {
  into.merge(metadata);
  return into;
};

function throughHeaders(metadata: Metadata): Metadata {
  // What goes out has another type than what comes in, with the same form.
  const headers: Record<string, string | string[]> = {};
  for (const [key, value] of Object.entries(metadata.toHttp2Headers())) {
    if (value !== undefined) headers[key] = Array.isArray(value) ? value : String(value);
  }
  return Metadata.fromHttp2Headers(Object.fromEntries(Object.entries(headers)));
}

/** What the metadata has to say, by way of a text. */
function throughJson(metadata: Metadata): Metadata {
  const read: Record<string, (string | { data: number[] })[]> = JSON.parse(
    JSON.stringify(metadata.toJSON()),
  );
  const made = new Metadata();
  for (const [key, values] of Object.entries(read)) {
    for (const value of values) {
      made.add(key, typeof value === "string" ? value : Buffer.from(value.data));
    }
  }
  return made;
}

/** How a handler passes an error on, all that it says with it. */
const whole: Readonly<Record<string, (error: Given) => Failure>> = {
  "as it came": (error) => error,
  "with a clone": (error) => ({ ...bare(error), metadata: error.metadata.clone() }),
  merged: (error) => ({ ...bare(error), metadata: copyOf(error.metadata, new Metadata()) }),
  "merged into its own": (error) => {
    const own = new Metadata();
    own.set("x-own", "1");
    return { ...bare(error), metadata: copyOf(error.metadata, own) };
  },
  "through headers": (error) => ({
    ...bare(error),
    metadata: throughHeaders(error.metadata),
  }),
  "through JSON": (error) => ({ ...bare(error), metadata: throughJson(error.metadata) }),
  "with another code": (error) => ({
    ...bare(error),
    code: Status.UNAVAILABLE,
    metadata: error.metadata.clone(),
  }),
};

/** And parts of it: then only what its own client knows tells where it came from. */
const parts: Readonly<Record<string, (error: Given) => Failure>> = {
  "in its own words": (error) => ({ code: error.code, details: `stock: ${error.message}` }),
  "as code and text": (error) => ({ code: error.code, details: error.details }),
  "with the pushback alone": (error) => {
    const metadata = new Metadata();
    for (const value of error.metadata.get(pushbackKey)) metadata.add(pushbackKey, value);
    return { ...bare(error), metadata };
  },
  "with the details alone": (error) => {
    const metadata = new Metadata();
    for (const value of error.metadata.get(statusDetailsKey)) metadata.add(statusDetailsKey, value);
    return { ...bare(error), metadata };
  },
};

const bare = ({ code, details: text }: Given) => ({ code, details: text });

/** What a service in the middle has of the toolkit. */
interface Middle {
  readonly server: "ours" | "bare";
  readonly client: "retries" | "defaults" | "off" | "observed" | "alone" | "bare";
}

const clientPolicies: Readonly<Record<"retries" | "defaults" | "off" | "observed", ClientPolicy>> =
  {
    retries: { breaker: false, retry: { idempotent: true, backoff: { baseMs: 1 }, budget: false } },
    defaults: { breaker: false },
    off: { breaker: false, retry: false },
    observed: { breaker: false, retry: { mode: "observe", idempotent: true, budget: false } },
  };

const middles: readonly Middle[] = (["ours", "bare"] as const).flatMap((server) =>
  (["retries", "defaults", "off", "observed", "alone", "bare"] as const).map((client) => ({
    server,
    client,
  })),
);

const named = ({ server, client }: Middle) => `server ${server}, client ${client}`;

/** Services in a row, all over one modelled network. The first argument stands nearest the caller. */
async function chain(
  row: readonly Middle[],
  leaf: () => Failure,
  passOn: (error: Given) => Failure,
  caller: ClientPolicy = clientPolicies.retries,
  server: ServerPolicy = {},
) {
  const transport = inMemoryTransport({ seed: 3 });
  const { clock, random } = transport;
  const fail = (error: unknown) => {
    throw error;
  };
  let calls = 0;
  const weir = () => createWeir({ clock, random, onError: fail });
  const optionsOf = (client: Middle["client"]): ClientOptions => {
    if (client === "bare") return {};
    if (client !== "alone") return weir().client(clientPolicies[client]);
    const { retry: options } = clientPolicies.retries;
    if (typeof options !== "object") return {};
    return { interceptors: [retry({ ...options, clock, random, onError: fail })] };
  };
  let implementation: ConformanceServiceServer = handlers((call) => {
    calls += 1;
    call.fail(leaf());
  });
  let interceptors: readonly ServerInterceptor[] = [];
  for (const middle of [...row].reverse()) {
    const below = await transport.open({
      service: ConformanceServiceService,
      implementation,
      clientOptions: optionsOf(middle.client),
      serverInterceptors: interceptors,
    });
    const client = below.client(ConformanceServiceClient);
    implementation = handlers((call, answer) => {
      startCall(client, "unary", {}, new Metadata()).ended.then(({ error }) => {
        if (error === undefined) answer();
        else call.fail(passOn(error));
      }, fail);
    });
    interceptors = middle.server === "ours" ? (weir().server(server).interceptors ?? []) : [];
  }
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation,
    clientOptions: weir().client(caller),
    serverInterceptors: interceptors,
  });
  const client = link.client(ConformanceServiceClient);
  return {
    calls: () => calls,
    call: (method: Method = "unary"): Promise<Ended> =>
      link.until(startCall(client, method, {}, new Metadata()).ended, 1e6),
  };
}

/** Of a status that the service called did not refuse itself. */
function expectNoForeignWord({ trailers, error }: Ended) {
  expect(trailers.get(pushbackKey)).toEqual([]);
  expect(decodeStatusDetails(trailers).retryDelayMs).toBeUndefined();
  const told = rejectionOf(error);
  if (told !== undefined) expect(told.hops).toBeGreaterThan(0);
}

const leaves = Object.entries(failures);
const wholes = Object.entries(whole);
const partial = Object.entries(parts);

describe("a handler that passes an error on", () => {
  const ours = middles.filter(({ server }) => server === "ours");
  const cases = ours.flatMap((middle) =>
    leaves.map(([name, leaf]) => [`${named(middle)}, ${name}`, middle, leaf] as const),
  );

  it.each(cases)("passes no pushback and no refusal on as its own: %s", async (_, middle, leaf) => {
    for (const [way, passOn] of [...wholes, ...partial]) {
      // What a bare client was told, and a handler then says in parts, is the handler's word.
      if (middle.client === "bare" && way in parts) continue;
      const made = await chain([middle], leaf, passOn);
      expectNoForeignWord(await made.call());
      expect(made.calls(), way).toBeLessThanOrEqual(3);
    }
  });

  it.each(kinds)("does so in %s calls", async (method) => {
    for (const [, passOn] of wholes) {
      const leaf = failure("RESOURCE_EXHAUSTED with pushback");
      for (const client of ["defaults", "bare"] as const) {
        const made = await chain([{ server: "ours", client }], leaf, passOn, {
          breaker: false,
        });
        expectNoForeignWord(await made.call(method));
        expect(made.calls()).toBeLessThanOrEqual(3);
      }
    }
  });

  it("keeps the details that others have put there", async () => {
    const foreign = { reason: "OUT_OF_STOCK", domain: "shop.example", metadata: { item: "7" } };
    const metadata = details(Status.UNAVAILABLE, { errorInfo: foreign, retryDelayMs: 7 });
    const leaf = () => ({ code: Status.UNAVAILABLE, details: "down", metadata });
    const off = await chain([{ server: "ours", client: "off" }], leaf, (error) => error, {
      retry: false,
    });
    expect(decodeStatusDetails((await off.call()).trailers)).toEqual({ errorInfo: foreign });
    const made = await chain([{ server: "ours", client: "retries" }], leaf, (error) => error);
    const { trailers } = await made.call();
    const sent = trailers.get(statusDetailsKey)[0]?.toString("latin1");
    expect(sent).toContain("OUT_OF_STOCK");
    expect(rejectionOf({ metadata: trailers })).toMatchObject({
      reason: "RETRY_EXHAUSTED_BELOW",
      hops: 1,
    });
  });

  it("says in a trailer that retries are exhausted where details cannot be read", async () => {
    const metadata = new Metadata();
    metadata.set(statusDetailsKey, Buffer.from([0xff]));
    const leaf = () => ({ code: Status.UNAVAILABLE, details: "down", metadata });
    const made = await chain([{ server: "ours", client: "retries" }], leaf, (error) => error);
    const { trailers } = await made.call();
    expect(trailers.get(statusDetailsKey)).toEqual([Buffer.from([0xff])]);
    expect(trailers.get(retriesExhaustedKey)).toEqual(["1"]);
    expect(made.calls()).toBe(3);
  });

  it("passes all of it on where the server is told to", async () => {
    const leaf = failure("UNAVAILABLE with pushback");
    const row = [{ server: "ours", client: "retries" }] as const;
    const made = await chain(row, leaf, (error) => error, { retry: false }, { relay: "pass" });
    const { trailers } = await made.call();
    expect(trailers.get(pushbackKey)).toEqual(["7"]);
    expect(trailers.get(retriesExhaustedKey)).toEqual([]);
    expect(trailers.get(statusDetailsKey)).toEqual([]);
  });
});

describe("a handler with a word of its own", () => {
  const own = (metadata: Metadata) => () => ({
    code: Status.RESOURCE_EXHAUSTED,
    details: "my quota",
    metadata,
  });

  it("says when to come back, whatever its calls have failed with", async () => {
    for (const client of ["retries", "defaults", "off", "observed", "alone", "bare"] as const) {
      const leaf = failure("RESOURCE_EXHAUSTED with pushback");
      const row = [{ server: "ours", client }] as const;
      const made = await chain(row, leaf, own(pushback("50")), { retry: false });
      expect((await made.call()).trailers.get(pushbackKey)).toEqual(["50"]);
    }
  });

  it("says so with RetryInfo", async () => {
    const metadata = details(Status.RESOURCE_EXHAUSTED, { retryDelayMs: 50 });
    const leaf = failure("RESOURCE_EXHAUSTED with RetryInfo");
    const row = [{ server: "ours", client: "retries" }] as const;
    const made = await chain(row, leaf, own(metadata), { retry: false });
    expect(decodeStatusDetails((await made.call()).trailers)).toEqual({ retryDelayMs: 50 });
  });

  it("is retried as it would be without what has failed below", async () => {
    const leaf = failure("UNAVAILABLE");
    const row = [{ server: "ours", client: "retries" }] as const;
    const made = await chain(row, leaf, () => ({ code: Status.UNAVAILABLE, details: "I restart" }));
    const { trailers } = await made.call();
    expect(rejectionOf({ metadata: trailers })).toBeUndefined();
    // The first attempt of its caller has three calls of its own; the others are not retried in turn.
    expect(made.calls()).toBe(5);
  });
});

describe("services in a row", () => {
  it.each(middles.map((middle) => [named(middle), middle] as const))(
    "try a call as often as one of them may, with %s in the middle",
    async (_, middle) => {
      for (const [name, leaf] of leaves) {
        for (const [way, passOn] of wholes) {
          const made = await chain([middle], leaf, passOn);
          await made.call();
          expect(made.calls(), `${name}, ${way}`).toBeLessThanOrEqual(3);
        }
      }
    },
  );

  const pairs = middles.flatMap((first) =>
    middles.map((second) => [`${named(first)}; ${named(second)}`, [first, second]] as const),
  );

  it.each(pairs)("do so with two in the middle: %s", async (_, row) => {
    for (const [name, leaf] of leaves) {
      const made = await chain(row, leaf, (error) => ({
        ...bare(error),
        metadata: throughJson(error.metadata),
      }));
      await made.call();
      expect(made.calls(), name).toBeLessThanOrEqual(3);
    }
  });

  it("pass on how many are retrying, also where one does not retry itself", async () => {
    const leaf = failure("UNAVAILABLE");
    const row = [
      { server: "ours", client: "off" },
      { server: "ours", client: "retries" },
    ] as const;
    let n = 0;
    // Errors in words that nobody below has used: what is left is the depth.
    const made = await chain(row, leaf, () => ({ code: Status.UNAVAILABLE, details: `${++n}` }));
    await made.call();
    expect(made.calls()).toBe(5);
  });
});
