import { describe, expect, it } from "vitest";
import { conformance } from "../../src/testing/conformance/conformance.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { replayable } from "../replay.js";
import { keptSubjects } from "./server-subjects.js";

/** The cases in which a handler hears that its caller has left, before it has answered. */
const toldOfTheEnd = new Set([
  "unary: ends with an error when the server is gone before it answers",
  "unary: is cancelled while the handler has not answered",
  "unary: is cancelled once, however often the caller cancels",
  "unary: takes no harm from an answer after its cancellation",
]);

describe.each(Object.entries(keptSubjects))("%s", (_name, subject) => {
  const cases = conformance(subject, inMemoryTransport);
  const kept = cases.filter(({ name }) => !toldOfTheEnd.has(name));
  const others = cases.filter(({ name }) => toldOfTheEnd.has(name));

  for (const each of kept)
    it(each.name, ({ task }) => replayable(() => each.run(), undefined, task));

  it.each(others)("does not tell the handler that its caller has left ($name)", async (each) => {
    await expect(each.run()).rejects.toThrow(
      "timed out waiting for the end of the call at the handler",
    );
  });

  it("has all of these cases", () => {
    expect(others).toHaveLength(toldOfTheEnd.size);
  });
});
