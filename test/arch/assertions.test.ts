import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { emptyTests } from "./assertions.js";

const root = fileURLToPath(new URL("..", import.meta.url));

it("every test asserts something", () => {
  const files = readdirSync(root, { recursive: true })
    .map((file) => String(file).replaceAll("\\", "/"))
    .filter((file) => file.endsWith(".ts"))
    .sort();
  const sources = new Map(files.map((file) => [file, readFileSync(join(root, file), "utf8")]));
  const empty = emptyTests(sources).map(({ file, line, name }) => `${file}:${line} ${name}`);
  expect(empty).toEqual([]);
});

describe("the search for tests without an assertion", () => {
  const found = (files: Readonly<Record<string, string>>) =>
    emptyTests(new Map(Object.entries(files))).map(({ file, line }) => `${file}:${line}`);

  it.each([
    ["that has none", 'it("x", () => { go(); });'],
    ["of a table", 'it.each([1, 2])("x %d", (n) => { go(n); });'],
    ["with a timeout", 'it("x", { timeout: 5 }, async () => { await go(); }, 5);'],
    ["under another name", 'test.concurrent("x", () => { go(); });'],
    ["that expects and says not what", 'it("x", () => { expect(go()); });'],
    ["that expects that there is something", 'it("x", () => { expect(go()).toBeDefined(); });'],
    ["that expects that nothing throws", 'it("x", () => { expect(() => go()).not.toThrow(); });'],
    ["whose helper asserts nothing", 'const help = () => go(); it("x", () => { help(); });'],
    ["whose helper calls itself", 'function help() { help(); } it("x", () => { help(); });'],
    ["that has a name", 'const body = () => go(); it("x", body);'],
  ])("finds one %s", (_which, source) => {
    expect(found({ "a.test.ts": `\n${source}` })).toEqual(["a.test.ts:2"]);
  });

  it.each([
    ["that expects", 'it("x", () => { expect(go()).toBe(1); });'],
    ["that expects a rejection", 'it("x", async () => { await expect(go()).rejects.toThrow(); });'],
    ["of a property", 'it("x", () => { fc.assert(property); });'],
    ["in what it hands over", 'it("x", () => go((n) => expect(n).toBe(1)));'],
    ["in a helper", 'function help() { expect(go()).toBe(1); } it("x", () => { help(); });'],
    [
      "in a helper's helper",
      'it("x", () => b()); const a = () => expect(1).toBe(1), b = () => a();',
    ],
    ["in a method", 'const s = { check() { expect(1).toBe(1); } }; it("x", () => s.check());'],
    [
      "in a function it hands over",
      'const a = (n) => expect(n).toBe(1); it("x", () => go().then(a));',
    ],
    ["in a body that has a name", 'const body = () => expect(go()).toBe(1); it("x", body);'],
    ["and is none of ours", 'visit("x", () => { go(); });'],
  ])("has nothing against one that asserts: %s", (_how, source) => {
    expect(found({ "a.test.ts": source })).toEqual([]);
  });

  it("follows imports to the helper that is meant", () => {
    const test = (from: string) => `import { help } from "${from}"; it("x", () => { help(); });`;
    const files = {
      "core/scene.ts": "export function help() { expect(1).toBe(1); }",
      "scene.ts": "export function help() { go(); }",
    };
    expect(found({ ...files, "core/a.test.ts": test("./scene.js") })).toEqual([]);
    expect(found({ ...files, "core/a.test.ts": test("../scene.js") })).toEqual([
      "core/a.test.ts:1",
    ]);
  });
});
