import fc from "fast-check";
import { TestRunner } from "vitest";
import { onlySeed, replayLine } from "./replay.js";

// A property that fails says how to run it again from its seed.
fc.configureGlobal({
  ...(onlySeed === undefined ? {} : { seed: onlySeed }),
  reporter(details) {
    if (!details.failed) return;
    const line = replayLine(TestRunner.getCurrentTest(), details.seed);
    throw new Error(`${fc.defaultReportMessage(details)}\n${line}`, {
      cause: details.errorInstance,
    });
  },
});
