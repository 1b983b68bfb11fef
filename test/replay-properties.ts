import fc from "fast-check";
import { inject, TestRunner } from "vitest";
import { onlySeed, replayLine } from "./replay.js";

declare module "vitest" {
  interface ProvidedContext {
    readonly commitSeed: number | undefined;
  }
}

const seed = onlySeed ?? inject("commitSeed");

// A property that fails says how to run it again from its seed.
fc.configureGlobal({
  ...(seed === undefined ? {} : { seed }),
  reporter(details) {
    if (!details.failed) return;
    const line = replayLine(TestRunner.getCurrentTest(), details.seed);
    throw new Error(`${fc.defaultReportMessage(details)}\n${line}`, {
      cause: details.errorInstance,
    });
  },
});
