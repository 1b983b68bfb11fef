import {
  type GateAnswer,
  isQueued,
  isRefusal,
  type Permit,
  type Queued,
  type Refusal,
} from "../../src/core/permit.js";

/** The permit that a call got, or the test fails. */
export function permitOf(entry: GateAnswer | undefined): Permit {
  if (entry === undefined) throw new Error("no turn yet");
  if (isQueued(entry) || isRefusal(entry)) throw new Error(`not a permit: ${entry.kind}`);
  return entry;
}

/** The refusal that a call met, or the test fails. */
export function refusalOf(entry: GateAnswer | undefined): Refusal {
  if (entry === undefined || !isRefusal(entry)) throw new Error("not a refusal");
  return entry;
}

/** The place in the queue that a call got, or the test fails. */
export function queuedOf(entry: GateAnswer | undefined): Queued {
  if (entry === undefined || !isQueued(entry)) throw new Error("not queued");
  return entry;
}

/** What became of a call, in a word. */
export function fateOf(entry: GateAnswer): string {
  if (isQueued(entry)) return "queued";
  return isRefusal(entry) ? entry.reason : "admitted";
}
