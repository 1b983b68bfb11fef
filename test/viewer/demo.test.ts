import { describe, expect, it } from "vitest";
import type { DemoChange, DemoState } from "../../src/viewer/api.js";
import { type Demo, RunningDemo } from "../../src/viewer/demo.js";

function setup(demo: Partial<Demo> = {}) {
  let load = 1;
  const changes: DemoChange[] = [];
  const errors: unknown[] = [];
  const running = new RunningDemo(
    {
      state: () => stateOf(load),
      change: (change) => {
        changes.push(change);
        for (const value of Object.values(change)) if (typeof value === "number") load = value;
      },
      ...demo,
    },
    (error) => errors.push(error),
  );
  return { running, changes, errors };
}

function stateOf(value: number): DemoState {
  const slider = { name: "load", label: "Load", unit: "×", min: 0, max: 5, step: 0.5, value };
  const nothing = { phase: "", running: true, ways: [], seconds: [], table: [] };
  return { title: "An incident", sliders: [slider], ...nothing };
}

const valueIn = (state: DemoState | undefined) => state?.sliders[0]?.value;

it("a state that JSON cannot say is an error of the demo", () => {
  const cyclic: { sliders: unknown[] } = { sliders: [] };
  cyclic.sliders.push(cyclic);
  for (const state of [cyclic, { sliders: [1n] }]) {
    const demo: object = { state: () => state };
    const { running, errors } = setup(demo);
    expect(running.news()).toBeUndefined();
    expect(errors).toMatchObject([expect.any(TypeError)]);
  }
});

describe("a change of the demo", () => {
  it("moves a slider, and answers with the state after it", async () => {
    const { running, changes } = setup();
    expect(valueIn(await running.change('{"load":2.5}'))).toBe(2.5);
    expect(changes).toEqual([{ load: 2.5 }]);
  });

  it("is waited for", async () => {
    const { running } = setup({ change: async () => {} });
    expect(valueIn(await running.change('{"command":"reset"}'))).toBe(1);
  });

  it.each(["start", "stop", "reset"])("may be the command %s", async (command) => {
    const { running, changes } = setup();
    await running.change(JSON.stringify({ command }));
    expect(changes).toEqual([{ command }]);
  });

  it.each([
    ["{", "no JSON"],
    ["[]", "an object"],
    ["null", "an object"],
    ['{"command":"explode"}', "one of start, stop, reset"],
    ['{"speed":1}', "no slider speed"],
    ['{"load":6}', "from 0 to 5"],
    ['{"load":-1}', "from 0 to 5"],
    ['{"load":"1"}', "from 0 to 5"],
    ['{"load":null}', "from 0 to 5"],
  ])("is refused if it is %s", async (text, why) => {
    const { running, changes } = setup();
    await expect(running.change(text)).rejects.toThrow(why);
    expect(changes).toEqual([]);
  });

  it.each([
    [
      () => {
        throw new Error("not now");
      },
    ],
    [() => Promise.reject(new Error("not now"))],
  ])("that the demo refuses says why", async (change) => {
    const { running } = setup({ change });
    await expect(running.change('{"load":1}')).rejects.toMatchObject({
      status: 400,
      message: "not now",
    });
  });
});

describe("the state of the demo", () => {
  it("is news only after it has changed", async () => {
    const { running } = setup();
    expect(valueIn(running.news())).toBe(1);
    expect(running.news()).toBeUndefined();
    await running.change('{"load":3}');
    expect(valueIn(running.news())).toBe(3);
  });

  it.each([
    [
      () => {
        throw new Error("broken");
      },
    ],
    [() => JSON.parse("7")],
  ])("that cannot be had is reported", (state) => {
    const { running, errors } = setup({ state });
    expect(running.news()).toBeUndefined();
    expect(errors).toHaveLength(1);
    expect(() => running.state()).toThrow("cannot say");
  });
});
