import { Metadata } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import { cohortOf } from "../../../src/core/priority.js";
import { prioritized, withPriority } from "../../../src/grpc/context/ambient-priority.js";
import { currentCall } from "../../../src/grpc/context/inbound-call.js";
import {
  googleCriticality,
  type PrioritizedCall,
  type PriorityOptions,
} from "../../../src/grpc/server/priority.js";
import { echo, handlers, kinds, path, scene } from "../../scene.js";

/** What a server makes of a call with this metadata. */
async function read(priority: PriorityOptions, metadata: Record<string, string> = {}) {
  const errors: unknown[] = [];
  let seen: { priority: string; cohort: number } | undefined;
  const { call, weir } = await scene({
    server: { priority },
    handlers: {
      ...echo,
      unary(request, callback) {
        const { priority: said = "none", cohort = -1 } = currentCall() ?? {};
        seen = { priority: said, cohort };
        echo.unary(request, callback);
      },
    },
    onError: (error) => errors.push(error),
  });
  const sent = new Metadata();
  for (const [key, value] of Object.entries(metadata)) sent.set(key, value);
  await call("unary", {}, sent);
  return { ...seen, errors: errors.length, weir };
}

describe("the priority of an inbound call", () => {
  it.each([
    ["nothing", {}, "normal"],
    ["a priority", { "x-request-priority": "critical" }, "critical"],
    ["something else", { "x-request-priority": "CRITICAL" }, "normal"],
  ])("is read from %s", async (_what, metadata, expected) => {
    expect((await read({}, metadata)).priority).toBe(expected);
  });

  it.each([
    ["CRITICAL_PLUS", "critical"],
    ["CRITICAL", "high"],
    ["SHEDDABLE_PLUS", "normal"],
    ["SHEDDABLE", "low"],
    ["critical", "low"],
    ["toString", "low"],
  ])("is read from Google's criticality %s by an explicit map", async (value, expected) => {
    const options = { key: "x-criticality", map: googleCriticality, default: "low" } as const;
    expect((await read(options, { "x-criticality": value })).priority).toBe(expected);
  });

  it("may be mapped by a function; one that throws or answers nonsense maps nothing", async () => {
    const map = (value: string) => {
      if (value === "0") return "critical";
      if (value === "1") return "urgent" as "high";
      throw new Error("what?");
    };
    const said = (value: string) => read({ key: "tier", map }, { tier: value });
    expect((await said("0")).priority).toBe("critical");
    expect(await said("1")).toMatchObject({ priority: "normal", errors: 0 });
    expect(await said("2")).toMatchObject({ priority: "normal", errors: 1 });
  });

  it("is fixed for a method or a service, whatever the caller says", async () => {
    const low = { "x-request-priority": "low" };
    const method = { [path.unary.slice(1)]: "critical" } as const;
    expect((await read({ methods: method }, low)).priority).toBe("critical");
    expect((await read({ methods: { "weir.v1.ConformanceService": "high" } }, low)).priority).toBe(
      "high",
    );
  });

  it("is that of the method, or of its service, for calls that name none", async () => {
    const methodDefaults = {
      [path.unary.slice(1)]: "critical",
      "weir.v1.ConformanceService": "high",
      "weir.v1.Other": "low",
    } as const;
    const service = { "weir.v1.ConformanceService": "high" } as const;
    expect((await read({ methodDefaults })).priority).toBe("critical");
    expect((await read({ methodDefaults: service, default: "low" })).priority).toBe("high");
    expect((await read({ methodDefaults }, { "x-request-priority": "low" })).priority).toBe("low");
    expect((await read({ methodDefaults, methods: service })).priority).toBe("high");
    expect((await read({ methodDefaults: { "weir.v1.Other": "low" } })).priority).toBe("normal");
  });

  it.each([
    ["critical", "normal"],
    ["high", "normal"],
    ["normal", "normal"],
    ["low", "low"],
  ])("of %s is %s from a caller who is not trusted", async (said, expected) => {
    const seen: PrioritizedCall[] = [];
    const trust = (call: PrioritizedCall) => {
      seen.push(call);
      return false;
    };
    expect((await read({ trust }, { "x-request-priority": said })).priority).toBe(expected);
    expect(seen[0]).toMatchObject({ method: path.unary });
    expect(seen[0]).toHaveProperty("authContext");
  });

  it("is not believed when the question of trust throws", async () => {
    const trust = () => {
      throw new Error("no idea");
    };
    const answer = await read({ trust }, { "x-request-priority": "critical" });
    expect(answer).toMatchObject({ priority: "normal", errors: 1 });
  });
});

describe("what callers say of priorities and does not count", () => {
  it("is counted for each server: what is none, and what is more than they may", async () => {
    const trust = () => false;
    const counted = async (said: string) =>
      (await read({ trust }, { "x-request-priority": said })).weir.snapshot().priorities;
    expect(await counted("CRITICAL")).toEqual([{ invalid: 1, clamped: 0 }]);
    expect(await counted("critical")).toEqual([{ invalid: 0, clamped: 1 }]);
    expect(await counted("low")).toEqual([{ invalid: 0, clamped: 0 }]);
  });
});

describe("the cohort of an inbound call", () => {
  it("is that of its tenant in this hour, and the same in every service", async () => {
    const { cohort } = await read({ cohort: "x-tenant" }, { "x-tenant": "acme" });
    const again = await read(
      { cohort: ({ metadata }) => String(metadata.get("t")[0]) },
      { t: "acme" },
    );
    expect(again.cohort).toBe(cohort);
  });

  it.each(["128", "-1", "1.5", "007x", ""])("takes %j for none", async (value) => {
    const { cohort = -1 } = await read({}, { "x-request-cohort": value });
    expect(cohort).toBeGreaterThanOrEqual(0);
    expect(cohort).toBeLessThan(128);
  });

  it("is what a trusted caller says, and only a trusted one", async () => {
    const sent = { "x-request-cohort": "17", "x-tenant": "acme" };
    expect((await read({ cohort: "x-tenant" }, sent)).cohort).toBe(17);
    const untrusted = await read({ cohort: "x-tenant", trust: () => false }, sent);
    expect(untrusted.cohort).toBe(
      (await read({ cohort: "x-tenant" }, { "x-tenant": "acme" })).cohort,
    );
  });

  it("spreads tenants evenly, and moves them every hour", () => {
    const counts = Array.from({ length: 128 }, () => 0);
    let moved = 0;
    for (let tenant = 0; tenant < 12_800; tenant += 1) {
      const cohort = cohortOf(`tenant-${tenant}`, 1_764_000_000_000);
      counts[cohort] = (counts[cohort] ?? 0) + 1;
      const next = cohortOf(`tenant-${tenant}`, 1_764_000_000_000 + 3_600_000);
      if (next !== cohort) moved += 1;
    }
    expect(Math.min(...counts)).toBeGreaterThan(60);
    expect(Math.max(...counts)).toBeLessThan(150);
    expect(moved).toBeGreaterThan(12_500);
  });
});

describe("priorities and cohorts on their way through a service", () => {
  it("go with the calls of a handler; withPriority goes before the inbound call's", async () => {
    const seen: string[] = [];
    const note = () => {
      const { priority = "none", cohort = -1 } = currentCall() ?? {};
      seen.push(`${priority} ${cohort}`);
    };
    const below = await scene({
      server: {},
      handlers: {
        ...echo,
        unary(request, callback) {
          note();
          echo.unary(request, callback);
        },
      },
    });
    const above = await scene({
      server: {},
      handlers: {
        ...echo,
        unary(request, callback) {
          below.start("unary");
          withPriority("low", () => below.start("unary"));
          withPriority("low", () => below.start("unary", {}, prioritized("critical")));
          echo.unary(request, callback);
        },
      },
    });
    const metadata = prioritized("high");
    metadata.set("x-request-cohort", "9");
    await above.call("unary", {}, metadata);
    await below.clock.pass(1_000);
    expect(seen).toEqual(["high 9", "low 9", "critical 9"]);
  });

  it.each(kinds)("withPriority holds for %s calls outside of handlers", async (kind) => {
    const seen: unknown[] = [];
    const { start, link } = await scene({
      server: {},
      handlers: handlers((_call, answer) => {
        seen.push(currentCall()?.priority);
        answer();
      }),
    });
    const running = withPriority("critical", () => start(kind));
    expect((await link.until(running.ended, 1e9)).code).toBe(0);
    expect(seen).toEqual(["critical"]);
  });

  it("refuse what is no priority", () => {
    expect(() => prioritized("urgent" as "high")).toThrow(InvalidOptionError);
    expect(() => withPriority("urgent" as "high", () => {})).toThrow(InvalidOptionError);
  });

  it.each<[string, unknown]>([
    ["an object", {}],
    ["null", null],
    ["a Map", new Map()],
  ])("are set in metadata, and %s is none", (_what, metadata) => {
    const refused = () => prioritized("low", metadata as Metadata);
    expect(refused).toThrow(InvalidOptionError);
    expect(refused).toThrow("prioritized.metadata must be a Metadata of grpc-js, got ");
  });
});

describe("priority options", () => {
  it.each([
    ["server.priority.default", { default: "urgent" }],
    ["server.priority.key", { key: "X-Tier" }],
    ["server.priority.key", { key: "tier-bin" }],
    ["server.priority.map.A", { map: { A: "urgent" } }],
    ["server.priority.map", { map: 5 }],
    ['server.priority.methods["a.B/C"]', { methods: { "a.B/C": "urgent" } }],
    ["server.priority.trust", { trust: true }],
    ["server.priority.cohort", { cohort: 5 }],
    ["server.priority.cohort", { cohort: "Tenant" }],
    ["server.priority.trusted", { trusted: () => true }],
    ["server.priority.default", { default: null }],
    ["server.priority.key", { key: null }],
    ["server.priority.map", { map: null }],
    ["server.priority.map", { map: new Map([["A", "low"]]) }],
    ["server.priority.trust", { trust: null }],
    ["server.priority.cohort", { cohort: null }],
    ["server.priority.methods", { methods: null }],
    ["server.priority.methodDefaults", { methodDefaults: null }],
    ['server.priority.methodDefaults["a.B/C"]', { methodDefaults: { "a.B/C": "urgent" } }],
    ["server.priority.methods", { methods: new Map([["a.B/C", "low"]]) }],
    ['server.priority.methods["nonsense!!"]', { methods: { "nonsense!!": "low" } }],
    ['server.priority.methods["Say"]', { methods: { Say: "low" } }],
    ['server.priority.methods["a.B/"]', { methods: { "a.B/": "low" } }],
  ])("refuse nonsense and name %s", async (option, priority) => {
    await expect(scene({ server: { priority: priority as PriorityOptions } })).rejects.toThrow(
      expect.objectContaining({ name: "InvalidOptionError", option }),
    );
  });

  it.each<[string, Record<string, unknown>]>([
    [
      "priority.map must be a function, or an object of priorities by the values of the key",
      { map: "google" },
    ],
    ["priority.cohort must be a metadata key or a function", { cohort: 5 }],
    [
      'priority.methods["x!"] must be named pkg.Service/Method or pkg.Service',
      { methods: { "x!": "low" } },
    ],
  ])("say all that is allowed: %s", async (said, priority) => {
    await expect(scene({ server: { priority } })).rejects.toThrow(said);
  });

  it("name methods and services with a slash in front or without", async () => {
    for (const name of [path.unary, path.unary.slice(1), "/weir.v1.ConformanceService"]) {
      expect((await read({ methods: { [name]: "high" } })).priority).toBe("high");
    }
  });

  it("stand in one place", async () => {
    const server = { priority: {}, admission: { priority: {} } };
    await expect(scene({ server })).rejects.toThrow("server.admission.priority must be absent");
  });
});
