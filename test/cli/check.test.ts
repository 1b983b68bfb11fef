import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run } from "../../src/cli/run.js";
import { SchemaFiles } from "../config/schema-files.js";

async function runWith(...args: string[]) {
  const said = { stdout: "", stderr: "" };
  const to = (stream: keyof typeof said) => ({
    write: (text: string) => {
      said[stream] += text;
    },
  });
  const code = await run(["check", ...args], {
    stdout: to("stdout"),
    stderr: to("stderr"),
    once: () => {},
    removeListener: () => {},
  });
  return { code, ...said };
}

let folder: string;
const fileOf = (name: string) => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "weir-check-"));
  const files: Record<string, string> = {
    "good.yaml": "client:\n  retry: { maxAttempts: 2 }\n",
    "bad.yaml": "client:\n  retry: { maxAtempts: 2 }\n",
    "slow.yaml": "client:\n  retry: { maxAttempts: 2, backoff: { base: 1s } }\n",
    "unwise.json": '{ "client": { "retry": { "idempotent": true } } }',
    "service-config.json": JSON.stringify({
      methodConfig: [{ name: [{}], retryPolicy: { maxAttempts: 4 } }],
    }),
    "no-config.json": JSON.stringify({ methodConfig: 5 }),
  };
  for (const [name, content] of Object.entries(files)) writeFileSync(fileOf(name), content);
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("grpc-weir check", () => {
  it("says what another document changes, for people and for programs", async () => {
    const files = [fileOf("good.yaml"), fileOf("unwise.json")];
    const { code, stdout } = await runWith("--diff", ...files);

    expect(stdout.replaceAll(`${folder}/`, "")).toBe(
      `unwise.json:1 client.retry.idempotent: not given → true. It may run twice: attempts that a handler may have seen are retried
good.yaml:2 client.retry.maxAttempts: 2 → not given
`,
    );
    expect(code).toBe(1);
    const json = await runWith("--diff", ...files, "--format", "json");
    expect(JSON.parse(json.stdout)).toMatchObject({
      changes: [{ option: "client.retry.idempotent", after: true }, { before: 2 }],
    });
  });

  it("says that nothing changes", async () => {
    const { code, stdout } = await runWith("--diff", fileOf("good.yaml"), fileOf("good.yaml"));

    expect(stdout).toBe("nothing changes\n");
    expect(code).toBe(0);
  });

  it("ends with 0 where nothing is found", async () => {
    const { code, stdout } = await runWith(fileOf("good.yaml"));

    expect(stdout).toBe("1 file: nothing found\n");
    expect(code).toBe(0);
  });

  it("says what is wrong, where, and what was meant, and ends with 1", async () => {
    const { code, stdout } = await runWith(fileOf("bad.yaml"), fileOf("good.yaml"));

    expect(stdout).toMatch(
      /^error .*bad\.yaml:2:12 client\.retry\.maxAtempts is not a field; .* \(did you mean maxAttempts\?\)\n$/,
    );
    expect(code).toBe(1);
  });

  it("says what is unwise as JSON", async () => {
    const { code, stdout } = await runWith(fileOf("unwise.json"), "--format", "json");

    expect(JSON.parse(stdout)).toEqual({
      findings: [
        {
          severity: "warning",
          rule: "idempotent-for-all",
          file: fileOf("unwise.json"),
          line: 1,
          column: 26,
          path: "client.retry.idempotent",
          message: expect.stringContaining("may run twice"),
        },
      ],
    });
    expect(code).toBe(1);
  });

  it("compares with a service config", async () => {
    const config = fileOf("service-config.json");
    const { code, stdout } = await runWith(fileOf("good.yaml"), "--service-config", config);

    expect(stdout).toContain("warning [service-config-retries]");
    expect(stdout).toContain("together 8");
    expect(code).toBe(1);
  });

  it("checks the policies in schemas, and documents as they lie over them", async () => {
    const service = (options: string) => `syntax = "proto3";
package a;
import "weir/v1/options.proto";
service B { rpc C(M) returns (M) { option (weir.v1.method) = { client: { ${options} } }; } }
message M {}
`;
    const good = new SchemaFiles({ "a/b.proto": service("deadline: { default: { seconds: 1 } }") });
    const bad = new SchemaFiles({ "a/b.proto": service("retry: { max_attempts: 0 }") });
    const unwise = new SchemaFiles({
      "a/b.proto": service("hedge: { delay: { nanos: 50000000 } } retry: { idempotent: false }"),
    });
    try {
      const alone = await runWith("--descriptors", good.descriptors());
      const over = await runWith(fileOf("slow.yaml"), "--descriptors", good.descriptors());
      const refused = await runWith(fileOf("slow.yaml"), "--descriptors", bad.descriptors());
      const found = await runWith("--descriptors", unwise.descriptors());

      expect(alone.stdout).toBe("1 file: nothing found\n");
      expect(over.stdout).toMatch(
        /^warning \[backoff-exceeds-deadline\] .*slow\.yaml:2:28 client\.retry\.backoff a\.B\/C: the waits/,
      );
      expect(refused.stdout).toMatch(
        /^error a\/b\.proto:4:43 \["a\.B\/C"\]\.client\.retry\.maxAttempts must be .*\n$/,
      );
      expect(found.stdout).toMatch(/^warning \[hedge-never-made\] a\/b\.proto:4:43 \["a\.B\/C"\]/);
      expect([alone.code, over.code, refused.code, found.code]).toEqual([0, 1, 1, 1]);
    } finally {
      for (const files of [good, bad, unwise]) files.remove();
    }
  });

  it.each([
    [[], "check takes the path of a file"],
    [["--diff", "a.yaml"], "--diff takes two files"],
    [["--diff", "a.yaml", "b.yaml"], "a.yaml"],
    [["good.yaml", "--format", "xml"], "--format is text or json"],
    [["missing.yaml"], "missing.yaml: ENOENT"],
    [
      ["good.yaml", "--service-config", "no-config.json"],
      "serviceConfig.methodConfig must be an array",
    ],
    [["good.yaml", "--descriptors", "good.yaml"], "methodRegistry"],
  ])("ends with 2 for %j", async (args, problem) => {
    const { code, stderr } = await runWith(
      ...args.map((each) => (each.includes(".") ? fileOf(each) : each)),
    );

    expect(stderr).toContain(problem);
    expect(code).toBe(2);
  });

  it("explains itself", async () => {
    const { code, stdout } = await runWith("--help");

    expect(stdout).toContain("Usage: grpc-weir check [<file>...]");
    expect(code).toBe(0);
  });
});
