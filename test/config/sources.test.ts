import { functionSource } from "grpc-weir/config";
import { VirtualClock } from "grpc-weir/testing";
import { describe, expect, it } from "vitest";
import { attempts, weirOf } from "./told-weir.js";

describe("policies that a function gives", () => {
  it("hold when they are there, and until then the first ones", async () => {
    const clock = new VirtualClock();
    let document: unknown = attempts(4);
    const source = functionSource(async () => document, { name: "center", first: attempts(2) });
    const { now, told } = weirOf(source, clock);
    expect(now()).toBe(2);
    await clock.pass(0);
    expect(now()).toBe(4);
    expect(await source.ready).toBe(true);
    document = { client: { retry: { maxAttempts: 5 } } };
    await clock.pass(14_999);
    expect(now()).toBe(4);
    await clock.pass(1);
    expect(now()).toBe(5);
    await clock.pass(60_000);
    expect(told).toEqual([
      "client.retry.maxAttempts 2 4 center:1",
      "client.retry.maxAttempts 4 5 center",
    ]);
    expect(clock.pending.refs).toBe(0);
  });

  it("stay when the function fails or gives what is wrong, which is told once", async () => {
    const clock = new VirtualClock();
    let document: () => unknown = () => attempts(4);
    const { now, told, errors } = weirOf(
      functionSource(() => document(), { pollMs: 1_000 }),
      clock,
    );
    await clock.pass(0);
    document = () => {
      throw new Error("away");
    };
    await clock.pass(10_000);
    document = () => "client: { retyr: {} }";
    await clock.pass(10_000);
    document = () => 3;
    await clock.pass(10_000);
    document = () => undefined;
    await clock.pass(10_000);
    expect(now()).toBe(4);
    expect(told).toEqual([
      "client.retry undefined given policies:1",
      "refused policies",
      "refused policies",
      "refused policies",
    ]);
    expect(errors.map((error) => error.split("\n")[0])).toMatchObject([
      "Error: away",
      expect.stringMatching(/policies are not valid/),
      expect.stringMatching(/must be a document: text, or an object, got 3/),
    ]);
  });

  it("are asked for when a change is told, until the weir is closed", async () => {
    const clock = new VirtualClock();
    let [count, asked] = [2, 0];
    let told: (() => void) | undefined;
    const documents = {
      read: () => {
        asked += 1;
        return attempts(count);
      },
      onChange: (changed: () => void) => {
        told = changed;
        return () => {
          told = undefined;
        };
      },
    };
    const source = functionSource(documents);
    const { weir, now } = weirOf(source, clock);
    await clock.pass(0);
    count = 3;
    told?.();
    await clock.pass(0);
    expect(now()).toBe(3);
    const before = asked;
    weir.close();
    expect(told).toBeUndefined();
    await clock.pass(100_000);
    expect(asked).toBe(before);
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("are not awaited for longer than firstValuesMs", async () => {
    const clock = new VirtualClock();
    const source = functionSource(() => new Promise(() => {}), { firstValuesMs: 500 });
    weirOf(source, clock);
    await clock.pass(500);
    expect(await source.ready).toBe(false);
  });

  it.each<[() => unknown, RegExp]>([
    [
      () => functionSource(3 as never),
      /functionSource must be a function, or an object with read\(\), got 3/,
    ],
    [
      () => functionSource(() => "", { pollMS: 3 } as object),
      /pollMS is not an option; did you mean pollMs/,
    ],
    [
      () => weirOf(functionSource(() => "", { pollMs: 3 })),
      /functionSource.pollMs must be milliseconds from 100/,
    ],
    [() => weirOf(functionSource(() => "", { first: "client: 3" })), /client/],
  ])("are refused where the options are wrong (%#)", (make, message) => {
    expect(make).toThrow(message);
  });
});
