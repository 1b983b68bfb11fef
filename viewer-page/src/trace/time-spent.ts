import { names } from "./names.js";
import { rowsOf, type SpanNode, textOf } from "./tree.js";

/** A part of the time of a call. */
export interface TimeShare {
  readonly what: string;
  readonly service: string;
  readonly kind: "wait" | "service" | "network" | "client";
  readonly ms: number;
}

/**
 * Where the time of a call went. Each instant belongs to the deepest span that runs then: a wait, a server's own work, the
 * way between an attempt and its server, or the client itself. Attempts that lost count only while no other runs.
 */
export function timeSpentIn(call: SpanNode): readonly TimeShare[] {
  const { startMs, endMs } = call.span;
  const edges: { readonly atMs: number; readonly node: SpanNode; readonly starts: boolean }[] = [];
  for (const node of rowsOf([call])) {
    const from = Math.max(startMs, node.span.startMs);
    const to = Math.min(endMs, node.span.endMs);
    if (from >= to) continue;
    edges.push({ atMs: from, node, starts: true }, { atMs: to, node, starts: false });
  }
  edges.sort((a, b) => a.atMs - b.atMs);

  const lost = lostIn(call);
  const running = new Set<SpanNode>();
  const shares = new Map<string, { readonly own: OwnTime; ms: number }>();
  let lastMs = startMs;
  for (const { atMs, node, starts } of edges) {
    if (atMs > lastMs) {
      const owner = ownerOf(running, lost);
      if (owner !== undefined) {
        const own = ownTime(owner);
        const share = shares.get(own.what) ?? { own, ms: 0 };
        share.ms += atMs - lastMs;
        shares.set(own.what, share);
      }
      lastMs = atMs;
    }
    if (starts) running.add(node);
    else running.delete(node);
  }
  return [...shares.values()].map(({ own, ms }) => ({ ...own, ms })).sort((a, b) => b.ms - a.ms);
}

/** The attempts that lost, and all that is below them. */
function lostIn(call: SpanNode): ReadonlySet<SpanNode> {
  return new Set(rowsOf(rowsOf([call]).filter(({ superseded }) => superseded)));
}

function ownerOf(
  running: ReadonlySet<SpanNode>,
  lost: ReadonlySet<SpanNode>,
): SpanNode | undefined {
  let kept: SpanNode | undefined;
  let loser: SpanNode | undefined;
  for (const node of running) {
    if (lost.has(node)) loser = deeper(loser, node);
    else kept = deeper(kept, node);
  }
  // With nothing running but the call above it, what lost says more than the call.
  if (loser !== undefined && (kept === undefined || isAbove(kept, loser))) return loser;
  return kept;
}

function deeper(a: SpanNode | undefined, b: SpanNode): SpanNode {
  if (a === undefined) return b;
  return (a.depth - b.depth || a.span.startMs - b.span.startMs) > 0 ? a : b;
}

function isAbove(above: SpanNode, node: SpanNode): boolean {
  for (let next = node.parent; next !== undefined; next = next.parent) {
    if (next === above) return true;
  }
  return false;
}

type OwnTime = Omit<TimeShare, "ms">;

function ownTime({ role, span, children }: SpanNode): OwnTime {
  const { service } = span;
  switch (role) {
    case "wait": {
      const kind = textOf(span.attributes[names.waitKind])?.replaceAll("_", " ");
      return { what: `wait: ${kind ?? span.name.replace(/^wait: /, "")}`, kind: "wait", service };
    }
    case "attempt":
      return children.some((child) => child.role === "server")
        ? { what: "network", kind: "network", service }
        : { what: "a server without spans", kind: "network", service };
    case "call":
      return { what: `client in ${service}`, kind: "client", service };
    case "server":
    case "other":
      return { what: service, kind: "service", service };
  }
}
