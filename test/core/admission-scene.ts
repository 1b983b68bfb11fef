import { Admission } from "../../src/core/admission.js";
import type { AdmissionCall } from "../../src/core/admission-call.js";
import {
  type AdmissionOptions,
  resolveAdmissionOptions,
} from "../../src/core/admission-options.js";
import { LoadThresholds } from "../../src/core/load-thresholds.js";
import type { Priority } from "../../src/core/priority.js";
import type { Entry, Turn } from "../../src/core/turn.js";
import { VirtualClock } from "../../src/testing/virtual-clock.js";
import { fateOf } from "./turns.js";

/** Leaves everything to the queue. */
export const noThresholds = { low: 1, normal: 1, high: 1 };

/** A call that asked to enter, and what it was told since. */
export interface EnteredCall {
  readonly entry: Entry;
  readonly turns: readonly Turn[];
  readonly fate: string;
}

/** A call of which nothing is known but its priority and its deadline. */
export function callOf(priority: Priority, deadlineMs = Infinity): AdmissionCall {
  return { priority, cohort: 0, deadlineMs, neededMs: 0 };
}

export function admissionScene(options: AdmissionOptions = {}, random: () => number = () => 0) {
  const clock = new VirtualClock();
  // What a limit that learns does has tests of its own.
  const resolved = resolveAdmissionOptions({ limit: 100, ...options });
  const admission = new Admission(resolved, clock, random, {
    shedders: resolved.thresholds === false ? [] : [new LoadThresholds(resolved.thresholds)],
  });
  const enter = (priority: Priority = "normal", withinMs = Infinity, neededMs = 0): EnteredCall => {
    const turns: Turn[] = [];
    const call = { ...callOf(priority, clock.now() + withinMs), neededMs };
    const entry = admission.enter(call, (turn) => turns.push(turn));
    return {
      entry,
      turns,
      get fate() {
        return fateOf(turns[0] ?? entry);
      },
    };
  };
  const enterMany = (count: number, priority?: Priority) =>
    Array.from({ length: count }, () => enter(priority));
  return { clock, admission, enter, enterMany };
}
