import type { AttributeValue, SpanView } from "grpc-weir/viewer";
import { orderIdAttribute, type SpanRecord } from "./messages.js";

/** A span with those that it is the parent of, in the order of their starts. */
export interface Node {
  readonly span: SpanRecord;
  readonly children: readonly Node[];
}

/** One call through all services, as its spans tell it. */
export interface Trace {
  readonly traceId: string;
  readonly root: Node;
  readonly spans: readonly SpanRecord[];
}

const isAttempt = (span: SpanRecord) => span.attributes["weir.attempt.number"] !== undefined;

/** Who serves a method, and who calls it. */
const services = {
  Checkout: { server: "edge", client: "caller" },
  PlaceOrder: { server: "orders", client: "edge" },
  Reserve: { server: "inventory", client: "orders" },
} as const;

/** The service that a span comes from. */
export function serviceOf({ name, kind }: Pick<SpanRecord, "name" | "kind">): string {
  for (const [method, { server, client }] of Object.entries(services)) {
    if (name.endsWith(method)) return kind === "server" ? server : client;
  }
  return "";
}

/** The span is a time in which its parent stood still. */
export function isWait({ attributes }: SpanRecord): boolean {
  return attributes["weir.wait.kind"] !== undefined;
}

export function attemptNumber({ attributes }: SpanRecord): number {
  return Number(attributes["weir.attempt.number"] ?? 0);
}

/** Why the call of this span was refused on its way, as the reason code. */
export function refusal({ attributes }: SpanRecord): string | undefined {
  const reason = attributes["weir.rejection.reason"];
  return reason === undefined ? undefined : String(reason);
}

export function tracesOf(spans: readonly SpanRecord[]): Trace[] {
  const byTrace = new Map<string, SpanRecord[]>();
  for (const span of spans) {
    const known = byTrace.get(span.traceId);
    if (known === undefined) byTrace.set(span.traceId, [span]);
    else known.push(span);
  }
  const traces: Trace[] = [];
  for (const [traceId, own] of byTrace) {
    const root = own.find(({ parentId }) => parentId === undefined);
    if (root !== undefined) traces.push({ traceId, root: nodeOf(root, own), spans: own });
  }
  return traces;
}

function nodeOf(span: SpanRecord, all: readonly SpanRecord[]): Node {
  const children = all
    .filter(({ parentId }) => parentId === span.spanId)
    .sort((a, b) => a.startMs - b.startMs)
    .map((child) => nodeOf(child, all));
  return { span, children };
}

/** The spans as the viewer has them, which can draw them. */
export function viewsOf({ root, traceId }: Trace): SpanView[] {
  const views: SpanView[] = [];
  const visit = ({ span, children }: Node, parent?: SpanRecord): void => {
    views.push({
      traceId,
      spanId: span.spanId,
      ...(parent === undefined ? {} : { parentSpanId: parent.spanId }),
      name: span.name,
      kind: span.kind,
      service: serviceOf(isWait(span) && parent !== undefined ? parent : span),
      scope: "grpc-weir",
      startMs: span.startMs,
      endMs: span.endMs,
      status: "unset",
      attributes: defined(span.attributes),
      events: span.events.map((event) => ({ ...event, attributes: defined(event.attributes) })),
    });
    for (const child of children) visit(child, span);
  };
  visit(root);
  return views;
}

/** Attributes of OpenTelemetry may have no value, and lists of them gaps. */
function defined(attributes: SpanRecord["attributes"]): SpanView["attributes"] {
  const kept: [string, AttributeValue][] = [];
  for (const [key, value] of Object.entries(attributes)) {
    if (Array.isArray(value)) kept.push([key, value.map((element) => element ?? null)]);
    else if (value !== undefined) kept.push([key, value]);
  }
  return Object.fromEntries(kept);
}

/** The order that the traced call was about; empty when it never reached a handler. */
export function orderIdOf({ spans }: Trace): string {
  const told = spans.find(({ attributes }) => attributes[orderIdAttribute] !== undefined);
  return String(told?.attributes[orderIdAttribute] ?? "");
}

/** Attempts that a server refused, or a policy of ours before they were sent. */
export function refusals(trace: Trace): number {
  return trace.spans.filter((span) => span.kind === "server" && refusal(span) !== undefined).length;
}

/** What is missing for the trace to tell the whole story; empty for nothing. */
export function gaps({ root, spans }: Trace): string[] {
  const missing: string[] = [];
  const visit = ({ span, children }: Node): void => {
    const attempts = children.filter((child) => isAttempt(child.span));
    const started = Number(span.attributes["weir.call.attempts"] ?? 0);
    // An attempt that a policy of this process refused was started and never sent: it has no span.
    const refusedHere = span.events.filter(
      ({ attributes }) =>
        attributes["weir.decision.verdict"] === "reject" &&
        attributes["weir.decision.enforced"] === true,
    ).length;
    if (attempts.length + refusedHere < started) {
      missing.push(`${attempts.length} of ${started} attempt spans of ${span.name}`);
    }
    if (isAttempt(span) && span.attributes["weir.attempt.origin"] === "remote") {
      if (!children.some((child) => child.span.kind === "server")) {
        missing.push(`the server span below ${span.name}`);
      }
    }
    children.forEach(visit);
  };
  visit(root);
  const reached = count(root);
  if (reached < spans.length) missing.push(`the parents of ${spans.length - reached} spans`);
  return missing;
}

function count({ children }: Node): number {
  return children.reduce((sum, child) => sum + count(child), 1);
}

/**
 * Of the critical calls that were served, the complete trace that has most to tell: retried, for different
 * reasons, refused on the way, and kept waiting.
 *
 * @param wanted By the id of the order.
 */
export function richest(
  traces: readonly Trace[],
  wanted: (orderId: string) => boolean,
): Trace | undefined {
  let best: { readonly trace: Trace; readonly score: number } | undefined;
  for (const trace of traces) {
    const { attributes } = trace.root.span;
    if (attributes["rpc.status_code"] !== "OK") continue;
    if (attributes["weir.call.priority"] !== "critical") continue;
    if (!wanted(orderIdOf(trace)) || gaps(trace).length > 0) continue;
    const again = trace.spans.filter((span) => attemptNumber(span) > 1);
    const causes = new Set(again.map((span) => span.attributes["weir.attempt.after"]));
    const waited = trace.spans.some(isWait);
    const score =
      Math.min(refusals(trace), 1) * 100 +
      causes.size * 50 +
      Math.min(again.length, 3) * 10 +
      (waited ? 5 : 0);
    if (best === undefined || score > best.score) best = { trace, score };
  }
  return best?.trace;
}
