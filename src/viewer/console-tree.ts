import { wholeNumber } from "../core/options.js";
import { decisionEvent, own } from "../telemetry/attributes.js";
import type { AttributeValue, SpanEvent, SpanView, TraceView } from "./api.js";
import { callOf, isAttempt, statusOf, textAt } from "./span.js";
import { type FinishedSpan, spanViewOf } from "./span-processor.js";

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md */
export interface ConsoleTreeOptions {
  /** Columns of the terminal, from 60. @defaultValue those of standard output, or 120 where it is no terminal */
  readonly width?: number;
  /** Whether to use colours. @defaultValue on a terminal that has them, unless `NO_COLOR` is set */
  readonly colors?: boolean;
}

/**
 * A trace as a waterfall for a terminal: a line for each span, indented below its parent, with a bar over the time it took,
 * and one for each decision that changed the course of a call. Spans of several traces are printed one trace after another.
 *
 * @param trace What the viewer has of a trace, or finished spans of the SDK, as from `InMemorySpanExporter`.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export function consoleTree(
  trace: TraceView | readonly (SpanView | FinishedSpan)[],
  options: ConsoleTreeOptions = {},
): string {
  const columns = process.stdout.isTTY ? process.stdout.columns : 120;
  const width = wholeNumber("consoleTree.width", options.width ?? Math.max(60, columns), 60);
  const paint = paintWith(options.colors ?? (process.stdout.isTTY && process.stdout.hasColors()));
  return viewsOf(trace)
    .filter(({ spans }) => spans.length > 0)
    .map((view) => treeOf(view, width, paint))
    .join("\n\n");
}

function viewsOf(trace: TraceView | readonly (SpanView | FinishedSpan)[]): TraceView[] {
  if ("spans" in trace) return [trace];
  const traces = new Map<string, SpanView[]>();
  for (const span of trace) {
    const view = "spanContext" in span ? spanViewOf(span) : span;
    addTo(traces, view.traceId, view);
  }
  return [...traces].map(([traceId, spans]) => ({ traceId, spans, truncated: false }));
}

function addTo(lists: Map<string, SpanView[]>, key: string, span: SpanView): void {
  const known = lists.get(key);
  if (known === undefined) lists.set(key, [span]);
  else known.push(span);
}

/** One line of the tree. */
interface Row {
  readonly service: string;
  readonly label: string;
  readonly startMs: number;
  /** Absent for what has no duration. */
  readonly endMs?: number;
  readonly sign: string;
  /** Times on the bar at which something was decided. */
  readonly marks: readonly number[];
  readonly note: string;
  readonly mood: "good" | "bad" | "faint" | "plain";
}

const signs = { span: "█", attempt: "▒", lost: "░", wait: "·", mark: "◆" } as const;
const legend = `${signs.span} call  ${signs.attempt} attempt  ${signs.lost} lost the race  ${signs.wait} waiting  ${signs.mark} decision`;

const msWidth = 9;
/** Deeper spans are not indented further. */
const maxDepth = 12;

function treeOf({ traceId, spans, truncated }: TraceView, width: number, paint: Paint): string {
  const rows = rowsOf(spans);
  const fromMs = Math.min(...spans.map(({ startMs }) => startMs));
  const toMs = Math.max(...spans.map(({ endMs }) => endMs));
  const services = new Set(spans.map(({ service }) => service)).size;
  const columns = columnsFor(rows, width, services > 1);
  const counts = [counted(spans.length, "span"), counted(services, "service")].join(", ");
  const heading = `trace ${traceId}: ${counts}, ${shownMs(toMs - fromMs)} ms`;
  const lines = rows.map((row) => {
    const { service, label, note, mood, startMs, endMs } = row;
    return [
      columns.service === 0 ? "" : paint.faint(inColumn(service, columns.service)),
      inColumn(label, columns.label),
      paint[mood](barOf(row, fromMs, toMs, columns.bar)),
      (endMs === undefined ? "" : shownMs(endMs - startMs)).padStart(msWidth),
      `  ${paint[mood](cut(note, columns.note))}`,
    ]
      .join("")
      .trimEnd();
  });
  const missing = truncated ? ["Some spans of this trace are not kept."] : [];
  return [paint.strong(heading), paint.faint(legend), ...lines, ...missing].join("\n");
}

function rowsOf(spans: readonly SpanView[]): Row[] {
  const known = new Map(spans.map((span) => [span.spanId, span]));
  const children = new Map<string, SpanView[]>();
  const roots: SpanView[] = [];
  for (const span of [...spans].sort((a, b) => a.startMs - b.startMs || b.endMs - a.endMs)) {
    const parent = span.parentSpanId === undefined ? undefined : known.get(span.parentSpanId);
    if (parent === undefined) roots.push(span);
    else addTo(children, parent.spanId, span);
  }
  const rows: Row[] = [];
  const seen = new Set<SpanView>();
  const visit = (span: SpanView, depth: number, parent?: SpanView): void => {
    if (seen.has(span)) return;
    seen.add(span);
    const indent = " ".repeat(Math.min(depth, maxDepth));
    rows.push(rowOf(span, indent, parent));
    const steps = stepsOf(span, ` ${indent}`);
    for (const child of children.get(span.spanId) ?? []) {
      while (steps[0] !== undefined && steps[0].startMs <= child.startMs) {
        rows.push(...steps.splice(0, 1));
      }
      visit(child, depth + 1, span);
    }
    rows.push(...steps);
  };
  for (const root of roots) visit(root, 0);
  // Spans that are their own ancestors have no root.
  for (const span of spans) visit(span, 0);
  return rows;
}

function rowOf(span: SpanView, indent: string, parent: SpanView | undefined): Row {
  const { service, startMs, endMs, attributes, events } = span;
  const marks = events.filter(isDecision).map(({ atMs }) => atMs);
  const row = { service, startMs, endMs, marks };
  const wait = textAt(attributes, own.waitKind);
  if (wait !== undefined) {
    const label = `${indent}wait: ${wait.replaceAll("_", " ")}`;
    return { ...row, label, sign: signs.wait, note: whyWaited(span, parent), mood: "faint" };
  }
  if (isAttempt(span)) {
    const lost = attributes[own.attemptSuperseded] === true;
    const number = shown(attributes[own.attemptNumber]);
    const label = `${indent}attempt ${number}: ${shown(attributes[own.attemptCause])}`;
    const status = statusOf(span);
    const origin = textAt(attributes, own.attemptOrigin);
    const ended = status === "OK" || origin === undefined ? status : `${status} (${origin})`;
    return {
      ...row,
      label,
      sign: lost ? signs.lost : signs.attempt,
      note: lost ? "another attempt was faster" : ended,
      mood: lost ? "faint" : status === "OK" ? "good" : "bad",
    };
  }
  const call = callOf(span);
  if (call === undefined) {
    const failed = span.status === "error";
    const note = failed ? ["error", span.statusMessage ?? ""].filter(Boolean).join(": ") : "";
    return {
      ...row,
      label: indent + span.name,
      sign: signs.span,
      note,
      mood: failed ? "bad" : "plain",
    };
  }
  const method = call.method.slice(call.method.lastIndexOf("/") + 1);
  const note = [
    call.reason === undefined ? call.status : `${call.status}: ${call.reason}`,
    call.attempts > 1 ? `${call.attempts} attempts` : "",
    call.degraded === true ? "degraded" : "",
    call.priority === undefined ? "" : `priority ${call.priority}`,
  ];
  return {
    ...row,
    label: `${indent}${method}${call.side === "server" ? " (server)" : ""}`,
    sign: signs.span,
    note: note.filter((part) => part !== "").join(", "),
    mood: call.status === "OK" ? "good" : "bad",
  };
}

/** What the decision says that was taken when the wait began, or when it ended. */
function whyWaited({ startMs, endMs }: SpanView, call: SpanView | undefined): string {
  const decision = call?.events.find(
    (event) =>
      isDecision(event) &&
      [startMs, endMs].some((ms) => Math.abs(event.atMs - ms) < 1) &&
      seenBelow.has(textAt(event.attributes, own.decisionVerdict) ?? ""),
  );
  return textAt(decision?.attributes ?? {}, own.decisionDetail) ?? "";
}

/** The decisions that say more than the spans below do. That a call waits, and is tried again, is seen from those. */
function stepsOf({ service, events }: SpanView, indent: string): Row[] {
  return events.flatMap((event) => {
    const { atMs, attributes } = event;
    const verdict = textAt(attributes, own.decisionVerdict);
    if (!isDecision(event) || verdict === undefined || seenBelow.has(verdict)) return [];
    const enforced = attributes[own.decisionEnforced] !== false;
    const note = [
      textAt(attributes, own.decisionReason),
      textAt(attributes, own.decisionDetail),
      enforced ? undefined : "only observed",
    ].filter((part) => part !== undefined);
    return [
      {
        service,
        label: `${indent}${textAt(attributes, own.decisionPolicy) ?? ""}: ${verdict}`,
        startMs: atMs,
        sign: signs.mark,
        marks: [atMs],
        note: note.join(", "),
        mood: "plain",
      } satisfies Row,
    ];
  });
}

const seenBelow: ReadonlySet<string> = new Set(["queue", "retry", "hedge"]);

const isDecision = ({ name }: SpanEvent) => name === decisionEvent;

function barOf(
  { startMs, endMs = startMs, sign, marks }: Row,
  fromMs: number,
  toMs: number,
  width: number,
): string {
  const scale = toMs > fromMs ? width / (toMs - fromMs) : 0;
  const at = (ms: number) => Math.min(width, Math.max(0, Math.round((ms - fromMs) * scale)));
  const begin = Math.min(at(startMs), width - 1);
  const cells = (" ".repeat(begin) + sign.repeat(Math.max(1, at(endMs) - begin))).padEnd(width);
  const marked = new Set(marks.map((ms) => Math.min(at(ms), width - 1)));
  return cells
    .split("")
    .map((cell, index) => (marked.has(index) ? signs.mark : cell))
    .join("");
}

interface Columns {
  /** 0 for none: all spans are of one service. */
  readonly service: number;
  readonly label: number;
  readonly bar: number;
  readonly note: number;
}

function columnsFor(rows: readonly Row[], width: number, services: boolean): Columns {
  const widest = (text: (row: Row) => string, most: number) =>
    Math.min(Math.floor(most), Math.max(...rows.map((row) => text(row).length))) + 1;
  const service = services ? widest((row) => row.service, width / 8) : 0;
  const label = widest((row) => row.label, width / 3);
  const bar = Math.floor(width / 5);
  return { service, label, bar, note: Math.max(8, width - service - label - bar - msWidth - 2) };
}

/** A text in a column, with a space behind it. */
function inColumn(text: string, width: number): string {
  return cut(text, width - 1).padEnd(width);
}

function cut(text: string, width: number): string {
  // Names come from other programs: none may move the cursor.
  const plain = text.replace(/\p{Cc}/gu, "?");
  return plain.length > width ? `${plain.slice(0, width - 1)}…` : plain;
}

function shown(value: AttributeValue | undefined): string {
  return value === undefined ? "" : String(value);
}

function shownMs(ms: number): string {
  return ms < 10 ? ms.toFixed(1) : ms.toFixed(0);
}

function counted(count: number, noun: string): string {
  return count === 1 ? `1 ${noun}` : `${count} ${noun}s`;
}

type Paint = Readonly<Record<Row["mood"] | "strong", (text: string) => string>>;

function paintWith(colors: boolean): Paint {
  const sgr = (code: number) => (text: string) => (colors ? `\x1b[${code}m${text}\x1b[0m` : text);
  return { good: sgr(32), bad: sgr(31), faint: sgr(2), plain: (text) => text, strong: sgr(1) };
}
