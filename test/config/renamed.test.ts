import { describe, expect, it } from "vitest";
import { PolicyDocumentError } from "../../src/config/document.js";
import { meaningOf, messageNamed } from "../../src/config/schema.js";
import { objectSource } from "../../src/config/source.js";
import { renamedOptions } from "../../src/core/renamed-options.js";
import { createWeir } from "../../src/weir.js";

const messages = [
  "Throttle",
  "Feasibility",
  "Fairness",
  "Pressure",
  "Resets",
  "StaleCache",
  "GuardPolicy",
];

describe("an option that had another name once", () => {
  it.each<[string, object, string]>([
    ["client", { throttle: { minRequests: 5 } }, "called minCalls"],
    ["client", { throttle: { maxRejectRatio: 0.5 } }, "called maxRefusedShare"],
    ["client", { throttle: { probeRatio: 0.5 } }, "called passShare"],
    ["client", { resets: { perSecond: 5 } }, "called ratePerSecond"],
    ["server", { deadlineGuard: { learned: { minSamples: 5 } } }, "called minCalls"],
    ["server", { admission: { fairness: { by: "peer" } } }, "called key"],
    ["server", { admission: { fairness: { maxCallers: 5 } } }, "called maxKeys"],
    ["server", { admission: { pressure: { maxShare: 0.5 } } }, "called maxRefusedShare"],
  ])("is refused by a %s with the present name: %j", (side, policy, text) => {
    const weir = createWeir();
    const build = () => (side === "client" ? weir.client(policy) : weir.server(policy));

    expect(build).toThrow(text);
  });

  it.each<[Readonly<Record<string, unknown>>, string]>([
    [{ client: { throttle: { minRequests: 5 } } }, "minCalls"],
    [{ client: { resets: { perSecond: 5 } } }, "ratePerSecond"],
    [{ server: { admission: { fairness: { by: "peer" } } } }, "key"],
    [{ server: { admission: { pressure: { maxShare: 0.5 } } } }, "maxRefusedShare"],
    [{ guards: [{ name: "db", attemptTimeout: "1s" }] }, "timeouts.attempt"],
    [
      { client: { fallback: { staleCache: { shared: true, maxAnswerBytes: 5 } } } },
      "maxResponseBytes",
    ],
  ])("is refused in a document with the present name: %j", (document, suggestion) => {
    const problems = problemsIn(document);

    expect(problems.map((problem) => problem.suggestion)).toEqual([suggestion]);
  });

  it.each(messages)("is no option any more, and the present name is one: %s", (message) => {
    const options = messageNamed(message).fields.map((field) => meaningOf(field).option);
    const old = renamedOptions(message);
    expect(old.size).toBeGreaterThan(0);
    for (const [name, now] of old) {
      expect(options).not.toContain(name);
      expect(options).toContain(now.replace(/^called /, "").split(".")[0]);
    }
  });
});

function problemsIn(document: Readonly<Record<string, unknown>>) {
  try {
    createWeir({ policies: objectSource(document) });
  } catch (error) {
    if (error instanceof PolicyDocumentError) return error.problems;
    throw error;
  }
  return [];
}
