import type { AttributeValue, SpanView } from "../../../src/viewer/api.js";
import { names } from "./names.js";

/** What a span stands for in the waterfall. */
export type SpanRole = "call" | "attempt" | "wait" | "server" | "other";

export interface SpanNode {
  /** The id of the span; made unique if the trace has it twice. */
  readonly key: string;
  readonly span: SpanView;
  readonly role: SpanRole;
  readonly depth: number;
  readonly parent?: SpanNode;
  readonly children: readonly SpanNode[];
  /** The span names a parent that the trace does not have. */
  readonly orphan: boolean;
  /** Another attempt decided the call. */
  readonly superseded: boolean;
}

interface Draft {
  readonly key: string;
  readonly span: SpanView;
  readonly below: Draft[];
  parented: boolean;
}

/**
 * The spans as trees, each level by start. Spans whose parents name each other in a circle are shown too: the one that
 * starts first becomes a root.
 */
export function treesOf(spans: readonly SpanView[]): readonly SpanNode[] {
  const drafts: Draft[] = [];
  const byId = new Map<string, Draft>();
  for (const span of [...spans].sort(byTime)) {
    const key = byId.has(span.spanId) ? `${span.spanId}#${drafts.length}` : span.spanId;
    const draft: Draft = { key, span, below: [], parented: false };
    drafts.push(draft);
    byId.set(key, draft);
  }
  for (const draft of drafts) {
    const parent = byId.get(draft.span.parentSpanId ?? "");
    if (parent === undefined || parent === draft) continue;
    parent.below.push(draft);
    draft.parented = true;
  }
  const built = new Set<Draft>();
  const roots = drafts.filter(({ parented }) => !parented).map((root) => build(root, built));
  for (const draft of drafts) if (!built.has(draft)) roots.push(build(draft, built));
  return roots.sort((a, b) => byTime(a.span, b.span));
}

function byTime(a: SpanView, b: SpanView): number {
  return a.startMs - b.startMs || b.endMs - a.endMs;
}

/** Without recursion: a trace may be as deep as it has spans. */
function build(root: Draft, built: Set<Draft>): SpanNode {
  const top = nodeOf(root, undefined);
  built.add(root);
  const open: [Draft, SpanNode & { readonly children: SpanNode[] }][] = [[root, top]];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const [draft, node] = next;
    for (const below of draft.below) {
      if (built.has(below)) continue;
      built.add(below);
      const child = nodeOf(below, node);
      node.children.push(child);
      open.push([below, child]);
    }
  }
  return top;
}

function nodeOf(
  { key, span, parented }: Draft,
  parent: SpanNode | undefined,
): SpanNode & { readonly children: SpanNode[] } {
  return {
    key,
    span,
    role: roleOf(span),
    depth: parent === undefined ? 0 : parent.depth + 1,
    ...(parent === undefined ? {} : { parent }),
    children: [],
    orphan: span.parentSpanId !== undefined && !parented,
    superseded: span.attributes[names.attemptSuperseded] === true,
  };
}

function roleOf({ attributes, kind, name }: SpanView): SpanRole {
  if (attributes[names.waitKind] !== undefined || name.startsWith("wait: ")) return "wait";
  if (attributes[names.attemptNumber] !== undefined) return "attempt";
  if (kind === "server") return "server";
  return kind === "client" ? "call" : "other";
}

/** The spans from top to bottom, without what is below a collapsed one. */
export function rowsOf(
  trees: readonly SpanNode[],
  collapsed: ReadonlySet<string> = new Set(),
): readonly SpanNode[] {
  const rows: SpanNode[] = [];
  const open = [...trees].reverse();
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    rows.push(node);
    if (!collapsed.has(node.key)) open.push(...[...node.children].reverse());
  }
  return rows;
}

export function textOf(value: AttributeValue | undefined): string | undefined {
  return value === undefined ? undefined : String(value);
}

/** The name of the status code of a call or an attempt; `ERROR` where only the span says that it failed. */
export function statusOf({ attributes, status }: SpanView): string {
  return textOf(attributes[names.statusCode]) ?? (status === "error" ? "ERROR" : "OK");
}

/** Whether the span ended as an error. An attempt that lost is none. */
export function failed({ span, superseded }: SpanNode): boolean {
  return span.status === "error" && !superseded;
}

/** What stands beside the bar: shorter than the name of the span, as the parent says the rest. */
export function labelOf(node: SpanNode): string {
  const { span, role } = node;
  const { attributes } = span;
  if (role === "attempt") {
    const cause = textOf(attributes[names.attemptCause]);
    const number = textOf(attributes[names.attemptNumber]) ?? "";
    const why = cause === undefined || cause === "first" ? "" : ` (${cause})`;
    return `Attempt ${number}${why}`;
  }
  if (role === "wait") {
    const kind = textOf(attributes[names.waitKind])?.replaceAll("_", " ");
    return `Wait: ${kind ?? span.name.replace(/^wait: /, "")}`;
  }
  return textOf(attributes[names.method]) ?? span.name;
}
