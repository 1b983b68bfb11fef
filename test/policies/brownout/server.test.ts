import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { currentCall } from "../../../src/grpc/context/inbound-call.js";
import { context } from "../../../src/grpc/server/context.js";
import type { ServerPolicyOptions } from "../../../src/grpc/server/policy.js";
import { degradationOf } from "../../../src/grpc/status/degraded.js";
import type { ServerPolicy } from "../../../src/pipeline/server.js";
import type { AdmissionOptions } from "../../../src/policies/admission/options.js";
import { type BrownoutPolicyOptions, brownout } from "../../../src/policies/brownout/server.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { createWeir } from "../../../src/weir.js";
import { handlers, kinds, type Method, type SceneOptions, scene, startCall } from "../../scene.js";

const bare = { retry: false, breaker: false } as const;
type Options = BrownoutPolicyOptions & Pick<ServerPolicyOptions, "mode">;

/** A server whose handlers ask about these names, each twice, and note what they are told. */
async function asking(
  options: Options | undefined,
  names: readonly string[],
  more: SceneOptions & { readonly policy?: ServerPolicy } = {},
) {
  const answers: boolean[][] = [];
  const { policy = {}, ...rest } = more;
  const world = await scene({
    client: bare,
    server: options === undefined ? policy : { ...policy, brownout: options },
    handlers: handlers((_call, answer) => {
      const current = currentCall();
      const told = names.map((name) => current?.shouldSkip(name) ?? true);
      expect(names.map((name) => current?.shouldSkip(name))).toEqual(told);
      answers.push(told);
      answer();
    }),
    ...rest,
  });
  const skipped = world.decisions;
  return { ...world, answers, skipped };
}

function of(priority: string, cohort?: number): Metadata {
  const metadata = new Metadata();
  metadata.set("x-request-priority", priority);
  if (cohort !== undefined) metadata.set("x-request-cohort", String(cohort));
  return metadata;
}

describe.each(kinds)("a %s handler that asks what it can do without", (method: Method) => {
  const optional = {
    recommendations: { skipAbovePressure: 0.4, skipAllAbovePressure: 0.6 },
    reviews: { skipAbovePressure: 0.8, skipAllAbovePressure: 0.9, mark: false },
  };

  it("is told by the pressure, once for each call", async () => {
    let pressure = 0.3;
    let asked = 0;
    const world = await asking(
      {
        optional,
        pressure: () => {
          asked += 1;
          return pressure;
        },
      },
      ["recommendations", "reviews"],
    );
    await world.call(method);
    expect(asked).toBe(2);
    pressure = 0.7;
    await world.call(method);
    pressure = 0.95;
    await world.call(method);
    expect(world.answers).toEqual([
      [false, false],
      [true, false],
      [true, true],
    ]);
    expect(world.skipped).toMatchObject([
      {
        policy: "brownout",
        verdict: "skip",
        reason: "BROWNOUT_PRESSURE",
        enforced: true,
        side: "server",
        detail: "recommendations: pressure 0.70, 100 % of normal calls skip it",
      },
      { detail: "recommendations: pressure 0.95, 100 % of normal calls skip it" },
      { detail: "reviews: pressure 0.95, 100 % of normal calls skip it" },
    ]);
    expect(world.weir.policy("brownout").snapshot()).toEqual([
      {
        name: "server",
        pressure: 0.95,
        optional: {
          recommendations: { asked: 3, skippedByFlag: 0, skippedByPressure: 2 },
          reviews: { asked: 3, skippedByFlag: 0, skippedByPressure: 1 },
        },
      },
    ]);
  });

  it("tells its caller what it has left out, where that is wanted", async () => {
    const world = await asking({ optional, pressure: () => 1 }, ["recommendations", "reviews"]);
    const ended = await world.call(method);
    expect(ended.code).toBe(Status.OK);
    expect(degradationOf(ended.trailers)).toMatchObject([
      { source: "handler", name: "recommendations" },
    ]);
  });

  it("is told the same for the same name as long as the call lasts", async () => {
    let pressure = 1;
    const answers: (boolean | undefined)[] = [];
    const world = await scene({
      client: bare,
      server: { brownout: { optional, pressure: () => pressure } },
      handlers: handlers((_call, answer) => {
        const current = currentCall();
        answers.push(current?.shouldSkip("recommendations"));
        pressure = 0;
        world.clock.schedule(100, () => {
          answers.push(current?.shouldSkip("recommendations"), current?.shouldSkip("reviews"));
          answer();
        });
      }),
    });
    await world.call(method);
    expect(answers).toEqual([true, true, false]);
    expect(world.decisions).toHaveLength(1);
  });

  it("goes by a flag first: off for all, or on whatever the pressure", async () => {
    const flags = new Map([
      ["recommendations", false],
      ["reviews", true],
    ]);
    const seen: string[] = [];
    const world = await asking(
      {
        optional,
        pressure: () => 1,
        flag: (name, { priority }) => {
          seen.push(`${name} ${priority}`);
          return flags.get(name);
        },
      },
      ["recommendations", "reviews"],
    );
    await world.call(method, {}, of("critical"));
    flags.delete("reviews");
    await world.call(method, {}, of("critical"));
    expect(world.answers).toEqual([
      [true, false],
      [true, true],
    ]);
    expect(world.skipped.map(({ reason, detail }) => [reason, detail])).toEqual([
      ["BROWNOUT_FLAG", "recommendations: off"],
      ["BROWNOUT_FLAG", "recommendations: off"],
      ["BROWNOUT_PRESSURE", "reviews: pressure 1.00, 100 % of critical calls skip it"],
    ]);
    expect(seen.slice(0, 2)).toEqual(["recommendations critical", "reviews critical"]);
  });

  it("leaves nothing out while the policy only observes, and the decisions say what it would have", async () => {
    const world = await asking({ optional, pressure: () => 1, mode: "observe" }, [
      "recommendations",
    ]);
    const ended = await world.call(method);
    expect(world.answers).toEqual([[false]]);
    expect(degradationOf(ended.trailers)).toEqual([]);
    expect(world.skipped).toMatchObject([{ verdict: "skip", enforced: false }]);
    world.weir.policy("brownout").mode = "off";
    await world.call(method);
    expect(world.skipped).toHaveLength(1);
    world.weir.policy("brownout").mode = "enforce";
    await world.call(method);
    expect(world.answers.at(-1)).toEqual([true]);
  });

  it("leaves nothing out without the policy", async () => {
    const world = await asking(undefined, ["recommendations"]);
    await world.call(method);
    expect(world.answers).toEqual([[false]]);
  });
});

describe("a brownout", () => {
  it("lets low calls go without first, and those of the same users in every server", async () => {
    const optional = { extras: { skipAbovePressure: 0, skipAllAbovePressure: 1 } };
    // Half of the way: all low calls, half of the normal ones, none of the high ones.
    const skippedBy = async (seed: number) => {
      const world = await asking({ optional, pressure: () => 0.5 }, ["extras"], { seed });
      for (const priority of ["low", "high", "critical"]) {
        await world.call("unary", {}, of(priority, 5));
      }
      for (const cohort of [0, 30, 63, 64, 100, 127]) {
        await world.call("unary", {}, of("normal", cohort));
      }
      return world.answers.flat();
    };
    const expected = [true, false, false, true, true, true, false, false, false];
    expect(await skippedBy(1)).toEqual(expected);
    expect(await skippedBy(2)).toEqual(expected);
  });

  it("lets a call go without all that is dimmed alike, or without none of it", async () => {
    const half = { skipAbovePressure: 0, skipAllAbovePressure: 1 };
    // Where the calls of cohort 64 are divided.
    const pressure = () => 0.25 + 0.5 * (64.5 / 128);
    const world = await asking({ optional: { one: half, other: half }, pressure }, [
      "one",
      "other",
    ]);
    for (let call = 0; call < 40; call++) await world.call("unary", {}, of("normal", 64));
    expect(world.answers.filter(([one, other]) => one !== other)).toEqual([]);
    expect(new Set(world.answers.map(([one]) => one))).toEqual(new Set([true, false]));
  });

  it("goes by the pressure where a flag answers what is no answer", async () => {
    for (const said of ["off", null, 0]) {
      const flag = () => said as never;
      const errors: unknown[] = [];
      const world = await asking(
        { optional: { extras: {} }, pressure: () => 1, flag },
        ["extras"],
        {
          onError: (error) => errors.push(error),
        },
      );
      await world.call("unary");
      expect(world.skipped.map(({ reason }) => reason)).toEqual(["BROWNOUT_PRESSURE"]);
      // Nothing at all is an answer: the flag does not say.
      expect(errors).toHaveLength(said === null ? 0 : 1);
    }
  });

  /** What eight calls at once are told by a server with such an admission. */
  async function toldUnder(admission: AdmissionOptions & ServerPolicyOptions) {
    const answers: (boolean | undefined)[] = [];
    const world = await scene({
      client: bare,
      server: {
        admission,
        brownout: { optional: { extras: { skipAbovePressure: 0.5, skipAllAbovePressure: 0.5 } } },
      },
      handlers: handlers((_call, answer) => {
        answers.push(currentCall()?.shouldSkip("extras"));
        world.clock.schedule(100, answer);
      }),
    });
    const calls = Array.from({ length: 8 }, () => world.start("unary"));
    await world.link.until(Promise.all(calls.map(({ ended }) => ended)));
    return answers;
  }

  it("leaves nothing out where a flag is all there is, and it has no answer", async () => {
    const errors: unknown[] = [];
    const world = await asking({ optional: { extras: {} }, flag: () => undefined }, ["extras"], {
      onError: (error) => errors.push(error),
    });
    await world.call("unary");
    expect([world.answers, errors]).toEqual([[[false]], []]);
  });

  it("goes by the load of the server's admission where nobody says otherwise", async () => {
    const answers = await toldUnder({ limit: 10, maxQueued: 0, thresholds: false });
    // The call itself counts: of ten, the sixth is more than half.
    expect(answers).toEqual([false, false, false, false, false, true, true, true]);
  });

  it("leaves nothing out for an admission that only observes", async () => {
    const answers = await toldUnder({ mode: "observe", limit: 2, maxQueued: 0 });
    expect(answers).toEqual(Array(8).fill(false));
  });

  it("goes by the pressure that admission measures too, unless that is left out", async () => {
    const optional = { extras: { skipAbovePressure: 0.5, skipAllAbovePressure: 0.5 } };
    const pressed = { signals: { pool: () => 0.9 } };
    for (const pressure of [pressed, false] as const) {
      const world = await asking({ optional }, ["extras"], { policy: { admission: { pressure } } });
      await world.call("unary");
      expect(world.answers).toEqual([[pressure !== false]]);
    }
  });

  it("tells once of a name that nobody knows, and never skips it", async () => {
    const errors: unknown[] = [];
    const world = await asking({ optional: { extras: {} }, pressure: () => 1 }, ["extra"], {
      onError: (error) => errors.push(error),
    });
    await world.call("unary");
    await world.call("unary");
    expect(world.answers).toEqual([[false], [false]]);
    expect(errors.map(String)).toEqual(['Error: No optional work is named "extra"']);
  });

  it("asks no flag about a name that nobody knows, and reports no more than a hundred of them", async () => {
    const errors: unknown[] = [];
    const asked: string[] = [];
    const names = Array.from({ length: 102 }, (_, index) => `extra-${index}`);
    const world = await asking(
      {
        optional: { extras: {} },
        flag: (name) => {
          asked.push(name);
          return false;
        },
      },
      [...names, "extras"],
      { onError: (error) => errors.push(error) },
    );
    await world.call("unary");
    await world.call("unary");
    expect(world.answers).toEqual(Array(2).fill([...names.map(() => false), true]));
    expect(asked).toEqual(["extras", "extras"]);
    expect(errors.map(String)).toEqual(
      names.slice(0, 100).map((name) => `Error: No optional work is named "${name}"`),
    );
  });

  it("tells a flag that asks for its own work that nothing is skipped yet", async () => {
    const told: (boolean | undefined)[] = [];
    const flag = () => {
      told.push(currentCall()?.shouldSkip("extras"));
      return false;
    };
    const world = await asking({ optional: { extras: {} }, flag }, ["extras"]);
    await world.call("unary");
    expect([told, world.answers]).toEqual([[false], [[true]]]);
  });

  it("that is switched off while a call runs asks nothing more for it", async () => {
    const world = await scene({
      client: bare,
      server: { brownout: { optional: { extras: {} }, pressure: () => 1 } },
      handlers: handlers((_call, answer) => {
        world.weir.policy("brownout").mode = "off";
        expect(currentCall()?.shouldSkip("extras")).toBe(false);
        answer();
      }),
    });
    expect((await world.call("unary")).code).toBe(Status.OK);
    expect(world.decisions).toEqual([]);
    expect(world.weir.policy("brownout").snapshot()).toMatchObject([
      { optional: { extras: { asked: 0 } } },
    ]);
  });

  it("costs a call nothing when flag or pressure throw", async () => {
    const errors: unknown[] = [];
    const broken = () => {
      throw new Error("out of order");
    };
    const world = await asking(
      { optional: { extras: {} }, pressure: broken, flag: broken },
      ["extras"],
      { onError: (error) => errors.push(error) },
    );
    expect((await world.call("unary")).code).toBe(Status.OK);
    expect(world.answers).toEqual([[false]]);
    expect(errors).toHaveLength(2);
  });

  it("stands by itself behind a context", async () => {
    const transport = inMemoryTransport();
    const { clock, random } = transport;
    let told: boolean | undefined;
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: handlers((_call, answer) => {
        told = currentCall()?.shouldSkip("extras");
        answer();
      }),
      serverInterceptors: [
        context({ clock, random }),
        brownout({ clock, random, optional: { extras: {} }, pressure: () => 1 }),
      ],
    });
    const client = link.client(ConformanceServiceClient);
    await link.until(startCall(client, "unary", {}, new Metadata()).ended);
    expect(told).toBe(true);
  });

  it.each<[unknown, string]>([
    [{ optional: { extras: {} } }, "server.brownout.pressure"],
    [{ optional: { extras: {} }, pressure: 0.5 }, "server.brownout.pressure"],
    [{ optional: { extras: {} }, flag: true }, "server.brownout.flag"],
    [{ optional: {}, flag: () => true }, "server.brownout.optional"],
    [{ optional: { extras: {} }, flag: () => true, mode: "on" }, "server.brownout.mode"],
    [{ optional: { extras: {} }, flag: () => true, from: 1 }, "server.brownout.from"],
  ])("that is %j is refused while it is built", (options, option) => {
    const build = () => createWeir().server({ brownout: options as Options });
    expect(build).toThrowError(InvalidOptionError);
    expect(build).toThrowError(expect.objectContaining({ option }));
  });
});
