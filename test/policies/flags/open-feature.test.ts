import { InMemoryProvider, OpenFeature } from "@openfeature/server-sdk";
import { describe, expect, it, onTestFinished } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import {
  type OpenFeatureClient,
  type OpenFeatureDetails,
  type OpenFeatureFlagsOptions,
  openFeatureFlags,
} from "../../../src/policies/flags/open-feature.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { createWeir } from "../../../src/weir.js";

type Value = boolean | string | number;

/** A flag of the in-memory provider that has this value for all. */
function constant(value: Value) {
  return { variants: { it: value }, defaultVariant: "it", disabled: false } as const;
}

function configuration(values: Readonly<Record<string, Value>>) {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, constant(value)]));
}

let domains = 0;

/** The real SDK with its in-memory provider. */
async function sdk(values: Readonly<Record<string, Value>>, options: OpenFeatureFlagsOptions = {}) {
  domains += 1;
  const domain = `flags-${domains}`;
  const provider = new InMemoryProvider(configuration(values));
  await OpenFeature.setProviderAndWait(domain, provider);
  const errors: string[] = [];
  const clock = new VirtualClock();
  const flags = openFeatureFlags(OpenFeature.getClient(domain), {
    clock,
    onError: (error, where) => void errors.push(`${where}: ${String(error)}`),
    ...options,
  });
  let told = 0;
  flags.onChange(() => {
    told += 1;
  });
  onTestFinished(async () => {
    flags.close();
    await OpenFeature.clearProviders();
  });
  const put = (next: Readonly<Record<string, Value>>) =>
    provider.putConfiguration(configuration(next));
  return { flags, clock, errors, put, told: () => told };
}

describe("flags of OpenFeature, with its SDK", () => {
  it("that are named hold for the first call", async () => {
    const { flags, errors } = await sdk(
      { "kill.shop.v1.Orders.Place": true, "mode.breaker": "observe", "mode.retry": "" },
      { names: ["kill.shop.v1.Orders/Place", "mode.breaker", "mode.retry", "kill"] },
    );
    expect(await flags.ready).toBe(true);
    expect(flags.flag("kill.shop.v1.Orders/Place")).toBe(true);
    expect(flags.flag("mode.breaker")).toBe("observe");
    expect(flags.flag("mode.retry")).toBeUndefined();
    expect(flags.flag("kill")).toBeUndefined();
    expect(errors).toEqual([]);
  });

  it("that a call needs hold a moment later, all that it needs together", async () => {
    const { flags, clock, told } = await sdk({ "kill.a.B": true, "skip.maps": true });
    await flags.ready;
    const values = () => ["kill.a.B", "skip.maps", "skip.other"].map((name) => flags.flag(name));
    expect(values()).toEqual([undefined, undefined, undefined]);
    await clock.pass(0);
    expect(values()).toEqual([true, true, undefined]);
    expect(told()).toBe(1);
  });

  it("change when the provider says so, and a flag that it has no more is not set", async () => {
    const { flags, clock, put, told } = await sdk(
      { kill: false },
      { names: ["kill", "mode.retry"] },
    );
    await flags.ready;
    put({ kill: true, "mode.retry": "off" });
    await clock.pass(0);
    expect([flags.flag("kill"), flags.flag("mode.retry")]).toEqual([true, "off"]);
    put({});
    await clock.pass(0);
    expect([flags.flag("kill"), flags.flag("mode.retry")]).toEqual([undefined, undefined]);
    expect(told()).toBeGreaterThanOrEqual(2);
    expect(flags.away).toBe(false);
  });

  it("of another type are not set, which is reported once", async () => {
    const { flags, clock, errors, put } = await sdk({ kill: "yes" }, { names: ["kill"] });
    await flags.ready;
    put({ kill: 1 });
    await clock.pass(60_000);
    expect(flags.flag("kill")).toBeUndefined();
    expect(flags.away).toBe(false);
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatch(/^openFeatureFlags: Error: kill: TYPE_MISMATCH/);
  });

  it("are called as the user wants", async () => {
    const key = (name: string) => `weir-${name.replaceAll(/[./]/g, "-")}`;
    const { flags } = await sdk({ "weir-kill-a-B": true }, { key, names: ["kill.a.B"] });
    await flags.ready;
    expect(flags.flag("kill.a.B")).toBe(true);
  });

  it("switch a weir, whose snapshot shows it", async () => {
    const { flags, clock, put } = await sdk({ "mode.breaker": "" });
    const weir = createWeir({ flags, clock });
    weir.client({});
    await clock.pass(0);
    expect(weir.policy("breaker").mode).toBe("enforce");
    put({ "mode.breaker": "observe" });
    await clock.pass(0);
    expect(weir.policy("breaker").mode).toBe("observe");
    expect(weir.snapshot().flags).toMatchObject({
      source: "openfeature",
      values: { "mode.breaker": "observe" },
    });
  });

  it("hear nothing more once they are closed", async () => {
    const { flags, clock, put, told } = await sdk({ kill: true }, { names: ["kill"] });
    await flags.ready;
    const before = told();
    flags.close();
    put({});
    await clock.pass(60_000);
    expect(flags.flag("kill")).toBe(true);
    expect(told()).toBe(before);
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });
});

type Handler = () => void;

/** A client that does what a test wants. */
function fakeClient(answer: (key: string) => Promise<OpenFeatureDetails<unknown>>) {
  const handlers = new Map<string, Handler>();
  let asked = 0;
  const details = (key: string) => {
    asked += 1;
    return answer(key) as Promise<OpenFeatureDetails<never>>;
  };
  const client: OpenFeatureClient = {
    getBooleanDetails: details,
    getStringDetails: details,
    addHandler: (event, handler) => void handlers.set(event, handler),
    removeHandler: (event) => void handlers.delete(event),
  };
  return { client, emit: (event: string) => handlers.get(event)?.(), handlers, asked: () => asked };
}

async function faked(
  answer: (key: string) => Promise<OpenFeatureDetails<unknown>>,
  options: OpenFeatureFlagsOptions = {},
) {
  const fake = fakeClient(answer);
  const clock = new VirtualClock();
  const errors: string[] = [];
  const flags = openFeatureFlags(fake.client, {
    clock,
    random: () => 0,
    names: ["kill"],
    onError: (error) => void errors.push(String(error)),
    ...options,
  });
  onTestFinished(() => flags.close());
  await clock.pass(0);
  return { ...fake, flags, clock, errors };
}

describe("flags of OpenFeature, while its provider has trouble", () => {
  it.each<[string, () => Promise<OpenFeatureDetails<unknown>>, number]>([
    ["rejects", () => Promise.reject(new Error("no network")), 1],
    [
      "throws",
      () => {
        throw new Error("no network");
      },
      1,
    ],
    [
      "answers that it is not ready",
      () => Promise.resolve({ value: false, errorCode: "PROVIDER_NOT_READY" }),
      0,
    ],
    ["answers with an error", () => Promise.resolve({ value: false, errorCode: "GENERAL" }), 1],
    ["never answers", () => new Promise(() => {}), 0],
  ])("which %s, have their last values", async (_what, trouble, reports) => {
    let answer: () => Promise<OpenFeatureDetails<unknown>> = () => Promise.resolve({ value: true });
    const { flags, clock, emit, errors } = await faked(() => answer());
    expect(flags.flag("kill")).toBe(true);
    answer = trouble;
    emit("PROVIDER_CONFIGURATION_CHANGED");
    await clock.pass(5_000);
    expect(flags.flag("kill")).toBe(true);
    expect(flags.away).toBe(true);
    expect(errors).toHaveLength(reports);
    answer = () => Promise.resolve({ value: false });
    await clock.pass(3_000);
    expect(flags.flag("kill")).toBe(false);
    expect(flags.away).toBe(false);
  });

  it("which says itself that it is stale, are away until it has changed", async () => {
    const { flags, clock, emit } = await faked(() => Promise.resolve({ value: true }));
    emit("PROVIDER_STALE");
    expect(flags.away).toBe(true);
    emit("PROVIDER_READY");
    await clock.pass(0);
    expect(flags.away).toBe(false);
  });

  it("have no value until the provider has answered, and nobody waits longer than they want", async () => {
    const { flags, clock } = await faked(() => new Promise(() => {}), { firstValuesMs: 300 });
    let ready: boolean | undefined;
    void flags.ready.then((known) => {
      ready = known;
    });
    await clock.pass(290);
    expect(ready).toBeUndefined();
    await clock.pass(20);
    expect(ready).toBe(false);
    expect(flags.flag("kill")).toBeUndefined();
  });

  it("are evaluated at intervals, once for each flag, however many calls need them", async () => {
    const { flags, clock, asked } = await faked(() => Promise.resolve({ value: true }), {
      pollMs: 10_000,
    });
    for (let n = 0; n < 1_000; n += 1) flags.flag("kill");
    expect(asked()).toBe(1);
    await clock.pass(10_100);
    expect(asked()).toBe(2);
  });

  it("that were needed once do not fill the memory", async () => {
    const { flags, clock, asked } = await faked(() => Promise.resolve({ value: false }), {
      names: [],
    });
    for (let n = 0; n < 3_000; n += 1) flags.flag(`skip.work${n}`);
    await clock.pass(0);
    expect(asked()).toBeLessThanOrEqual(1_000);
  });
});

describe("what is no client or no option", () => {
  const { client } = fakeClient(() => Promise.resolve({ value: false }));

  it.each<[OpenFeatureFlagsOptions, RegExp]>([
    [{ names: "kill" as never }, /names must be an array of names/],
    [{ names: [""] }, /names\[0\] must be a name/],
    [{ pollMs: 1 }, /pollMs must be milliseconds from 100/],
    [{ timeoutMs: 0 }, /timeoutMs must be milliseconds from 1/],
    [{ key: "x" as never }, /key must be a function/],
    [{ poll: 1 } as never, /poll is not an option/],
  ])("%j is refused", (options, says) => {
    expect(() => openFeatureFlags(client, options)).toThrow(InvalidOptionError);
    expect(() => openFeatureFlags(client, options)).toThrow(says);
  });

  it("is refused with what it lacks", () => {
    expect(() => openFeatureFlags({ ...client, getStringDetails: undefined } as never)).toThrow(
      /it has no getStringDetails\(\)/,
    );
  });
});
