import { describe, it } from "vitest";
import { type ConformanceSubject, conformance } from "../../src/testing/conformance.js";
import { inMemoryTransport } from "../../src/testing/in-memory.js";
import { loopbackTransport } from "../../src/testing/loopback.js";

/** The same cases over both transports, for each subject: agreeing is passing both. */
export function register(subjects: Readonly<Record<string, ConformanceSubject>>): void {
  describe.each([
    ["over loopback", loopbackTransport],
    ["in memory", inMemoryTransport],
  ] as const)("%s", (_way, makeTransport) => {
    describe.each(Object.entries(subjects))("%s", (_name, subject) => {
      for (const each of conformance(subject, makeTransport)) it(each.name, () => each.run());
    });
  });
}
