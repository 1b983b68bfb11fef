import type { SpanEvent } from "../../../src/viewer/api.js";
import { formatMs } from "../format.js";
import { decisionEvent, names } from "./names.js";
import { textOf } from "./tree.js";

/** The shape of a mark on a bar. */
export type MarkShape = "reject" | "retry" | "hedge" | "queue" | "other" | "event";

const shapes: Readonly<Record<string, MarkShape>> = {
  reject: "reject",
  expire: "reject",
  retry: "retry",
  hedge: "hedge",
  queue: "queue",
};

/** What a verdict says of a call. */
const verbs: Readonly<Record<string, string>> = {
  queue: "lets it wait",
  reject: "refuses it",
  retry: "retries",
  hedge: "hedges",
  stop: "tries no more",
  expire: "ends it late",
  cancel: "cancels it",
  skip: "skips",
  inject: "injects a fault",
};

export function isDecision({ name }: SpanEvent): boolean {
  return name === decisionEvent;
}

export function shapeOf(event: SpanEvent): MarkShape {
  if (!isDecision(event)) return "event";
  const verdict = textOf(event.attributes[names.decisionVerdict]) ?? "";
  return shapes[verdict] ?? "other";
}

/** The policy said what it would have done, and did nothing. */
export function isObserved({ attributes }: SpanEvent): boolean {
  return attributes[names.decisionEnforced] === false;
}

/** An event in one line: `bulkhead lets it wait, 12 ms (queue 3 of 10)`. */
export function eventWords(event: SpanEvent): string {
  if (!isDecision(event)) {
    const message = textOf(event.attributes["exception.message"]);
    return message === undefined ? event.name : `${event.name}: ${message}`;
  }
  const { attributes } = event;
  const policy = textOf(attributes[names.decisionPolicy]) ?? "a policy";
  const verdict = textOf(attributes[names.decisionVerdict]) ?? "decides";
  const reason = textOf(attributes[names.decisionReason]);
  const waitMs = attributes[names.decisionWaitMs];
  const detail = textOf(attributes[names.decisionDetail]);
  return [
    `${policy} ${verbs[verdict] ?? verdict}`,
    reason === undefined ? "" : `: ${reason}`,
    typeof waitMs === "number" ? `, ${formatMs(waitMs)}` : "",
    detail === undefined ? "" : ` (${detail})`,
    isObserved(event) ? ", observed only" : "",
  ].join("");
}
