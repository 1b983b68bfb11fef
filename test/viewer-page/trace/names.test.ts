import { expect, it } from "vitest";
import { conventional, decisionEvent, own } from "../../../src/telemetry/attributes.js";
import * as page from "../../../viewer-page/src/trace/names.js";

it("the page reads attributes and events by the names under which they are recorded", () => {
  const recorded = new Set<string>([...Object.values(conventional), ...Object.values(own)]);
  const read = Object.values(page.names);
  expect(read.filter((name) => !recorded.has(name))).toEqual([]);
  expect(page.decisionEvent).toBe(decisionEvent);
});
