import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  status as Status,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { ReflectionService } from "@grpc/reflection";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run } from "../../../src/cli/run.js";
import { schemaSource } from "../../../src/config/schema-source.js";
import { fileSource } from "../../../src/config/source.js";
import { reflectedSchema } from "../../../src/grpc/reflected-schema.js";
import { createWeir } from "../../../src/weir.js";

const protos = fileURLToPath(new URL("../../../proto/", import.meta.url));

async function runWith(...args: string[]) {
  const said = { stdout: "", stderr: "" };
  const to = (stream: keyof typeof said) => ({
    write: (text: string) => {
      said[stream] += text;
    },
  });
  const code = await run(args, {
    stdout: to("stdout"),
    stderr: to("stderr"),
    once: () => {},
    removeListener: () => {},
  });
  return { code, ...said };
}

const servers: Server[] = [];
const heard: Metadata[] = [];
let folder: string;
let target: string;
let alphaTarget: string;
let silentTarget: string;
const fileOf = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "weir-reflection-"));
  const shop = loadSync("demo/shop/v1/inventory.proto", { includeDirs: [protos] });
  const reflection = new ReflectionService(shop);
  target = await listen((server) => reflection.addToServer(server));
  // Many servers have the older version alone.
  alphaTarget = await listen((server) =>
    reflection.addToServer({
      addService: (definition, implementation) => {
        const [{ path } = { path: "" }] = Object.values(definition);
        if (path.includes("v1alpha")) server.addService(definition, implementation);
      },
    }),
  );
  silentTarget = await listen(() => {});
});
afterAll(() => {
  for (const server of servers) server.forceShutdown();
  rmSync(folder, { recursive: true });
});

async function listen(add: (server: Server) => void): Promise<string> {
  const server = new Server({
    interceptors: [
      (_method, call) =>
        new ServerInterceptingCall(call, {
          start: (next) =>
            next({
              onReceiveMetadata: (metadata, go) => {
                heard.push(metadata);
                go(metadata);
              },
            }),
        }),
    ],
  });
  servers.push(server);
  add(server);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return `127.0.0.1:${port}`;
}

const unwise = `methods:
  - name: demo.shop.v1.InventoryService/Reservee
    retryOff: true
  - name: demo.shop.v1.InventoryService/ImportStock
    retry: { idempotent: true }
`;

describe("grpc-weir check --reflect", () => {
  it.each([
    ["v1", () => target],
    ["v1alpha", () => alphaTarget],
  ])("compares with the schemas of a running server that has reflection %s", async (_, of) => {
    writeFileSync(fileOf("unwise.yaml"), unwise);
    const { code, stdout, stderr } = await runWith(
      "check",
      fileOf("unwise.yaml"),
      "--reflect",
      of(),
    );

    expect(stderr).toBe("");
    expect(stdout.split("\n")).toEqual([
      expect.stringMatching(
        /^error \[unknown-method\] .*unwise\.yaml:2:5 methods\[0\] .*Reservee: no such method; .* \(did you mean Reserve\?\)$/,
      ),
      expect.stringMatching(/^warning \[idempotent-against-schema\] .*unwise\.yaml:5:14 /),
      "",
    ]);
    expect(code).toBe(1);
  });

  it("sends metadata along", async () => {
    heard.length = 0;
    await runWith("check", "--reflect", target, "--header", "authorization: Bearer x:y");

    expect(heard[0]?.get("authorization")).toEqual(["Bearer x:y"]);
  });

  it("says so where a server has no reflection, or does not answer", async () => {
    expect(await runWith("check", "--reflect", silentTarget)).toEqual({
      code: 2,
      stdout: "",
      stderr: `grpc-weir: ${silentTarget} has no server reflection (v1 or v1alpha)\n`,
    });
    const { code, stderr } = await runWith("check", "--reflect", "127.0.0.1:1");
    expect(stderr).toMatch(/^grpc-weir: 127\.0\.0\.1:1 cannot be asked for its schemas: /);
    expect(code).toBe(2);
  });
});

describe("a weir", () => {
  it.each([
    ["v1", () => target],
    ["v1alpha", () => alphaTarget],
  ])("takes the schema of a running server that has reflection %s", async (_, of) => {
    const metadata = new Metadata();
    metadata.set("authorization", "Bearer x");
    const bytes = await reflectedSchema(of(), credentials.createInsecure(), { metadata });
    const weir = createWeir({ schema: schemaSource(bytes) });
    const inUse = weir.client();
    const explained = weir.explainPolicy("demo.shop.v1.InventoryService/Reserve");

    expect(explained.text).toMatch(/retry\.idempotent +true +schema/);
    expect(inUse.interceptors).not.toEqual([]);
    expect(heard.at(-1)?.get("authorization")).toEqual(["Bearer x"]);
  });

  it("gets an error where a server has no reflection, or none in time", async () => {
    const insecure = credentials.createInsecure();
    await expect(reflectedSchema(silentTarget, insecure)).rejects.toMatchObject({
      code: Status.UNIMPLEMENTED,
    });
    await expect(reflectedSchema("127.0.0.1:1", insecure)).rejects.toMatchObject({
      code: Status.UNAVAILABLE,
    });
    await expect(reflectedSchema("", insecure)).rejects.toThrow(/reflectedSchema.target must be/);
    await expect(reflectedSchema(target, insecure, { timeout: 3 } as object)).rejects.toThrow(
      /reflectedSchema.timeout is not an option; did you mean timeoutMs/,
    );
  });
});

describe("grpc-weir init", () => {
  it("writes what a weir takes and in which nothing is unwise, from a running server", async () => {
    const file = fileOf("from-server.yaml");
    const { code, stdout } = await runWith("init", file, "--reflect", target);

    expect(stdout).toBe(
      `${file}: 4 methods of demo.shop.v1.InventoryService; all policies observe\n`,
    );
    expect(code).toBe(0);
    const checked = await runWith("check", file, "--reflect", target);
    expect(checked).toMatchObject({ code: 0, stdout: "2 files: nothing found\n" });
  });

  it("writes the same from protos", async () => {
    await runWith("init", fileOf("a.yaml"), "--reflect", target);
    const one = `${protos}demo/shop/v1/inventory.proto`;
    await runWith("init", fileOf("b.yaml"), "--proto", one);
    const [a, b] = ["a.yaml", "b.yaml"].map((name) => readFileSync(fileOf(name), "utf8"));

    expect(b?.replace(one, target)).toBe(a);
  });

  it("says of methods what their schema says, and enforces nothing", async () => {
    await runWith("init", fileOf("c.yaml"), "--proto", protos);
    const weir = createWeir({ policies: fileSource(fileOf("c.yaml")) });
    weir.client();
    const server = weir.server();
    const explained = weir.explainPolicy("demo.shop.v1.InventoryService/Reserve");

    expect(server.interceptors).not.toEqual([]);
    expect(explained.text).toMatch(/retry\.idempotent +true +data/);
    expect(explained.text).toMatch(/breaker\.mode +observe +data/);
    weir.close();
  });

  it("writes over no file, unless it is told to", async () => {
    const file = fileOf("mine.yaml");
    writeFileSync(file, "client: {}\n");
    const { code, stderr } = await runWith("init", file, "--proto", protos);

    expect(stderr).toBe(`grpc-weir: ${file} is there already: name another file, or use --force\n`);
    expect(code).toBe(1);
    expect(readFileSync(file, "utf8")).toBe("client: {}\n");
    expect((await runWith("init", file, "--proto", protos, "--force")).code).toBe(0);
    expect(readFileSync(file, "utf8")).toContain("observe");
  });

  it.each([
    [[], "init needs schemas"],
    [["a.yaml", "b.yaml", "--proto", "x"], "init writes one file"],
    [["--proto", "x", "--descriptors", fileURLToPath(import.meta.url)], "give --descriptors"],
    [["--proto", "no/such/folder"], "no/such/folder: ENOENT"],
    [["--descriptors", "no-such.binpb"], "no-such.binpb: ENOENT"],
    [["--descriptors", fileURLToPath(import.meta.url)], "methodRegistry[0]"],
    [["--tls", "--proto", "x"], "--tls, --ca and --header are for --reflect"],
    [["--reflect", "a:1", "--header", "no name"], '--header is "name: value"'],
    [["--reflect", "a:1", "--ca", "no-such.pem"], "no-such.pem: ENOENT"],
  ])("refuses %j", async (args, why) => {
    const { code, stderr } = await runWith("init", ...args);

    expect(stderr).toContain(why);
    expect(code).toBe(2);
    expect(existsSync("policies.yaml")).toBe(false);
  });
});
