import { hostname, userInfo } from "node:os";
import { describe, expect, it } from "vitest";
import { run } from "../../src/cli/run.js";
import { CommandError } from "../../src/cli/terminal.js";
import { FakeFlagsRedis } from "../redis/fake-flags-redis.js";

/** A terminal in front of a Redis. */
function terminal({ env = {}, key }: { env?: { REDIS_URL?: string }; key?: string } = {}) {
  const redis = new FakeFlagsRedis({ wallNow: () => Date.now() }, key);
  const opened: string[] = [];
  let open = 0;
  const flag = async (...args: string[]) => {
    const written = { stdout: "", stderr: "" };
    const into = (stream: "stdout" | "stderr") => ({
      write: (text: string) => {
        written[stream] += text;
      },
    });
    const process = { once: () => {}, removeListener: () => {}, env };
    const code = await run(
      ["flag", ...args],
      { ...process, stdout: into("stdout"), stderr: into("stderr") },
      async (url) => {
        opened.push(url);
        open += 1;
        const ended = () => {
          open -= 1;
        };
        return { client: redis, close: ended };
      },
    );
    expect(open).toBe(0);
    return { code, ...written };
  };
  return { flag, redis, opened };
}

describe("grpc-weir flag", () => {
  it("sets, tells, lists and unsets", async () => {
    const { flag } = terminal();
    expect(await flag("list")).toEqual({ code: 0, stdout: "No flag is set.\n", stderr: "" });
    expect(await flag("set", "kill.shop.v1.Orders", "true", "--for", "10m")).toEqual({
      code: 0,
      stdout: "kill.shop.v1.Orders is true for 10m\n",
      stderr: "",
    });
    expect(await flag("set", "mode.breaker", "observe", "--by", "ann")).toMatchObject({
      stdout: "mode.breaker is observe, until it is unset\n",
    });
    expect(await flag("get", "mode.breaker")).toEqual({ code: 0, stdout: "observe\n", stderr: "" });
    const { stdout } = await flag("list");
    const who = `${userInfo().username}@${hostname()}`;
    const rows = stdout.split("\n").map((line) => line.split(/ {2,}/));
    expect(rows).toEqual([
      ["FLAG", "VALUE", "HOLDS", "SET BY", "SET"],
      [
        "kill.shop.v1.Orders",
        "true",
        expect.stringMatching(/^for (10m|9m 5\ds)$/),
        who,
        expect.stringMatching(/^\ds ago$/),
      ],
      ["mode.breaker", "observe", "until it is unset", "ann", expect.stringMatching(/^\ds ago$/)],
      [""],
    ]);
    expect(await flag("unset", "mode.breaker")).toMatchObject({
      code: 0,
      stdout: "mode.breaker is not set any more\n",
    });
    expect(await flag("unset", "mode.breaker")).toMatchObject({
      code: 0,
      stdout: "mode.breaker was not set\n",
    });
  });

  it("ends with 1 when it is asked for a flag that is not set", async () => {
    const { flag } = terminal();
    expect(await flag("get", "kill")).toEqual({
      code: 1,
      stdout: "",
      stderr: "grpc-weir: kill is not set\n",
    });
  });

  it("shows and removes what was set by hand under any name, and no text moves the cursor", async () => {
    const { flag, redis } = terminal();
    redis.hash = new Map([["kil\u001b[2J", "tr\u0007ue"]]);
    expect((await flag("list")).stdout).toContain("kil?[2J  tr?ue  until it is unset");
    expect((await flag("get", "kil\u001b[2J")).stdout).toBe("tr?ue\n");
    expect((await flag("unset", "kil\u001b[2J")).stdout).toBe("kil?[2J is not set any more\n");
    expect(redis.hash.size).toBe(1);
  });

  it.each([
    [[], {}, "redis://127.0.0.1:6379"],
    [[], { REDIS_URL: "redis://cache:6379" }, "redis://cache:6379"],
    [["--redis", "rediss://own:1/2"], { REDIS_URL: "redis://cache:6379" }, "rediss://own:1/2"],
  ])("with %j and %j asks the Redis at %s", async (args, env, url) => {
    const { flag, opened } = terminal({ env });
    await flag("list", ...args);
    expect(opened).toEqual([url]);
  });

  it("asks for the flags of a prefix", async () => {
    const { flag } = terminal({ key: "shop:{flags:all}" });
    expect(await flag("list", "--prefix", "shop:")).toMatchObject({ code: 0 });
  });

  it.each([
    [[], "flag takes one of list, get, set and unset"],
    [["show"], "flag takes one of list, get, set and unset, not show"],
    [["list", "kill"], "too many arguments: kill"],
    [["get"], "flag get takes the name of a flag"],
    [["get", "kill", "true"], "too many arguments: true"],
    [["unset"], "flag unset takes the name of a flag"],
    [["set"], "flag set takes the name of a flag"],
    [["set", "kill"], "flag set kill takes a value, one of true, false"],
    [["set", "kill", "yes"], 'kill is one of true, false, not "yes"'],
    [["set", "kill", "true", "now"], "too many arguments: now"],
    [["set", "mode.retry", "true"], 'mode.retry is one of enforce, observe, off, not "true"'],
    [["set", "kil.shop.v1.Orders", "true"], 'there is no flag "kil.shop.v1.Orders"'],
    [
      ["set", "mode.braker", "off"],
      'there is no flag "mode.braker": behind mode. stands a policy, one of',
    ],
    [
      ["set", "kill", "true", "--for", "10"],
      '--for is a time up to 365d, such as 90s, 10m, 2h or 1d, not "10"',
    ],
    [["set", "kill", "true", "--for", "0s"], "--for is a time"],
    [["set", "kill", "true", "--for", "366d"], "--for is a time"],
    [["set", "kill", "true", "--for", "-5m"], "option '--for"],
    [["unset", "kill", "--for", "10m"], "--for belongs to flag set"],
    [["list", "--by", "ann"], "--by belongs to flag set"],
    [
      ["list", "--redis", "127.0.0.1:6379"],
      "--redis is a URL that begins with redis:// or rediss://",
    ],
    [["list", "--prefix", "{a}"], "--prefix is a text without { and }"],
    [["list", "--redsi", "x"], "unknown option '--redsi'"],
  ])("%j is refused before anything is connected, with the usage", async (args, why) => {
    const { flag, opened } = terminal();
    const { code, stdout, stderr } = await flag(...args);
    expect(stderr).toContain(`grpc-weir: `);
    expect(stderr).toContain(why);
    expect(stderr).toContain("Usage: grpc-weir flag list");
    expect({ code, stdout, opened }).toEqual({ code: 2, stdout: "", opened: [] });
  });

  it.each([["--help"], ["-h"]])("%s shows its usage", async (option) => {
    const { flag } = terminal();
    const { code, stdout } = await flag(option);
    expect(stdout).toMatch(/^Usage: grpc-weir flag list/);
    expect(code).toBe(0);
  });

  it("says where Redis failed, without the password, and ends with 1", async () => {
    const { flag, redis } = terminal();
    redis.down = true;
    const { code, stderr } = await flag("list", "--redis", "redis://ann:secret@cache:6379");
    expect(stderr).toBe(
      "grpc-weir: Redis at cache:6379: read of the flags: connect ECONNREFUSED\n",
    );
    expect(code).toBe(1);
  });

  it("says so when it cannot connect", async () => {
    let stderr = "";
    const code = await run(
      ["flag", "list"],
      {
        stdout: { write: () => {} },
        stderr: {
          write: (text) => {
            stderr += text;
          },
        },
        once: () => {},
        removeListener: () => {},
      },
      () => Promise.reject(new CommandError(1, "no client of Redis is installed here")),
    );
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: "grpc-weir: no client of Redis is installed here\n",
    });
  });
});
