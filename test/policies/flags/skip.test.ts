import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { currentCall } from "../../../src/grpc/context/inbound-call.js";
import { degradationOf } from "../../../src/grpc/status/degraded.js";
import type { ServerPolicy } from "../../../src/pipeline/server.js";
import { staticFlags } from "../../../src/policies/flags/source.js";
import { handlers, kinds, type Method, scene } from "../../scene.js";

/** A server whose handlers ask twice what they can do without, and call `between` in between. */
async function asking(names: readonly string[], server: ServerPolicy, between = () => {}) {
  const flags = staticFlags();
  const answers: boolean[][] = [];
  const world = await scene({
    client: { retry: false, breaker: false },
    server,
    flags,
    handlers: handlers((_call, answer) => {
      const ask = () => names.map((name) => currentCall()?.shouldSkip(name) ?? true);
      const told = ask();
      between();
      expect(ask()).toEqual(told);
      answers.push(told);
      answer();
    }),
  });
  return { ...world, flags, answers };
}

describe.each(kinds)("a %s handler that asks what it can do without", (method: Method) => {
  it("is told by flags, without the policy for it", async () => {
    const { flags, answers, call, decisions } = await asking(["pictures", "advice"], {});
    await call(method);
    flags.set("skip.pictures", true);
    decisions.length = 0;
    const ended = await call(method);
    expect(ended.code).toBe(Status.OK);
    expect(degradationOf(ended.trailers)).toMatchObject([{ source: "handler", name: "pictures" }]);
    flags.set("skip.pictures", false);
    await call(method);
    expect(answers).toEqual([
      [false, false],
      [true, false],
      [false, false],
    ]);
    expect(decisions[0]).toMatchObject({
      policy: "flags",
      verdict: "skip",
      reason: "BROWNOUT_FLAG",
      side: "server",
      detail: "pictures: off by the flag skip.pictures",
    });
    expect(decisions.filter(({ verdict }) => verdict === "skip")).toHaveLength(1);
  });

  it("is told the same for the same name as long as the call lasts, whatever happens to the flag", async () => {
    const toggled = { on: false };
    const world = await asking(["pictures"], {}, () => {
      toggled.on = !toggled.on;
      world.flags.set("skip.pictures", toggled.on);
    });
    await world.call(method);
    await world.call(method);
    expect(world.answers).toEqual([[false], [true]]);
  });
});

describe("a flag for optional work", () => {
  const brownout = {
    optional: { pictures: { mark: false }, advice: {} },
    pressure: () => 1,
  } as const;

  it("holds whatever the mode of the brownout, which decides where the flag is not true", async () => {
    const { flags, answers, call, weir } = await asking(["pictures", "advice"], { brownout });
    flags.set("skip.pictures", true);
    weir.policy("brownout").mode = "off";
    await call("unary");
    weir.policy("brownout").mode = "enforce";
    flags.set("skip.pictures", false);
    await call("unary");
    expect(answers).toEqual([
      [true, false],
      [true, true],
    ]);
  });

  it("marks the answer unless the brownout says not to", async () => {
    const calm = { ...brownout, pressure: () => 0 };
    const { flags, call } = await asking(["pictures", "advice"], { brownout: calm });
    flags.set("skip.pictures", true);
    expect(degradationOf((await call("unary")).trailers)).toEqual([]);
    flags.set("skip.advice", true);
    expect(degradationOf((await call("unary")).trailers)).toMatchObject([{ name: "advice" }]);
  });

  it("may name work that the brownout does not know", async () => {
    const { flags, answers, call } = await asking(["maps"], { brownout });
    await call("unary");
    flags.set("skip.maps", true);
    await call("unary");
    expect(answers).toEqual([[false], [true]]);
  });

  it("is counted in the snapshot", async () => {
    const { flags, call, weir } = await asking(["maps"], {});
    flags.set("skip.maps", true);
    await call("unary");
    await call("unary");
    expect(weir.snapshot().flags).toMatchObject({ skipped: 2, killed: 0 });
  });
});
