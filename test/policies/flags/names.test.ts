import { describe, expect, it } from "vitest";
import { controlledNames } from "../../../src/core/control.js";
import {
  flagKind,
  killFlags,
  modeFlag,
  readFlagValue,
  skipFlag,
} from "../../../src/policies/flags/names.js";

describe("the name of a flag", () => {
  it("that switches a method off is that of all calls, of its service, or its own", () => {
    expect(killFlags("/shop.v1.Orders/Place")).toEqual([
      "kill",
      "kill.shop.v1.Orders",
      "kill.shop.v1.Orders/Place",
    ]);
  });

  it.each([
    ["kill", "kill"],
    ["kill.shop.v1.Orders", "kill"],
    ["kill.shop.v1.Orders/Place", "kill"],
    ["kill.Orders/Place", "kill"],
    [skipFlag("recommendations"), "skip"],
    [skipFlag("a.b_c-d"), "skip"],
    ...controlledNames.map((name) => [modeFlag(name), "mode"]),
    [modeFlag("breaker", "catalog shop.v1.Orders/Place"), "mode"],
  ])("%s is one that the toolkit has", (name, kind) => {
    expect(flagKind(name)).toMatchObject({ kind });
  });

  it.each([
    ["", /a flag is called/],
    ["killl", /a flag is called/],
    ["kil.shop.v1.Orders", /a flag is called/],
    ["kill.", /a service/],
    ["kill.shop.v1.Orders/", /a service/],
    ["kill./shop.v1.Orders/Place", /a service/],
    ["kill.a b", /a service/],
    ["skip", /optional work/],
    ["skip.a/b", /optional work/],
    [`skip.${"a".repeat(65)}`, /optional work/],
    ["mode", /a policy, one of retry, hedge/],
    ["mode.braker", /a policy, one of retry, hedge/],
    ["mode.breaker.", /built for/],
  ])("%j is one that it has not, and it says what would be", (name, says) => {
    expect(flagKind(name)).toMatch(says);
  });
});

it("values that people write are yes, no or a word", () => {
  expect(["true", "false", "observe", "TRUE", ""].map(readFlagValue)).toEqual([
    true,
    false,
    "observe",
    "TRUE",
    "",
  ]);
});
