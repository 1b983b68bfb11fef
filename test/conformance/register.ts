import { describe, it } from "vitest";
import { type ConformanceSubject, conformance } from "../../src/testing/conformance/conformance.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { loopbackTransport } from "../../src/testing/loopback/loopback.js";
import type { Transport } from "../../src/testing/transport.js";
import { replayable } from "../replay.js";

type Subjects = Readonly<Record<string, ConformanceSubject>>;

/** The cases for each subject, in virtual time. */
export function inMemory(subjects: Subjects): void {
  describe("in memory", () => {
    describe.each(Object.entries(subjects))("%s", (_name, subject) => {
      casesOf(subject, inMemoryTransport);
    });
  });
}

/** The same cases over sockets: transports agree if a subject passes both. */
export function overLoopback(subjects: Subjects): void {
  describe("over loopback", () => {
    describe.each(Object.entries(subjects))("%s", (_name, subject) => {
      casesOverLoopback(subject);
    });
  });
}

export function casesOf(subject: ConformanceSubject, makeTransport: () => Transport): void {
  for (const each of conformance(subject, makeTransport)) {
    it(each.name, ({ task }) => replayable(() => each.run(), undefined, task));
  }
}

/**
 * Cases that wait for a deadline sleep, and do so side by side. An error that reaches nobody but the process fails all
 * that run then.
 */
export function casesOverLoopback(subject: ConformanceSubject): void {
  for (const each of conformance(subject, loopbackTransport)) {
    const register = /\bdeadline\b/.test(each.name) ? it.concurrent : it;
    register(each.name, ({ task }) => replayable(() => each.run(), undefined, task));
  }
}
