import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { readPolicies } from "../../src/lab/policies.js";
import { readScenario } from "../../src/lab/scenario.js";

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
const page = read("docs/simulate.md");

/** The first column of the table below a line that begins so, without the marks of code. */
function namesBelow(beginning: string): string[] {
  const [, rest = ""] = page.split(`\n${beginning}`);
  const [table = ""] = rest.slice(rest.indexOf("\n| ") + 1).split("\n\n");
  return table
    .split("\n")
    .slice(2)
    .flatMap((line) => [...(line.split("|")[1] ?? "").matchAll(/`([^`]+)`/g)])
    .map(([, name = ""]) => name);
}

/** The fields that the error about an unknown one names. */
function fieldsOf(at: string, value: object): string[] {
  try {
    readScenario(value, "page");
  } catch (error) {
    const message = error instanceof Error ? error.message : "";
    expect(message.startsWith(`scenario.${at}`)).toBe(true);
    return (/ options are (.*)$/.exec(message)?.[1] ?? "").split(", ");
  }
  return [];
}

const example = JSON.parse(read("examples/simulate/checkout.json"));

describe("docs/simulate.md", () => {
  it("shows the scenario and the policies of the example, which can be read", () => {
    const blocks = [...page.matchAll(/```json\n([\s\S]*?)```/g)].map(([, body]) => body);
    expect(blocks).toEqual([
      read("examples/simulate/checkout.json"),
      read("examples/simulate/fixed.json"),
    ]);
    const { incident, policies } = readScenario(example, "checkout");
    expect(incident.servers).toBe(3);
    expect(policies?.name).toBe("ours");
    const fixed = JSON.parse(read("examples/simulate/fixed.json"));
    expect(readPolicies("policies", fixed, "fixed").name).toBe("fixed");
  });

  it("has every field of a scenario, of its load and of its events", () => {
    const unknown = "?".repeat(9);
    const fields = fieldsOf(unknown, { ...example, [unknown]: 1 });
    expect(namesBelow("A scenario is a file").toSorted()).toEqual(fields.toSorted());
    const load = fieldsOf(`load.${unknown}`, {
      ...example,
      load: { ...example.load, [unknown]: 1 },
    });
    expect(namesBelow("`load`, and each").toSorted()).toEqual(load.toSorted());
    expect(namesBelow("Each of `events`")).toEqual(expect.arrayContaining(["kill", "step-clock"]));
  });

  it("has every event, and every kind of work", () => {
    const message = (value: object) => {
      try {
        readScenario(value, "page");
      } catch (error) {
        if (error instanceof Error) return /one of (.*), got/.exec(error.message)?.[1]?.split(", ");
      }
      return [];
    };
    const events = message({ ...example, events: [{ atMs: 1, event: "?" }] });
    expect(namesBelow("Each of `events`")).toEqual(expect.arrayContaining(events ?? []));
    const kinds = message({ ...example, works: { "a.B/C": { kind: "?" } } });
    const shown = [...page.matchAll(/\| `\{ "kind": "(\w+)"/g)].map(([, kind]) => kind);
    expect(shown).toEqual(kinds);
  });
});
