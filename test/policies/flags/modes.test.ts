import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { controlledNames, type Mode, modes, PolicyControl } from "../../../src/core/control.js";
import { staticFlags } from "../../../src/policies/flags/source.js";
import { createWeir } from "../../../src/weir.js";
import { handlers, scene } from "../../scene.js";

/** A policy that has a mode, and nothing else. */
function policy(mode: Mode) {
  return { mode, snapshot: () => ({}), reconfigure: () => {} };
}

describe("the mode of a policy", () => {
  it("is that of its flag, else that which was set by hand, else that of its options", () => {
    const control = new PolicyControl("breaker");
    const [first, second] = [policy("observe"), policy("enforce")];
    control.add(first, "catalog");
    control.add(second, "orders");
    const flagged = new Map<string, Mode>();
    const apply = () =>
      control.follow((_name, builtFor = "") => flagged.get(builtFor) ?? flagged.get("all"));
    const now = () => [first.mode, second.mode];
    apply();
    expect(now()).toEqual(["observe", "enforce"]);
    flagged.set("orders", "off");
    apply();
    expect(now()).toEqual(["observe", "off"]);
    control.mode = "enforce";
    expect(now()).toEqual(["enforce", "off"]);
    flagged.set("all", "observe");
    apply();
    expect(now()).toEqual(["observe", "off"]);
    flagged.clear();
    apply();
    expect(now()).toEqual(["enforce", "enforce"]);
  });

  it("comes back to that of its options, each to its own, when the flag goes away", () => {
    const control = new PolicyControl("breaker");
    const policies = modes.map((mode) => policy(mode));
    for (const each of policies) control.add(each, "client");
    control.follow(() => "off");
    expect(policies.map(({ mode }) => mode)).toEqual(["off", "off", "off"]);
    control.follow(() => undefined);
    expect(policies.map(({ mode }) => mode)).toEqual([...modes]);
  });

  it("holds for policies that are built while the flag is set", () => {
    const control = new PolicyControl("breaker");
    control.follow(() => "observe");
    const late = policy("enforce");
    control.add(late, "client");
    expect(late.mode).toBe("observe");
    expect(control.mode).toBe("observe");
    control.follow(() => undefined);
    expect(late.mode).toBe("enforce");
    expect(control.mode).toBe("enforce");
  });
});

describe("a flag", () => {
  it.each(controlledNames)("sets the mode of %s in a weir, and gives it back", (name) => {
    const flags = staticFlags();
    const weir = createWeir({ flags });
    const before = weir.policy(name).mode;
    flags.set(`mode.${name}`, "off");
    expect(weir.policy(name).mode).toBe("off");
    flags.unset(`mode.${name}`);
    expect(weir.policy(name).mode).toBe(before);
  });

  it("switches a limit of a server from refusing to observing while calls come", async () => {
    const flags = staticFlags();
    const world = await scene({
      client: { retry: false, breaker: false },
      server: { bulkhead: { maxConcurrent: 1, maxQueued: 0 } },
      flags,
      handlers: handlers((_call, answer) => void world.clock.schedule(50, answer)),
    });
    const two = async () => {
      const calls = [world.start("unary"), world.start("unary")];
      const ended = await world.link.until(Promise.all(calls.map((call) => call.ended)), 1e9);
      return ended.map(({ code }) => code);
    };
    expect(await two()).toEqual([Status.OK, Status.RESOURCE_EXHAUSTED]);
    flags.set("mode.bulkhead.server", "observe");
    expect(await two()).toEqual([Status.OK, Status.OK]);
    flags.set("mode.bulkhead.other", "off");
    flags.unset("mode.bulkhead.server");
    expect(await two()).toEqual([Status.OK, Status.RESOURCE_EXHAUSTED]);
    expect(world.weir.observed()).toMatchObject({ bulkhead: { BULKHEAD_FULL: { refused: 1 } } });
  });

  it("reaches one method of a named client, and the policies of a guard by its name", async () => {
    const flags = staticFlags({
      "mode.bulkhead.catalog weir.v1.ConformanceService/Unary": "off",
      "mode.bulkhead.db": "off",
    });
    const bulkhead = { maxConcurrent: 1, maxQueued: 0 };
    const world = await scene({
      client: {
        name: "catalog",
        retry: false,
        breaker: false,
        bulkhead,
        methods: { "weir.v1.ConformanceService/Unary": { bulkhead } },
      },
      flags,
      handlers: handlers((_call, answer) => void world.clock.schedule(50, answer)),
    });
    const two = async (method: "unary" | "serverStream") => {
      const calls = [world.start(method), world.start(method)];
      const ended = await world.link.until(Promise.all(calls.map((call) => call.ended)), 1e9);
      return ended.map(({ code }) => code);
    };
    expect(await two("unary")).toEqual([Status.OK, Status.OK]);
    expect(await two("serverStream")).toEqual([Status.OK, Status.RESOURCE_EXHAUSTED]);
    const guard = world.weir.guard("db", { bulkhead });
    const never = new Promise<never>(() => {});
    const runs = async () => {
      void guard.run(() => never);
      return guard.run(() => "ran").catch(({ reason }: { reason: string }) => reason);
    };
    expect(await runs()).toBe("ran");
    flags.unset("mode.bulkhead.db");
    expect(await runs()).toBe("BULKHEAD_FULL");
  });

  it("that makes no sense leaves the mode of the options, and is reported once", async () => {
    const errors: unknown[] = [];
    const flags = staticFlags({ "mode.retry": "observ" });
    const weir = createWeir({ flags, onError: (error) => void errors.push(error) });
    weir.client({ retry: { mode: "observe" } });
    weir.client({});
    expect(weir.policy("retry").mode).toBe("observe");
    expect(errors).toHaveLength(1);
    expect(String(errors[0])).toMatch(/mode\.retry must be one of enforce, observe, off/);
  });
});
