import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { exemptFromPorts, violations } from "./layers.js";
import { factsOf } from "./module-facts.js";
import { packageUnderTest, sourceRoot } from "./package-under-test.js";

const files = readdirSync(sourceRoot, { recursive: true })
  .map((file) => String(file).replaceAll("\\", "/"))
  .filter((file) => file.endsWith(".ts"))
  .sort();

const sourceOf = (file: string) => readFileSync(join(sourceRoot, file), "utf8");

it.each(files)("src/%s keeps to its layer, its size and the ports of time and chance", (file) => {
  expect(violations(file, sourceOf(file), packageUnderTest)).toEqual([]);
});

it.each(Object.entries(exemptFromPorts))(
  "src/%s still needs its exemption from the ports",
  (file, { names }) => {
    const reached = new Set(factsOf(file, sourceOf(file)).reaches.map((reach) => reach.name));
    expect(names.filter((name) => !reached.has(name))).toEqual([]);
  },
);

describe("the checker", () => {
  const pkg = {
    entries: ["index.ts", "otel.ts"],
    dependencies: ["@grpc/grpc-js", "@opentelemetry/api", "lru-cache"],
  };

  it.each([
    ["core/a.ts", 'import { b } from "../grpc/b.js";', "core may not import grpc"],
    ["core/a.ts", 'import type { B } from "../client/b.js";', "core may not import client"],
    ["core/a.ts", 'import type { Client } from "@grpc/grpc-js";', "core must not know it"],
    ["core/a.ts", 'let c: import("@grpc/grpc-js").Client;', "core must not know it"],
    ["core/a.ts", 'import { hash } from "node:crypto";', "core must not know it"],
    ["core/a.ts", 'import { hash } from "crypto";', "core must not know it"],
    ["core/a.ts", 'export { b } from "../gen/b.js";', "core may not import gen"],
    ["core/a.ts", 'export * from "../index.js";', "core may not import entry"],
    ["grpc/a.ts", 'import { b } from "../stores/b.js";', "grpc may not import stores"],
    ["client/a.ts", 'import { b } from "../server/b.js";', "client may not import server"],
    ["client/a.ts", 'import { b } from "../gen/b.js";', "client may not import gen"],
    ["server/a.ts", 'import { b } from "../telemetry/b.js";', "server may not import telemetry"],
    ["server/a.ts", 'import { trace } from "@opentelemetry/api";', "server must not know it"],
    ["telemetry/a.ts", 'import { b } from "../client/b.js";', "telemetry may not import client"],
    ["stores/a.ts", 'import { Client } from "@grpc/grpc-js";', "stores must not know it"],
    ["testing/a.ts", 'import { b } from "../client/b.js";', "testing may not import client"],
    ["weir.ts", 'import { b } from "./testing/b.js";', "weir may not import testing"],
    ["index.ts", 'export { trace } from "@opentelemetry/api";', "entry must not know it"],
    ["index.ts", 'export { b } from "./otel.js";', "entry may not import entry"],
    ["grpc/a.ts", 'import { it } from "vitest";', "neither a dependency nor a peer"],
    ["grpc/a.ts", 'const a = await import("vitest");', "neither a dependency nor a peer"],
    ["grpc/a.ts", 'import { b } from "../../test/b.js";', "outside of src"],
    ["grpc/a.ts", 'import { b } from "../cellar/b.js";', "it stands in no layer"],
    ["cellar/a.ts", "", "stands in no layer"],
    ["loose.ts", "", "stands in no layer"],
    ["client/retry-helpers.ts", "", "named for no concept"],
    ["client/utils/a.ts", "", "named for no concept"],
    ["client/a.ts", "Date.now();", "reaches for Date.now on line 1"],
    ["client/a.ts", "\nconst t = performance.now;", "reaches for performance.now on line 2"],
    ["client/a.ts", "globalThis.setTimeout(() => {}, 1);", "reaches for setTimeout"],
    ["client/a.ts", "const later = { setTimeout };", "reaches for setTimeout"],
    ["client/a.ts", "setInterval(() => {}, 1);", "reaches for setInterval"],
    ["client/a.ts", "setImmediate(() => {});", "reaches for setImmediate"],
    ["client/a.ts", "const chance = Math.random;", "reaches for Math.random"],
    ["client/a.ts", "const today = new Date();", "reaches for new Date()"],
    ["client/a.ts", "AbortSignal.timeout(5);", "reaches for AbortSignal.timeout"],
    ["client/a.ts", 'import "node:timers/promises";', "reaches for node:timers/promises"],
    ["core/random.ts", "Date.now();", "reaches for Date.now"],
  ])("sees what is wrong with %s: %j", (file, source, wrong) => {
    const found = violations(file, source, pkg);
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(wrong);
  });

  it.each([
    ["core/a.ts", 'import { LRUCache } from "lru-cache"; import { b } from "./b.js";'],
    ["core/a.ts", '// Date.now() and import "@grpc/grpc-js"\nexport const a = "setTimeout(";'],
    ["core/a.ts", "export const a = (clock: { setTimeout(): void }) => clock.setTimeout();"],
    ["core/a.ts", "export type Timer = ReturnType<typeof setTimeout>; new Date(0);"],
    ["core/random.ts", "export const chance = () => Math.random();"],
    ["grpc/a.ts", 'import { b } from "../core/b.js"; import { c } from "../gen/c.js";'],
    ["server/a.ts", 'import { AsyncLocalStorage } from "node:async_hooks";'],
    ["telemetry/a.ts", 'import { trace } from "@opentelemetry/api";'],
    ["otel.ts", 'export type { Tracer } from "@opentelemetry/api";'],
    ["weir.ts", 'import { retry } from "./client/retry.js"; import "@opentelemetry/api";'],
    ["index.ts", 'export { createWeir } from "./weir.js";'],
  ])("has nothing against %s: %j", (file, source) => {
    expect(violations(file, source, pkg)).toEqual([]);
  });
});
