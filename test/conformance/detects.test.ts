import { AssertionError } from "node:assert";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type ConformanceCase,
  type ConformanceSubject,
  conformance,
} from "../../src/testing/conformance/conformance.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { broken } from "./broken.js";

/** What the first case to fail says. */
async function firstFailure(subject: ConformanceSubject): Promise<unknown> {
  for (const each of conformance(subject, inMemoryTransport)) {
    const failure = await failureOf(each);
    if (failure !== undefined) return failure;
  }
  return undefined;
}

async function failureOf(each: ConformanceCase): Promise<unknown> {
  try {
    await each.run();
    return undefined;
  } catch (error) {
    return error;
  }
}

describe("the conformance suite", () => {
  // A broken subject may throw where only the process sees it. The suite notices; the runner of
  // these tests must not.
  const events = ["unhandledRejection", "uncaughtException"] as const;
  let ofTheRunner: [(typeof events)[number], NodeJS.UnhandledRejectionListener][] = [];
  beforeEach(() => {
    ofTheRunner = events.flatMap((event) =>
      process
        .rawListeners(event)
        .map((listener) => [event, listener] as (typeof ofTheRunner)[number]),
    );
    for (const [event, listener] of ofTheRunner) process.off(event, listener);
  });
  afterEach(() => {
    for (const [event, listener] of ofTheRunner) process.on(event, listener);
  });

  it.each(Object.entries(broken))("fails an interceptor that %s", async (_fault, each) => {
    const failure = await firstFailure(each);
    expect(failure).toBeInstanceOf(AssertionError);
    expect(String(failure)).toMatch(each.noticed);
  });
});
