import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { packageUnderTest, sourceRoot } from "./package-under-test.js";
import { exemptFromHelper, UserCode } from "./user-code.js";

/** The compiler reads the whole package first. */
const slow = 60_000;

describe("functions that users hand in", () => {
  let code: UserCode;

  beforeAll(() => {
    const config = fileURLToPath(new URL("../../tsconfig.json", import.meta.url));
    const entries = packageUnderTest.entries.filter((entry) => entry !== "testing.ts");
    code = new UserCode(config, sourceRoot.replace(/\/$/, ""), entries);
  }, slow);

  afterAll(() => code.close());

  it("are called through core/user-code.ts, every one of them", () => {
    const unguarded = code
      .unguarded()
      .filter(({ declared }) => !(declared in exemptFromHelper))
      .map(({ file, line, called, declared }) => `${file}:${line} calls ${called} (${declared})`);
    expect(unguarded).toEqual([]);
  });

  it.each(Object.keys(exemptFromHelper))("still need the exemption of %s", (declared) => {
    expect(code.unguarded().map((call) => call.declared)).toContain(declared);
  });

  it.each([
    "core/user-code.ts Observer",
    "policies/rate-limit/store.ts take",
    "policies/fallback/stale-cache/answer-cache.ts get",
    "policies/pressure/options.ts PressureSignal",
    "policies/pressure/options.ts read",
    "policies/limits/limit.ts record",
    "policies/bulkhead/bulkhead.ts weight",
    "policies/faults/options.ts ms",
    "grpc/client/policy.ts key",
    "policies/retry/client-policy.ts token",
    "policies/fallback/client-providers.ts when",
    "guard/options.ts GuardedWork",
    "guard/options.ts countError",
    "policies/fallback/stale-cache/client-cache.ts VaryFunction",
    "grpc/channel/options.ts partitionOf",
    "policies/brownout/server.ts flag",
    "policies/drain/server.ts setStatus",
    "pipeline/load-report.ts setQpsMetric",
    "grpc/server/priority.ts trust",
    "policies/rate-limit/server.ts key",
  ])("are known by their types: %s", (declared) => {
    expect(code.functions).toContain(declared);
  });
});

/** A package in which `use` does something with the options that a user gave. */
function unguardedIn(use: string): readonly string[] {
  const root = mkdtempSync(join(tmpdir(), "user-code-"));
  try {
    mkdirSync(join(root, "src/core"), { recursive: true });
    const write = (name: string, text: string) => writeFileSync(join(root, name), text);
    write(
      "tsconfig.json",
      JSON.stringify({
        compilerOptions: {
          strict: true,
          module: "nodenext",
          target: "es2022",
          types: [],
          noEmit: true,
        },
        include: ["src"],
      }),
    );
    write("src/package.json", JSON.stringify({ type: "module" }));
    write(
      "src/core/user-code.ts",
      "export function ask<T>(question: () => T, _more?: unknown): T | undefined { try { return question(); } catch { return undefined; } }",
    );
    write(
      "src/index.ts",
      `import { ask } from "./core/user-code.js";
       export interface Store { take(key: string): number | Promise<number> }
       export interface Options { readonly hook?: (about: string) => boolean; readonly store?: Store }
       const own = (about: string) => about === "";
       export function build(options: Options) { return use(options); }
       function asked<T>(question: () => T) { return ask(question); }
       function use(options: Options): unknown { ${use} }
       void [ask, own, asked];`,
    );
    const code = new UserCode(join(root, "tsconfig.json"), join(root, "src"), ["index.ts"]);
    try {
      return code.unguarded().map(({ declared }) => declared);
    } finally {
      code.close();
    }
  } finally {
    rmSync(root, { recursive: true });
  }
}

describe("the search for calls of users' functions", () => {
  it.each([
    ["by the name of the option", 'return options.hook?.("x");', "hook"],
    [
      "under another name",
      'const { hook: other = () => true } = options; return other("x");',
      "hook",
    ],
    ["in a function", 'const { hook } = options; return () => hook?.("x");', "hook"],
    ["in a try of its own", 'try { return options.hook?.("x"); } catch { return 1; }', "hook"],
    ["of a port", 'return options.store?.take("x");', "take"],
    [
      "kept by a class",
      'class K { #h = options.hook; go() { return this.#h?.("x"); } } return new K();',
      "hook",
    ],
    [
      "beside the helper",
      'const question = () => options.hook?.("x"); ask(() => 1); return question;',
      "hook",
    ],
    [
      "whose answer is handed to the helper",
      'return ask(options.hook as never, options.hook?.("x"));',
      "hook",
    ],
    ["in what the helper is not given", 'ask(() => 1); return options.hook?.("x");', "hook"],
  ])(
    "finds one %s",
    (_how, use, declared) => {
      expect(unguardedIn(use)).toEqual([`index.ts ${declared}`]);
    },
    slow,
  );

  it.each([
    ["handed to the helper", 'return ask(() => options.hook?.("x"));'],
    ["named first", 'const question = () => options.hook?.("x"); return ask(question);'],
    ["handed on to the helper", 'return asked(() => options.hook?.("x"));'],
    ["that are our own", 'return own("x");'],
  ])(
    "has nothing against those %s",
    (_how, use) => {
      expect(unguardedIn(use)).toEqual([]);
    },
    slow,
  );
});
