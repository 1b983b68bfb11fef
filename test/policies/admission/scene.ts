import type { GateAnswer, WaitResult } from "../../../src/core/permit.js";
import type { Priority } from "../../../src/core/priority.js";
import { Admission, type AdmissionCall } from "../../../src/policies/admission/admission.js";
import {
  type AdmissionOptions,
  resolveAdmissionOptions,
} from "../../../src/policies/admission/options.js";
import { LoadThresholds } from "../../../src/policies/admission/shedders.js";
import type { RampingLimit } from "../../../src/policies/limits/limit.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { fateOf } from "../../core/turns.js";

/** Leaves everything to the queue. */
export const noThresholds = { low: 1, normal: 1, high: 1 };

/** A call that asked to enter, and what it was told since. */
export interface EnteredCall {
  readonly entry: GateAnswer;
  readonly turns: readonly WaitResult[];
  readonly fate: string;
}

/** A call of which nothing is known but its priority and its deadline. */
export function callOf(priority: Priority, deadlineMs = Infinity): AdmissionCall {
  return { priority, cohort: 0, deadlineMs, neededMs: 0 };
}

export function admissionScene(
  { ramping, ...options }: AdmissionOptions & { readonly ramping?: RampingLimit } = {},
  random: () => number = () => 0,
) {
  const clock = new VirtualClock();
  // What a limit that learns does has tests of its own.
  const checked = resolveAdmissionOptions({ limit: ramping ?? 100, ...options });
  const resolved = ramping === undefined ? checked : { ...checked, makeLimit: () => ramping };
  const admission = new Admission(resolved, clock, random, {
    shedders: resolved.thresholds === false ? [] : [new LoadThresholds(resolved.thresholds)],
  });
  const enter = (priority: Priority = "normal", withinMs = Infinity, neededMs = 0): EnteredCall => {
    const turns: WaitResult[] = [];
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
