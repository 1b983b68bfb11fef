import { join } from "node:path";
import { loadPackageDefinition, status as Status } from "@grpc/grpc-js";
import { loadFileDescriptorSetFromBuffer, loadSync } from "@grpc/proto-loader";
import { createWeir, InvalidOptionError, type Weir } from "grpc-weir";
import { type MethodSource, methodRegistry } from "grpc-weir/client";
import { objectSource, PolicyDocumentError, schemaSource } from "grpc-weir/config";
import { afterAll, describe, expect, it } from "vitest";
import { currentCall } from "../../src/grpc/context/inbound-call.js";
import type { SchemaPolicies } from "../../src/pipeline/policy-set.js";
import { echo, path, scene } from "../scene.js";
import { SchemaFiles } from "./schema-files.js";
import { ofMethods, service, stock, stockFiles } from "./stock-schema.js";

const files = stockFiles();
afterAll(() => files.remove());

const read = (...sources: readonly (string | MethodSource)[]): SchemaPolicies =>
  schemaSource(...sources).read();

const loaded = () => loadSync(stock, { includeDirs: [join(files.folder, "proto")] });

describe("the options of a schema are read from", () => {
  it("a serialized descriptor set, with those of services", () => {
    const policies = read(files.bytes());
    const { methods, server, registry } = policies;

    expect(methods).toEqual({ ...ofMethods, "shop.v1.Stock": service });
    expect(server).toEqual({
      priority: { methodDefaults: { "shop.v1.Stock": "high", "shop.v1.Stock/Get": "critical" } },
      idempotency: { methods: { "shop.v1.Stock/Reserve": { ttlMs: 60_000 } } },
    });
    expect(registry.levelOf("shop.v1.Stock/Get")).toBe("no-side-effects");
    expect(policies.placeOf('client.methods["shop.v1.Stock/Get"].retry.maxAttempts')).toBe(
      `${stock}:11`,
    );
    expect(policies.placeOf('server.priority.methodDefaults["shop.v1.Stock"]')).toBe(`${stock}:5`);
    expect(policies.placeOf("client.retry")).toBeUndefined();
  });

  it("the path of one, and one without places", () => {
    expect(read(files.descriptors()).methods).toHaveProperty("shop.v1.Stock");
    const policies = read(files.bytes("--exclude-source-info"));

    expect(policies.methods).toHaveProperty("shop.v1.Stock");
    expect(policies.placeOf('client.methods["shop.v1.Stock/Get"].deadline')).toBe(stock);
  });

  // As ts-proto 2.18 writes them, by option.
  it.each<[string, object]>([
    ["useMapType", { bulkhead: { partitions: new Map([["reads", { share: 0.5 }]]) } }],
    [
      "oneof=unions",
      {
        bulkheadChoice: { $case: "bulkhead", bulkhead: { partitions: { reads: { share: 0.5 } } } },
      },
    ],
    [
      "oneof=unions-value",
      { bulkheadChoice: { $case: "bulkhead", value: { partitions: { reads: { share: 0.5 } } } } },
    ],
    [
      "snakeToCamel=false",
      { bulkhead: { max_wait: undefined, partitions: { reads: { share: 0.5 } } } },
    ],
  ])("metadata of ts-proto with %s", (_what, client) => {
    const methods = { Get: { method: { client: { name: "", ...client } } } };
    const fileDescriptor = {
      name: stock,
      package: "shop.v1",
      dependency: ["weir/v1/options.proto"],
    };
    const metadata = { fileDescriptor, options: { services: { Stock: { methods } } } };

    expect(read(metadata).methods).toEqual({
      "shop.v1.Stock/Get": { bulkhead: { partitions: { reads: { share: 0.5 } } } },
    });
    expect(
      read({ ...metadata, fileDescriptor: { ...fileDescriptor, dependency: [] } }).methods,
    ).toEqual({});
  });

  it("definitions of ts-proto, which keep the bytes", () => {
    const options = { _unknownFields: { 415442: [new Uint8Array([5, 10, 3, 108, 111, 119])] } };

    expect(read({ fullName: "a.B", methods: { c: { name: "C", options } } }).methods).toEqual({
      "a.B/C": { priority: "low" },
    });
  });

  it.each<[string, unknown, unknown, number]>([
    ["bigint", 2n, 4096n, 2_000],
    ["Long", { toNumber: () => 2 }, { toNumber: () => 4096 }, 2_000],
    ["text", "2", "4096", 2_000],
  ])("numbers of 64 bits as %s", (_what, seconds, maxBytes, defaultMs) => {
    const client = {
      deadline: { default: { seconds, nanos: 0 } },
      fallback: { staleCache: { shared: true, vary: [], memory: { maxBytes } } },
    };
    const services = { Stock: { methods: { Get: { method: { client } } } } };
    const fileDescriptor = { name: stock, package: "", dependency: ["weir/v1/options.proto"] };

    expect(read({ fileDescriptor, options: { services } }).methods).toEqual({
      "Stock/Get": {
        deadline: { defaultMs },
        fallback: { staleCache: { shared: true, memory: { maxBytes: 4096 } } },
      },
    });
  });

  it("packages, services and constructors of proto-loader", () => {
    const { shop } = loadPackageDefinition(loaded()) as unknown as {
      shop: { v1: { Stock: { service: object } } };
    };

    expect(read(loaded()).methods).toEqual(ofMethods);
    expect(read(shop.v1.Stock).methods).toEqual(ofMethods);
    expect(read(shop.v1.Stock.service as MethodSource).methods).toEqual(ofMethods);
    expect(read(loaded()).placeOf('client.methods["shop.v1.Stock/Get"].deadline')).toBe(
      "shop.v1.Stock",
    );
  });

  it("several sources, of which the later one counts", () => {
    const both = read(loaded(), { "shop.v1.Stock/Get": "unknown" }, files.bytes());

    expect(both.placeOf('client.methods["shop.v1.Stock/Get"].deadline')).toBe(`${stock}:11`);
    expect(both.methods).toEqual({ ...ofMethods, "shop.v1.Stock": service });
  });
});

describe("a schema without options", () => {
  it("says nothing, and so does one that uses their number for something else", () => {
    const other = new SchemaFiles(
      {
        "a/b.proto": `syntax = "proto3";
package a;
import "google/protobuf/descriptor.proto";
extend google.protobuf.MethodOptions { string method = 51930; }
service B { rpc C(M) returns (M) { option (a.method) = "mine"; } }
service D { rpc E(M) returns (M); }
message M {}
`,
      },
      [],
    );
    try {
      const { methods, registry } = read(other.bytes());

      expect(methods).toEqual({});
      expect(() => registry.check("methods", "a.B/F")).toThrow(/a method of a\.B: C/);
    } finally {
      other.remove();
    }
    expect(read({ "a.B/C": "idempotent" }).methods).toEqual({});
  });

  it("is one that proto-loader has made of a descriptor set", () => {
    const set = loadFileDescriptorSetFromBuffer(Buffer.from(files.bytes()));

    expect(read(set).methods).toEqual({});
  });
});

describe("a schema that makes no sense", () => {
  it.each([
    [
      "for what the policies refuse",
      "option (weir.v1.method) = { client: { retry: { max_attempts: 0 } } };",
      'a/b.proto:6:12 ["a.B/C"].client.retry.maxAttempts must be',
    ],
    [
      "for a priority that there is not",
      'option (weir.v1.method) = { priority: "urgent" };',
      'a/b.proto:6:12 ["a.B/C"].priority must be one of',
    ],
    [
      "for another name",
      'option (weir.v1.method).client.name = "a.B/C";',
      'a/b.proto:6:5 ["a.B/C"].client.name must be absent',
    ],
  ])("is refused with its place %s", (_what, option, expected) => {
    const wrong = new SchemaFiles({
      "a/b.proto": `syntax = "proto3";
package a;
import "weir/v1/options.proto";
service B {
  rpc C(M) returns (M) {
    ${option}
  }
}
message M {}
`,
    });
    try {
      expect(() => read(wrong.bytes())).toThrow(PolicyDocumentError);
      expect(() => read(wrong.bytes())).toThrow(expected);
    } finally {
      wrong.remove();
    }
  });

  it("is refused where a parser let it pass", () => {
    const options = { "(weir.v1.method)": { client: { retrys: {} }, prioritie: "low" } };
    const source = { C: { path: "/a.B/C", options } };
    const refused = () => read(source);

    expect(refused).toThrow(
      /a\.B \["a\.B\/C"\]\.client\.retrys is not a field.*did you mean retry\?/,
    );
    expect(refused).toThrow(/\["a\.B\/C"\]\.prioritie is not a field.*did you mean priority\?/);
  });

  it("is refused where it is no schema", () => {
    expect(() => schemaSource()).toThrow(InvalidOptionError);
    expect(() => read("/no/such/file")).toThrow(/^schemaSource\[0\] cannot be read: ENOENT/);
    expect(() => read(loaded(), 5 as never)).toThrow(/^schemaSource\[1\] must be/);
    expect(() => createWeir({ schema: {} as never })).toThrow(
      /createWeir\.schema must be a source of schemas/,
    );
    const definition = {
      fullName: "a.B",
      methods: {
        c: { name: "C", options: { _unknownFields: { 415442: [new Uint8Array([2, 255, 255])] } } },
      },
    };
    expect(() => read(definition)).toThrow(/schemaSource\[0\] must be a schema whose option 51930/);
  });
});

describe("the policies of a weir with a schema", () => {
  const told = (weir: Weir, option: string, method = "shop.v1.Stock/Get") => {
    const { clients, servers } = weir.explainPolicy(method);
    const all = [...clients, ...servers].flatMap(({ settings }) => settings);
    const found = all.find((setting) => setting.option === option);
    return found === undefined
      ? "absent"
      : `${JSON.stringify(found.value)} ${found.from} (${found.place})`;
  };
  const schema = schemaSource(files.bytes());
  /** What the schema cannot say. */
  const own = { methods: { "shop.v1.Stock/Get": { bulkhead: { partition: () => "reads" } } } };

  it("are those of the schema, with its place", () => {
    const weir = createWeir({ schema });
    const inUse = [weir.client(own), weir.server()];

    expect(told(weir, "deadline.defaultMs")).toBe(`300 schema (${stock}:11 shop.v1.Stock/Get)`);
    expect(told(weir, "timeouts.attemptMs")).toBe(`1000 schema (${stock}:5 shop.v1.Stock)`);
    expect(told(weir, "breaker")).toBe(`false schema (${stock}:11 shop.v1.Stock/Get)`);
    expect(told(weir, "breaker", "shop.v1.Stock/List")).toBe('"on" default ()');
    expect(told(weir, "retry.idempotent")).toBe("true schema (idempotency_level)");
    expect(told(weir, "priority", "shop.v1.Stock/List")).toBe(
      `"high" schema (${stock}:5 shop.v1.Stock)`,
    );
    expect(told(weir, "priority.methodDefaults")).toBe(
      `{"shop.v1.Stock/Get":"critical"} schema (${stock}:11 shop.v1.Stock/Get)`,
    );
    expect(weir.explainPolicy("shop.v1.Stock/Get").text).toMatch(
      /^ {2}retry\.maxAttempts +2 +schema \(shop\/v1\/stock\.proto:11 shop\.v1\.Stock\/Get\)$/m,
    );
    expect(inUse).toHaveLength(2);
  });

  it("give way to a file, and both to the code", () => {
    const policies = objectSource({
      client: { deadline: { default: "2s" } },
      methods: [{ name: "shop.v1.Stock/*", retry: { maxAttempts: 4 } }],
    });
    const weir = createWeir({ schema, policies });
    const inUse = weir.client({
      timeouts: { attemptMs: 50 },
      bulkhead: false,
      methods: { "shop.v1.Stock/Get": { retry: { maxAttempts: 5 } } },
    });

    expect(told(weir, "deadline.defaultMs")).toBe("2000 data (policies)");
    expect(told(weir, "retry.maxAttempts")).toMatch(/^5 code/);
    expect(told(weir, "retry.maxAttempts", "shop.v1.Stock/List")).toBe("4 data (policies)");
    expect(told(weir, "retry.codes")).toMatch(/^\[14,10\] schema/);
    expect(told(weir, "timeouts.attemptMs")).toBe("50 code (the client)");
    expect(told(weir, "bulkhead")).toBe("false code (the client)");
    expect(inUse).toBeDefined();
  });

  it("know the methods of the schema, and which may run twice, unless the code has a registry", () => {
    const weir = createWeir({ schema });
    const idempotency = methodRegistry({ "shop.v1.Stock/Get": "unknown" });
    const inUse = weir.client({ ...own, idempotency });

    expect(told(weir, "retry.idempotent")).toBe("absent");
    expect(() =>
      createWeir({ schema }).client({ methods: { ...own.methods, "shop.v1.Stock/Reserv": {} } }),
    ).toThrow(/must be a method of shop\.v1\.Stock: Get, Reserve, List/);
    expect(inUse).toBeDefined();
  });

  it("say where the schema is, when they miss what only the code has", () => {
    expect(() => createWeir({ schema }).client()).toThrow(
      /client\.methods\["shop\.v1\.Stock\/Get"\]\.bulkhead\.partition.* \(with shop\/v1\/stock\.proto:11\)$/,
    );
  });
});

describe("calls of a service whose schema says how it is called", () => {
  const options = {
    idempotency_level: "NO_SIDE_EFFECTS",
    "(weir.v1.method)": {
      priority: "critical",
      client: {
        deadline: { default: { nanos: 300_000_000 } },
        fallback: { stale_cache: { shared: true, single_flight: false } },
      },
    },
  };
  const schema = schemaSource({ Unary: { path: path.unary, options } });

  it("are critical, have its deadline, and are answered from cache", async () => {
    const seen: unknown[] = [];
    let down = false;
    const { call } = await scene({
      schema,
      server: {},
      handlers: {
        ...echo,
        unary(inbound, callback) {
          seen.push([currentCall()?.priority, currentCall()?.remainingMs()]);
          if (down) callback({ code: Status.INTERNAL });
          else echo.unary(inbound, callback);
        },
      },
    });

    await call("unary");
    down = true;
    const { code, received } = await call("unary");

    // A quarter of the time is kept for the cache.
    expect(seen).toEqual([
      ["critical", 225],
      ["critical", 225],
    ]);
    expect({ code, received }).toEqual({ code: Status.OK, received: [3] });
  });

  it("are critical for a server, whoever calls", async () => {
    const seen: unknown[] = [];
    const { call } = await scene({
      server: { priority: { default: "low" } },
      // A client that knows no schema, beside a server that does.
      schema: { name: "server", read: () => ({ ...schema.read(), methods: {} }) },
      handlers: {
        ...echo,
        unary(inbound, callback) {
          seen.push([currentCall()?.priority, inbound.metadata.get("x-request-priority")]);
          echo.unary(inbound, callback);
        },
      },
    });

    await call("unary");

    expect(seen).toEqual([["critical", []]]);
  });
});
