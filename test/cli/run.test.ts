import { describe, expect, it } from "vitest";
import { run } from "../../src/cli/run.js";

async function runWith(...args: string[]) {
  let stdout = "";
  let stderr = "";
  const code = await run(args, {
    stdout: {
      write: (text) => {
        stdout += text;
      },
    },
    stderr: {
      write: (text) => {
        stderr += text;
      },
    },
    once: () => {},
    removeListener: () => {},
  });
  return { code, stdout, stderr };
}

describe("grpc-weir", () => {
  it.each([["--help"], ["-h"], ["view", "--help"], ["view", "-h"]])(
    "%s %s shows the usage",
    async (...args) => {
      const { code, stdout, stderr } = await runWith(...args.filter((arg) => arg !== undefined));
      expect(stdout).toContain("Usage: grpc-weir view [options]");
      expect(stderr).toBe("");
      expect(code).toBe(0);
    },
  );

  it.each([
    [[], "a command is missing"],
    [["show"], "there is no command show"],
    [["view", "traces"], "view takes options only, not traces"],
    [["view", "--prot", "1"], "unknown option '--prot'"],
    [["view", "--port"], "argument missing"],
    [["view", "--port", "many"], '--port is a port from 0 to 65535, not "many"'],
    [["view", "--port", "65536"], '--port is a port from 0 to 65535, not "65536"'],
    [["view", "--port="], '--port is a port from 0 to 65535, not ""'],
    [["view", "--otlp-grpc-port", "1.5"], "--otlp-grpc-port is a port"],
    [["view", "--otlp-http-port=-1"], "--otlp-http-port is a port"],
  ])("%j is refused, with the usage", async (args, why) => {
    const { code, stdout, stderr } = await runWith(...args);
    expect(stderr).toContain(why);
    expect(stderr).toContain("Usage:");
    expect(stdout).toBe("");
    expect(code).toBe(2);
  });
});
