import type { SpanRecord } from "./messages.js";
import type { Paint } from "./paint.js";
import { attemptNumber, isWait, type Node, refusal, serviceOf, type Trace } from "./traces.js";

const serviceWidth = 10;
const nameWidth = 28;
const barWidth = 20;

interface Row {
  readonly service: string;
  readonly name: string;
  readonly bar: string;
  readonly ms: number;
  readonly note: string;
}

/** A bar over the part of the trace from one time to another. */
type Draw = (startMs: number, endMs: number, sign: string) => string;

/** A trace for a person: a line for each span, waits among them, indented by parent, with a bar over the time. */
export function waterfall(trace: Trace, paint: Paint): string {
  const { root } = trace;
  const from = root.span.startMs;
  const to = Math.max(...trace.spans.map((span) => span.endMs));
  const bar: Draw = (startMs, endMs, sign) => {
    const at = (ms: number) =>
      Math.min(barWidth, Math.max(0, Math.round(((ms - from) / (to - from)) * barWidth)));
    const begin = Math.min(at(startMs), barWidth - 1);
    const length = Math.max(1, at(endMs) - begin);
    return (" ".repeat(begin) + sign.repeat(length)).padEnd(barWidth);
  };
  const told = (note: string) => {
    if (note.startsWith("OK")) return paint.good(note);
    return /^[A-Z]|^shed/.test(note) ? paint.bad(note) : note;
  };
  const rows: Row[] = [];
  const visit = (node: Node, depth: number, parent?: SpanRecord): void => {
    const { span, children } = node;
    const { startMs, endMs } = span;
    const waits = isWait(span);
    rows.push({
      service: serviceOf(waits && parent !== undefined ? parent : span),
      name: " ".repeat(depth) + label(span),
      bar: bar(startMs, endMs, waits ? "·" : attemptNumber(span) > 0 ? "▒" : "█"),
      ms: endMs - startMs,
      note: waits && parent !== undefined ? whyWaited(span, parent) : outcome(span),
    });
    const steps = stepsOf(node, depth + 1, bar);
    for (const child of children) {
      while (steps[0] !== undefined && steps[0].atMs <= child.span.startMs) {
        rows.push(...steps.splice(0, 1));
      }
      visit(child, depth + 1, span);
    }
    rows.push(...steps);
  };
  visit(root, 0);
  return [
    `${"service".padEnd(serviceWidth)}${"span".padEnd(nameWidth)}${"time".padEnd(barWidth)}${"ms".padStart(6)}  status, and why`,
    paint.faint("█ call  ▒ attempt  · waiting"),
    ...rows.map(({ service, name, bar: drawn, ms, note }) =>
      `${service.padEnd(serviceWidth)}${name.padEnd(nameWidth)}${drawn}${ms.toFixed(0).padStart(6)}  ${told(note)}`.trimEnd(),
    ),
  ].join("\n");
}

function label(span: SpanRecord): string {
  const number = attemptNumber(span);
  if (number > 0) return `attempt ${number}: ${String(span.attributes["weir.attempt.cause"])}`;
  const method = span.name.slice(span.name.lastIndexOf("/") + 1);
  return span.kind === "server" ? `${method} (server)` : method;
}

function outcome(span: SpanRecord): string {
  const { attributes, kind } = span;
  const status = String(attributes["rpc.status_code"] ?? "");
  if (attemptNumber(span) > 0) {
    const { "weir.attempt.origin": origin } = attributes;
    return status === "OK" ? status : `${status} (${String(origin)})`;
  }
  const reason = refusal(span);
  if (kind === "server" && reason !== undefined) return `shed: ${reason}`;
  const attempts = Number(attributes["weir.call.attempts"] ?? 1);
  const priority = span.parentId === undefined ? attributes["weir.call.priority"] : undefined;
  return [
    status,
    attempts > 1 ? `${attempts} attempts` : undefined,
    priority === undefined ? undefined : `priority ${String(priority)}`,
  ]
    .filter((part) => part !== undefined)
    .join(", ");
}

interface Step extends Row {
  readonly atMs: number;
}

/** The decisions after which a call went no further, as lines of their own. Waits are spans, and say how long. */
function stepsOf({ span }: Node, depth: number, bar: Draw): Step[] {
  return span.events
    .filter(({ attributes }) => attributes["weir.decision.verdict"] === "stop")
    .map(({ atMs, attributes }) => ({
      service: serviceOf(span),
      name: `${" ".repeat(depth)}no more attempts`,
      bar: bar(atMs, atMs, "·"),
      ms: 0,
      note: String(attributes["weir.decision.reason"] ?? ""),
      atMs,
    }));
}

/** Why a call waited: what the decision says that was taken when the wait began. */
function whyWaited(wait: SpanRecord, call: SpanRecord): string {
  const decision = call.events.find(
    ({ atMs, attributes }) =>
      Math.abs(atMs - wait.startMs) < 1 && attributes["weir.decision.verdict"] === "retry",
  );
  return String(decision?.attributes["weir.decision.detail"] ?? "");
}
