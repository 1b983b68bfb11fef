import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Client } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";

const require = createRequire(import.meta.url);
const manifest = readFileSync(new URL("../../../package.json", import.meta.url), "utf8");

describe("the versions of grpc-js that are tested", () => {
  it("begin with the oldest that is supported", () => {
    const { version }: { version: string } = require("grpc-js-oldest/package.json");
    expect(manifest).toContain(`"@grpc/grpc-js": "^${version}"`);
  });

  it("are what each project of tests says", ({ task }) => {
    const oldest: unknown = require("grpc-js-oldest");
    const isOldest = Object.is(Client, Reflect.get(Object(oldest), "Client"));
    expect(isOldest).toBe(task.file.projectName === "oldest grpc-js");
  });
});
