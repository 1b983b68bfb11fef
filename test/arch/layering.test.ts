import { readdirSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";
import { describe, expect, it } from "vitest";
import { cyclesIn, exemptFromPorts, policiesKnownTo, sliceOf, violations } from "./layers.js";
import { factsOf } from "./module-facts.js";
import { packageUnderTest, sourceRoot } from "./package-under-test.js";

const files = readdirSync(sourceRoot, { recursive: true })
  .map((file) => String(file).replaceAll("\\", "/"))
  .filter((file) => file.endsWith(".ts"))
  .sort();

const sourceOf = (file: string) => readFileSync(join(sourceRoot, file), "utf8");

it.each(files)("src/%s keeps to its layer, its slice and the ports of time and chance", (file) => {
  expect(violations(file, sourceOf(file), packageUnderTest)).toEqual([]);
});

it.each(Object.entries(exemptFromPorts))(
  "src/%s still needs its exemption from the ports",
  (file, { names }) => {
    const reached = new Set(factsOf(file, sourceOf(file)).reaches.map((reach) => reach.name));
    expect(names.filter((name) => !reached.has(name))).toEqual([]);
  },
);

const targetsOf = (file: string) =>
  factsOf(file, sourceOf(file))
    .imports.filter((specifier) => specifier.startsWith("."))
    .map((specifier) => posix.join(posix.dirname(file), specifier).replace(/\.js$/, ".ts"));

it("no module imports itself over others", () => {
  expect(cyclesIn(new Map(files.map((file) => [file, targetsOf(file)])))).toEqual([]);
});

it.each(Object.entries(policiesKnownTo))("%s still imports the policies %j", (slice, policies) => {
  const targets = files.filter((file) => sliceOf(file) === slice).flatMap(targetsOf);
  const unused = policies.filter(
    (policy) => !targets.some((target) => target.startsWith(`policies/${policy}/`)),
  );
  expect(unused).toEqual([]);
});

describe("the finder of import cycles", () => {
  it.each([
    [{ a: ["b"], b: ["c"], c: [] }, []],
    [{ a: ["b", "c"], b: ["d"], c: ["d"], d: [] }, []],
    [{ a: ["a"] }, [["a"]]],
    [{ a: ["b"], b: ["a"], c: ["a"] }, [["a", "b"]]],
    [
      { a: ["b"], b: ["c"], c: ["a"], d: ["e"], e: ["d"] },
      [
        ["a", "b", "c"],
        ["d", "e"],
      ],
    ],
  ])("finds in %j the cycles %j", (imports, cycles) => {
    expect(cyclesIn(new Map(Object.entries(imports)))).toEqual(cycles);
  });
});

describe("the checker", () => {
  const pkg = {
    entries: ["index.ts", "otel.ts"],
    dependencies: ["@grpc/grpc-js", "@opentelemetry/api", "lru-cache"],
  };

  it.each([
    ["core/a.ts", 'import { b } from "../grpc/b.js";', "core may not import grpc"],
    ["core/a.ts", 'import { b } from "../policies/retry/b.js";', "core may not import policies"],
    ["core/a.ts", 'import type { Client } from "@grpc/grpc-js";', "core must not know it"],
    ["core/a.ts", 'let c: import("@grpc/grpc-js").Client;', "core must not know it"],
    ["core/queue/a.ts", 'import { hash } from "node:crypto";', "core must not know it"],
    ["core/a.ts", 'import { hash } from "crypto";', "core must not know it"],
    ["core/a.ts", 'export { b } from "../gen/b.js";', "core may not import gen"],
    ["core/a.ts", 'export * from "../index.js";', "core may not import entry"],
    ["policies/retry/a.ts", 'import { status } from "@grpc/grpc-js";', "policies must not know it"],
    ["policies/retry/a.ts", 'import { b } from "node:os";', "policies must not know it"],
    ["policies/retry/a.ts", 'import "@opentelemetry/api";', "policies must not know it"],
    ["policies/retry/a.ts", 'import { b } from "../../grpc/b.js";', "policies may not import grpc"],
    ["policies/retry/a.ts", 'import { b } from "./client.js";', "policies may not import client"],
    [
      "policies/retry/clients.ts",
      'import { b } from "./client.js";',
      "policies may not import client",
    ],
    [
      "policies/retry/observer.ts",
      'import { b } from "./server.js";',
      "policies may not import server",
    ],
    [
      "policies/retry/client.ts",
      'import { b } from "./server.js";',
      "client may not import server",
    ],
    [
      "policies/retry/server-a.ts",
      'import { b } from "./client-a.js";',
      "server may not import client",
    ],
    [
      "policies/retry/client.ts",
      'import { b } from "../../gen/b.js";',
      "client may not import gen",
    ],
    [
      "policies/retry/server.ts",
      'import { trace } from "@opentelemetry/api";',
      "server must not know it",
    ],
    [
      "policies/retry/client.ts",
      'import { b } from "../breaker/b.js";',
      "may not import the policy breaker",
    ],
    [
      "policies/drain/server.ts",
      'import { b } from "../limits/b.js";',
      "may not import the policy limits",
    ],
    [
      "policies/fallback/stale-cache/a.ts",
      'import { b } from "../../retry/b.js";',
      "the policy retry",
    ],
    [
      "guard/a.ts",
      'import { b } from "../policies/throttle/b.js";',
      "may not import the policy throttle",
    ],
    ["guard/a.ts", 'import { b } from "../pipeline/b.js";', "guard may not import pipeline"],
    ["policies/a.ts", "", "stands in no layer"],
    ["client/a.ts", "", "stands in no layer"],
    [
      "grpc/client/a.ts",
      'import { b } from "../../pipeline/b.js";',
      "grpc may not import pipeline",
    ],
    [
      "telemetry/a.ts",
      'import { b } from "../pipeline/b.js";',
      "telemetry may not import pipeline",
    ],
    ["testing/a.ts", 'import { b } from "../guard/b.js";', "testing may not import guard"],
    ["weir.ts", 'import { b } from "./testing/b.js";', "weir may not import testing"],
    ["index.ts", 'export { trace } from "@opentelemetry/api";', "entry must not know it"],
    ["index.ts", 'export { b } from "./otel.js";', "entry may not import entry"],
    ["grpc/a.ts", 'import { it } from "vitest";', "neither a dependency nor a peer"],
    ["grpc/a.ts", 'const a = await import("vitest");', "neither a dependency nor a peer"],
    ["grpc/a.ts", 'import { b } from "../../test/b.js";', "outside of src"],
    ["grpc/a.ts", 'import { b } from "../cellar/b.js";', "it stands in no layer"],
    ["cellar/a.ts", "", "stands in no layer"],
    ["loose.ts", "", "stands in no layer"],
    ["grpc/retry-helpers.ts", "", "named for no concept"],
    ["grpc/utils/a.ts", "", "named for no concept"],
    ["grpc/a.ts", "Date.now();", "reaches for Date.now on line 1"],
    ["grpc/a.ts", "\nconst t = performance.now;", "reaches for performance.now on line 2"],
    ["grpc/a.ts", "globalThis.setTimeout(() => {}, 1);", "reaches for setTimeout"],
    ["grpc/a.ts", "const later = { setTimeout };", "reaches for setTimeout"],
    ["grpc/a.ts", "setInterval(() => {}, 1);", "reaches for setInterval"],
    ["grpc/a.ts", "setImmediate(() => {});", "reaches for setImmediate"],
    ["grpc/a.ts", "const chance = Math.random;", "reaches for Math.random"],
    ["grpc/a.ts", "const today = new Date();", "reaches for new Date()"],
    ["grpc/a.ts", "AbortSignal.timeout(5);", "reaches for AbortSignal.timeout"],
    ["grpc/a.ts", 'import "node:timers/promises";', "reaches for node:timers/promises"],
    ["core/pause.ts", "Date.now();", "reaches for Date.now"],
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
    ["core/clock.ts", "export const chance = () => Math.random();"],
    ["grpc/a.ts", 'import { b } from "../core/b.js"; import { c } from "../gen/c.js";'],
    ["policies/retry/server.ts", 'import { AsyncLocalStorage } from "node:async_hooks";'],
    [
      "policies/retry/client-a.ts",
      'import { b } from "./client-b.js"; import { c } from "./c.js";',
    ],
    ["policies/retry/client.ts", 'import { b } from "../idempotency/b.js";'],
    ["pipeline/a.ts", 'import { b } from "../policies/breaker/client.js";'],
    ["telemetry/a.ts", 'import { trace } from "@opentelemetry/api";'],
    ["otel.ts", 'export type { Tracer } from "@opentelemetry/api";'],
    ["weir.ts", 'import { retry } from "./policies/retry/client.js"; import "@opentelemetry/api";'],
    ["index.ts", 'export { createWeir } from "./weir.js";'],
  ])("has nothing against %s: %j", (file, source) => {
    expect(violations(file, source, pkg)).toEqual([]);
  });
});
