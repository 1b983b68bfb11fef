import { describe, expect, expectTypeOf, it } from "vitest";
import type {
  AdmissionPolicySnapshot,
  BreakersSnapshot,
  BrownoutSnapshot,
  BulkheadsSnapshot,
  ControlledName,
  DeadlineGuardSnapshot,
  FallbackSnapshot,
  FaultsSnapshot,
  FeasibilitySnapshot,
  NamedSnapshot,
  PolicySnapshot,
  PolicySnapshots,
  RateLimitSnapshot,
  RetrySnapshot,
  ThrottlesSnapshot,
} from "../../src/index.js";
import { staticValue } from "../../src/policies/fallback/client-providers.js";
import { createWeir, type Weir } from "../../src/weir.js";
import { echo, failing, payload, scene } from "../scene.js";

const unary = "weir.v1.ConformanceService/Unary";
const service = "weir.v1.ConformanceService";

/** The names of the entries that a policy has. */
const names = (weir: Weir, policy: ControlledName) =>
  weir
    .policy(policy)
    .snapshot()
    .map(({ name }) => name);

describe("the snapshot of a policy", () => {
  it("names the client, the method, the service, the server and the guard that it was built for", () => {
    const weir = createWeir();
    // Policies are held weakly: what is built stays in use until the end of the test.
    const inUse = [
      weir.client({
        throttle: {},
        methods: {
          [unary]: { breaker: { minCalls: 5 } },
          [service]: { bulkhead: {}, retry: false },
        },
      }),
      weir.server({ admission: {}, quota: [{ ratePerSecond: 1 }, { ratePerSecond: 2 }] }),
      weir.guard("db", { breaker: {}, bulkhead: {} }),
    ];
    expect(names(weir, "throttle")).toEqual(["client"]);
    expect(names(weir, "breaker")).toEqual(["client", unary, "db"]);
    expect(names(weir, "bulkhead")).toEqual([service, "db"]);
    expect(names(weir, "retry")).toEqual(["client"]);
    expect(names(weir, "deadline-guard")).toEqual(["server"]);
    expect(names(weir, "feasibility")).toEqual(["server"]);
    expect(names(weir, "admission")).toEqual(["server"]);
    expect(names(weir, "quota")).toEqual(["server", "server"]);
    expect(inUse).toHaveLength(3);
  });

  it("has the name that a client or a server was given, in front of the path of a method", () => {
    const weir = createWeir();
    const inUse = [
      weir.client({ name: "catalog", methods: { [unary]: { breaker: { minCalls: 5 } } } }),
      weir.client({ name: "orders" }),
      weir.server({ name: "admin", brownout: { optional: { advice: {} }, pressure: () => 0 } }),
    ];
    expect(names(weir, "breaker")).toEqual(["catalog", `catalog ${unary}`, "orders"]);
    expect(names(weir, "brownout")).toEqual(["admin"]);
    expect(inUse).toHaveLength(3);
  });

  it.each(["", 7, null])("refuses %j as the name of a client or a server", (name) => {
    const policy = { name } as { name: string };
    expect(() => createWeir().client(policy)).toThrow("client.name must be a name");
    expect(() => createWeir().server(policy)).toThrow("server.name must be a name");
  });

  it("has its name beside the numbers, in the snapshot of the weir too", async () => {
    const { call, weir, client } = await scene({
      handlers: echo,
      client: { name: "catalog", bulkhead: {}, throttle: {} },
    });
    await call("unary");
    const target = client.getChannel().getTarget();
    const { bulkhead, throttle } = weir.snapshot().policies;
    expect(bulkhead?.instances).toMatchObject([
      { name: "catalog", bulkheads: { [target]: { admitted: 1 } } },
    ]);
    expect(throttle?.instances).toMatchObject([
      { name: "catalog", throttles: { [target]: { requests: { normal: 1 } } } },
    ]);
  });

  it("has the answers of all providers of a fallback, and those of a guard, in one field", async () => {
    const { call, weir } = await scene({
      handlers: failing(1).handlers,
      client: { retry: false, fallback: { providers: [staticValue({ payload, sequence: 1 })] } },
    });
    await call("unary");
    const guard = weir.guard("db", { fallback: { value: 1 } });
    await guard.run(() => Promise.reject(new Error("down")));
    expect(weir.policy("fallback").snapshot()).toMatchObject([
      { name: "client", answered: 1, unanswered: 0 },
      { name: "db", answered: 1, unanswered: 0, providers: {} },
    ]);
  });
});

describe("the type of a snapshot", () => {
  it("is that of its policy, with a name", () => {
    const { policies } = createWeir().snapshot();
    expectTypeOf(policies).toEqualTypeOf<PolicySnapshots>();
    expectTypeOf<Exclude<keyof PolicySnapshots, ControlledName>>().toBeNever();
    type Instances<N extends ControlledName> = NonNullable<PolicySnapshots[N]>["instances"];
    expectTypeOf<Instances<"retry">>().toEqualTypeOf<readonly NamedSnapshot<RetrySnapshot>[]>();
    expectTypeOf<Instances<"hedge">>().toEqualTypeOf<readonly NamedSnapshot<RetrySnapshot>[]>();
    expectTypeOf<Instances<"breaker">>().toEqualTypeOf<
      readonly NamedSnapshot<BreakersSnapshot>[]
    >();
    expectTypeOf<Instances<"rate">>().toEqualTypeOf<readonly NamedSnapshot<RateLimitSnapshot>[]>();
    expectTypeOf<Instances<"quota">>().toEqualTypeOf<readonly NamedSnapshot<RateLimitSnapshot>[]>();
    expectTypeOf<Instances<"throttle">>().toEqualTypeOf<
      readonly NamedSnapshot<ThrottlesSnapshot>[]
    >();
    expectTypeOf<Instances<"bulkhead">>().toEqualTypeOf<
      readonly NamedSnapshot<BulkheadsSnapshot>[]
    >();
    expectTypeOf<Instances<"deadline-guard">>().toEqualTypeOf<
      readonly NamedSnapshot<DeadlineGuardSnapshot>[]
    >();
    expectTypeOf<Instances<"feasibility">>().toEqualTypeOf<
      readonly NamedSnapshot<FeasibilitySnapshot>[]
    >();
    expectTypeOf<Instances<"admission">>().toEqualTypeOf<
      readonly NamedSnapshot<AdmissionPolicySnapshot>[]
    >();
    expectTypeOf<Instances<"fallback">>().toEqualTypeOf<
      readonly NamedSnapshot<FallbackSnapshot>[]
    >();
    expectTypeOf<Instances<"brownout">>().toEqualTypeOf<
      readonly NamedSnapshot<BrownoutSnapshot>[]
    >();
    expectTypeOf<Instances<"faults">>().toEqualTypeOf<readonly NamedSnapshot<FaultsSnapshot>[]>();
  });

  it("is the same from the control of the policy", () => {
    const weir = createWeir();
    const { breaker } = weir.snapshot().policies;
    expectTypeOf(weir.policy("breaker").snapshot()).toEqualTypeOf<
      readonly PolicySnapshot<"breaker">[]
    >();
    expectTypeOf(weir.policy("throttle").snapshot()).toEqualTypeOf<
      readonly PolicySnapshot<"throttle">[]
    >();
    expectTypeOf(weir.policy("faults").snapshot()).toEqualTypeOf<
      readonly PolicySnapshot<"faults">[]
    >();
    expectTypeOf(breaker?.instances).toEqualTypeOf<
      readonly PolicySnapshot<"breaker">[] | undefined
    >();
  });
});
