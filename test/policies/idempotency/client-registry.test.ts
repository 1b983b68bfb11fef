import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadPackageDefinition } from "@grpc/grpc-js";
import { loadFileDescriptorSetFromBuffer, loadSync } from "@grpc/proto-loader";
import { afterAll, describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import {
  type MethodRegistry,
  methodRegistry,
} from "../../../src/policies/idempotency/client-registry.js";
import { levelFromSchema } from "../../../src/policies/idempotency/levels.js";
import { createWeir } from "../../../src/weir.js";
import { path } from "../../scene.js";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "grpc-weir-descriptors-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The descriptor set of the project's own schema, as a user would make it. */
const descriptorSet = (() => {
  const file = join(folder, "descriptors.binpb");
  const buf = join(root, "node_modules", ".bin", "buf");
  execFileSync(buf, ["build", "-o", file, "--path", "proto/weir"], { cwd: root });
  return readFileSync(file);
})();

const loaded = loadSync("weir/v1/conformance.proto", { includeDirs: [join(root, "proto")] });
const loadedFromSet = loadFileDescriptorSetFromBuffer(descriptorSet);

/** As ts-proto 2.18 writes them. */
const genericDefinition = {
  name: "ConformanceService",
  fullName: "weir.v1.ConformanceService",
  methods: {
    unary: { name: "Unary", requestStream: false, options: { idempotencyLevel: "IDEMPOTENT" } },
    clientStream: { name: "ClientStream", requestStream: true, options: {} },
    serverStream: {
      name: "ServerStream",
      requestStream: false,
      options: { idempotencyLevel: "NO_SIDE_EFFECTS" },
    },
    bidiStream: { name: "BidiStream", requestStream: true, options: {} },
  },
} as const;
const protoMetadata = {
  fileDescriptor: {
    name: "weir/v1/conformance.proto",
    package: "weir.v1",
    service: [
      {
        name: "ConformanceService",
        method: [
          { name: "Unary", options: { deprecated: false, idempotencyLevel: 2 } },
          { name: "ClientStream", options: undefined },
          { name: "ServerStream", options: { deprecated: false, idempotencyLevel: 1 } },
          { name: "BidiStream", options: undefined },
        ],
      },
    ],
  },
  references: {},
  dependencies: [],
};

function levelsOf(registry: MethodRegistry): unknown {
  return Object.fromEntries(
    Object.entries(path).map(([kind, name]) => [kind, registry.levelOf(name)]),
  );
}

const declared = {
  unary: "idempotent",
  clientStream: "unknown",
  serverStream: "no-side-effects",
  bidiStream: "unknown",
};

function serviceIn(definition: typeof loaded): Readonly<Record<string, object>> {
  return definition["weir.v1.ConformanceService"] as Readonly<Record<string, object>>;
}

function withoutOptions(service: Readonly<Record<string, object>>) {
  return Object.fromEntries(
    Object.entries(service).map(([name, method]) => [name, { ...method, options: undefined }]),
  );
}

function withoutTypes(service: Readonly<Record<string, object>>) {
  return Object.fromEntries(
    Object.entries(service).map(([name, method]) => [name, { ...method, requestType: undefined }]),
  );
}

function constructorIn(definition: typeof loaded): { readonly service: object } {
  let found: unknown = loadPackageDefinition(definition);
  for (const name of ["weir", "v1", "ConformanceService"]) {
    found = (found as Readonly<Record<string, unknown>>)[name];
  }
  return found as { readonly service: object };
}

function descriptorsIn(definition: typeof loaded): readonly Uint8Array[] {
  const type = definition["weir.v1.UnaryRequest"];
  return (type as { readonly fileDescriptorProtos: readonly Uint8Array[] }).fileDescriptorProtos;
}

describe("the levels of the schema are read from", () => {
  it.each([
    ["a serialized descriptor set", () => methodRegistry(descriptorSet)],
    ["a package that proto-loader read from .proto files", () => methodRegistry(loaded)],
    ["a service of that package", () => methodRegistry(serviceIn(loaded))],
    ["a client constructor made of it", () => methodRegistry(constructorIn(loaded))],
    [
      "the service of that constructor",
      () => methodRegistry(constructorIn(loaded).service as never),
    ],
    ["an object that holds a service", () => methodRegistry({ service: serviceIn(loaded) })],
    [
      "the descriptors of a service whose methods have no options",
      () => methodRegistry(withoutOptions(serviceIn(loaded))),
    ],
    [
      "the options of a service whose types have no descriptors",
      () => methodRegistry(withoutTypes(serviceIn(loaded))),
    ],
    ["the descriptors of proto-loader's types", () => methodRegistry(descriptorsIn(loaded))],
    [
      "one descriptor of a file",
      () => methodRegistry(descriptorsIn(loaded)[0] ?? new Uint8Array()),
    ],
    ["a package that proto-loader made of a descriptor set", () => methodRegistry(loadedFromSet)],
    ["a service of such a package", () => methodRegistry(serviceIn(loadedFromSet))],
    ["the descriptors of such a package", () => methodRegistry(descriptorsIn(loadedFromSet))],
    ["a generic definition of ts-proto", () => methodRegistry(genericDefinition)],
    ["the protoMetadata of ts-proto", () => methodRegistry(protoMetadata)],
    [
      "a plain object",
      () =>
        methodRegistry({
          "weir.v1.ConformanceService/Unary": "idempotent",
          "/weir.v1.ConformanceService/ServerStream": "no-side-effects",
        }),
    ],
  ])("%s", (_source, registry) => {
    expect(levelsOf(registry())).toEqual(declared);
  });
});

it("still needs the descriptors where proto-loader loses the options of a descriptor set", () => {
  // Should this fail one day, the descriptors need not be looked at any more.
  for (const method of Object.values(serviceIn(loadedFromSet))) {
    expect(method).toMatchObject({ options: { idempotency_level: "IDEMPOTENCY_UNKNOWN" } });
  }
});

it("answers for a path with or without the slash in front, and unknown for what it has not heard of", () => {
  const registry = methodRegistry({ "a.B/C": "idempotent" });
  expect(registry.levelOf("/a.B/C")).toBe("idempotent");
  expect(registry.levelOf("a.B/C")).toBe("idempotent");
  expect(registry.levelOf("/a.B/D")).toBe("unknown");
  expect(registry.levelOf("/constructor")).toBe("unknown");
  expect(methodRegistry().levelOf("/a.B/C")).toBe("unknown");
});

/** `idempotency_level: IDEMPOTENT`, a field of method options. */
const idempotent = [0x90, 0x02, 2];

/** A file "f" with `service Bare { rpc Go }`, whose method has these options. */
function fileOf(options: readonly number[]): readonly number[] {
  const method = [0x0a, 2, 0x47, 0x6f, 0x22, options.length, ...options];
  const service = [0x0a, 4, 0x42, 0x61, 0x72, 0x65, 0x12, method.length, ...method];
  return [0x0a, 1, 0x66, 0x32, service.length, ...service];
}

it("reads a service without a package", () => {
  const file = {
    service: [{ name: "Bare", method: [{ name: "Go", options: { idempotencyLevel: 1 } }] }],
  };
  expect(methodRegistry({ fileDescriptor: file }).levelOf("/Bare/Go")).toBe("no-side-effects");
  const bytes = fileOf(idempotent);
  const set = [0x0a, bytes.length, ...bytes];
  expect(methodRegistry(Uint8Array.from(bytes)).levelOf("/Bare/Go")).toBe("idempotent");
  expect(methodRegistry(Uint8Array.from(set)).levelOf("/Bare/Go")).toBe("idempotent");
});

// Each holds bytes that would be taken for a level if they were not passed over as a whole.
it.each([
  ["fixed32", [0xa5, 0x06, 0x90, 0x02, 1, 0]],
  ["fixed64", [0xa1, 0x06, 0x90, 0x02, 1, 0, 0x90, 0x02, 1, 0]],
  ["varint", [0xa0, 0x06, 34]],
  ["text", [0xa2, 0x06, 3, 0x90, 0x02, 1]],
])("passes over another option of a method, here a %s", (_type, option) => {
  for (const options of [
    [...option, ...idempotent],
    [...idempotent, ...option],
  ]) {
    const registry = methodRegistry(Uint8Array.from(fileOf(options)));
    expect(registry.levelOf("/Bare/Go")).toBe("idempotent");
  }
});

const stated = { name: "Go", options: { idempotencyLevel: 2 } };

it.each([
  ["a method in a generic definition", { fullName: "a.B", methods: { stop: null, go: stated } }],
  ["a method in protoMetadata", fileWith([{ name: "B", method: [null, stated] }])],
  ["a service in protoMetadata", fileWith([null, { name: "B", method: [stated] }])],
  ["the methods of a service", fileWith([{ name: "A" }, { name: "B", method: [stated] }])],
])("passes over %s that is not there", (_part, source) => {
  expect(methodRegistry(source).levelOf("/a.B/Go")).toBe("idempotent");
});

it("reads no level in protoMetadata without services, as of a file that has only messages", () => {
  expect(methodRegistry(fileWith(undefined)).levelOf("/a.B/Go")).toBe("unknown");
});

function fileWith(service: unknown) {
  return { fileDescriptor: { package: "a", service } };
}

describe("of two sources", () => {
  it("the later one counts", () => {
    const method = "weir.v1.ConformanceService/Unary";
    const before = methodRegistry({ [method]: "no-side-effects" }, loaded);
    expect(before.levelOf(method)).toBe("idempotent");
    const after = methodRegistry(loaded, { [method]: "no-side-effects" });
    expect(after.levelOf(method)).toBe("no-side-effects");
  });

  it.each([
    ["package", loaded],
    ["descriptor set", descriptorSet],
    ["generic definition", genericDefinition],
    ["protoMetadata", protoMetadata],
  ])("a later %s that states nothing takes nothing back", (_name, source) => {
    const method = "weir.v1.ConformanceService/ClientStream";
    expect(methodRegistry({ [method]: "idempotent" }, source).levelOf(method)).toBe("idempotent");
  });

  it("a plain object can take back what the schema says", () => {
    const method = "weir.v1.ConformanceService/Unary";
    expect(methodRegistry(loaded, { [method]: "unknown" }).levelOf(method)).toBe("unknown");
  });
});

describe("a source that is none", () => {
  it.each([
    ["nothing", undefined],
    ["null", null],
    ["a text", "weir/v1/conformance.proto"],
    ["a function that is no client", () => {}],
    ["bytes that are no descriptors", Uint8Array.from([0x0a, 0xff, 1, 2])],
    ["bytes whose service is cut short", descriptorSet.subarray(0, descriptorSet.length - 400)],
    ["an array of something else", ["a.B/C"]],
    [
      "protoMetadata without a file descriptor",
      { options: { services: {} }, references: { a: 1 } },
    ],
    ["an object of numbers", { a: 1 }],
    ["a generic definition without its full name", { methods: { go: stated } }],
    ["a tree of packages", { weir: { v1: { ConformanceService: ConformanceServiceClient } } }],
  ])("is refused by its position: %s", (_name, source) => {
    const make = () => methodRegistry(loaded, source as never);
    expect(make).toThrow(InvalidOptionError);
    expect(make).toThrow(/^methodRegistry\[1\] must be a serialized FileDescriptorSet, /);
  });

  it("is named where it stands among bytes", () => {
    const make = () => methodRegistry([descriptorSet, "a.B/C"] as never);
    expect(make).toThrow(/^methodRegistry\[0\] must be .*, got "a\.B\/C"/);
  });

  it.each([
    [
      "a level that there is not",
      { "a.B/C": "yes" },
      /^methodRegistry\[0\]\["a\.B\/C"\] must be one of /,
    ],
    [
      "a service in place of a method",
      { "a.B": "idempotent" },
      /^methodRegistry\[0\]\["a\.B"\] must be named /,
    ],
    [
      "a generic definition without methods",
      { fullName: "a.B" },
      /^methodRegistry\[0\]\["fullName"\] must be named /,
    ],
    ["a level as a number", { "a.B/C": 2 }, /^methodRegistry\[0\]\["a\.B\/C"\] must be one of /],
  ])("is refused by its entry: %s", (_name, source, message) => {
    expect(() => methodRegistry(source as never)).toThrow(message);
  });

  it.each([
    ["a service", ConformanceServiceService],
    ["a client", ConformanceServiceClient],
  ])("is refused with a way out when it is %s of ts-proto's grpc-js output", (_name, source) => {
    const make = () => methodRegistry(source);
    expect(make).toThrow(InvalidOptionError);
    expect(make).toThrow(/outputServices=grpc-js.*FileDescriptorSet.*buf build -o/);
  });
});

it("a level counts as known only when the schema named one that is known", () => {
  const levels = [0, 1, 2, 3, "IDEMPOTENCY_UNKNOWN", "NO_SIDE_EFFECTS", "IDEMPOTENT", undefined];
  expect(levels.map(levelFromSchema)).toEqual([
    "unknown",
    "no-side-effects",
    "idempotent",
    "unknown",
    "unknown",
    "no-side-effects",
    "idempotent",
    "unknown",
  ]);
});

describe("the methods of a client whose registry knows their service", () => {
  it.each<[string, () => MethodRegistry]>([
    ["proto-loader", () => methodRegistry(loaded)],
    ["a descriptor set", () => methodRegistry(descriptorSet)],
    ["a package that was loaded from a descriptor set", () => methodRegistry(loadedFromSet)],
  ])("are refused if it has none of that name: %s", (_source, registry) => {
    const client = (name: string) =>
      createWeir().client({ idempotency: registry(), methods: { [name]: { retry: false } } });
    for (const name of ["Unary", "BidiStream"]) client(`weir.v1.ConformanceService/${name}`);
    expect(() => client("weir.v1.ConformanceService/unary")).toThrow(
      'client.methods["weir.v1.ConformanceService/unary"] must be a method of weir.v1.ConformanceService: Unary, ',
    );
    expect(() => client("/weir.v1.ConformanceService/Unari")).toThrow("must be a method of");
    client("weir.v1.ConformanceService");
    client("weir.v1.Other/Unary");
  });

  it("are not checked against levels by method, which need not name all", () => {
    const idempotency = methodRegistry({ "a.B/C": "idempotent" });
    const methods = { "a.B/D": { retry: false } } as const;
    expect(createWeir().client({ idempotency, methods }).interceptors).toHaveLength(1);
  });

  it("keep the level that an earlier source states where the schema states none", () => {
    const registry = methodRegistry({ [path.unary.slice(1)]: "idempotent" }, descriptorSet);
    expect(registry.levelOf(path.unary)).toBe("idempotent");
  });
});
