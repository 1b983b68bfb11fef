import { formatMs, plural } from "../format.js";
import { names } from "./names.js";
import { failed, type SpanNode, statusOf, textOf } from "./tree.js";

const waits: Readonly<Record<string, string>> = {
  queue: "in a queue",
  backoff: "between attempts",
  connection: "for a connection",
  event_loop: "for the event loop",
};

/** What became of a call, in sentences: how it ended, what its attempts did, where it waited, why it was refused. */
export function summaryOf(call: SpanNode): readonly string[] {
  const attempts = call.children.filter(({ role }) => role === "attempt");
  const status = statusOf(call.span);
  const took = formatMs(call.span.endMs - call.span.startMs);
  const reason = textOf(call.span.attributes[names.rejectionReason]);
  const sentences = [status === "OK" ? `OK in ${took}` : `${status} after ${took}`];
  if (attempts.length > 0) sentences.push(attemptsOf(attempts));
  if (reason !== undefined) {
    const by = refuserOf(call);
    sentences.push(by === undefined ? `Refused: ${reason}` : `Refused by ${by}: ${reason}`);
  }
  const waited = waitsOf(call, attempts);
  if (waited !== undefined) sentences.push(waited);
  return sentences;
}

function attemptsOf(attempts: readonly SpanNode[]): string {
  const steps: string[] = [];
  let previous: SpanNode | undefined;
  for (const attempt of attempts) {
    const { attributes, startMs, endMs } = attempt.span;
    if (previous !== undefined) {
      const delay = attributes[names.attemptDelayMs];
      const hedged = attributes[names.attemptCause] === "hedge";
      const since = hedged ? previous.span.startMs : previous.span.endMs;
      const delayMs = typeof delay === "number" ? delay : Math.max(0, startMs - since);
      steps.push(`${hedged ? "hedged" : "retried"} after ${formatMs(delayMs)}`);
    }
    const origin = textOf(attributes[names.attemptOrigin]);
    const took = formatMs(endMs - startMs);
    const status = statusOf(attempt.span);
    if (attempt.superseded) steps.push(`lost after ${took}`);
    else if (status === "OK") steps.push(`OK in ${took}`);
    else steps.push(`${status}${origin === undefined ? "" : ` (${origin})`} after ${took}`);
    previous = attempt;
  }
  return `${plural(attempts.length, "attempt")}: ${steps.join(", ")}`;
}

function refuserOf(call: SpanNode): string | undefined {
  const refusals = call.span.events.filter(({ attributes }) =>
    ["reject", "expire"].includes(textOf(attributes[names.decisionVerdict]) ?? ""),
  );
  return textOf(refusals.at(-1)?.attributes[names.decisionPolicy]);
}

function waitsOf(call: SpanNode, attempts: readonly SpanNode[]): string | undefined {
  const totals = new Map<string, number>();
  for (const { role, span } of [call, ...attempts].flatMap(({ children }) => children)) {
    if (role !== "wait") continue;
    const kind = textOf(span.attributes[names.waitKind]) ?? span.name;
    const policy = textOf(span.attributes[names.waitPolicy]);
    const where = waits[kind] ?? kind;
    // The wait between attempts is the retry's, which its words say.
    const what =
      policy === undefined || kind === "backoff" ? where : `${where} of the ${policy} policy`;
    totals.set(what, (totals.get(what) ?? 0) + span.endMs - span.startMs);
  }
  if (totals.size === 0) return undefined;
  return `Waited ${[...totals].map(([what, ms]) => `${formatMs(ms)} ${what}`).join(", ")}`;
}

/** What a screen reader says of a bar. */
export function barWords(node: SpanNode, originMs: number): string {
  const { span } = node;
  const marks = span.events.length;
  return [
    `starts at ${formatMs(span.startMs - originMs)}`,
    `takes ${formatMs(span.endMs - span.startMs)}`,
    node.superseded ? "lost to another attempt" : "",
    failed(node) ? `failed with ${statusOf(span)}` : "",
    marks === 0 ? "" : plural(marks, "event"),
  ]
    .filter((part) => part !== "")
    .join(", ");
}
