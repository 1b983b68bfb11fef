import { Admission } from "../../src/core/admission.js";
import {
  type AdmissionOptions,
  resolveAdmissionOptions,
} from "../../src/core/admission-options.js";
import type { Priority } from "../../src/core/priority.js";
import type { Entry, Turn } from "../../src/core/turn.js";
import { VirtualClock } from "../../src/testing/virtual-clock.js";
import { fateOf } from "./turns.js";

/** Leaves everything to the queue. */
export const noThresholds = { low: 1, normal: 1, high: 1 };

/** A call that asked to enter, and what it was told since. */
export interface AdmissionCall {
  readonly entry: Entry;
  readonly turns: readonly Turn[];
  readonly fate: string;
}

export function admissionScene(options: AdmissionOptions = {}, random: () => number = () => 0) {
  const clock = new VirtualClock();
  const admission = new Admission(resolveAdmissionOptions(options), clock, random);
  const enter = (priority: Priority = "normal", withinMs = Infinity): AdmissionCall => {
    const turns: Turn[] = [];
    const entry = admission.enter(priority, clock.now() + withinMs, (turn) => turns.push(turn));
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
