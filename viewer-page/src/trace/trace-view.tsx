import { useEffect, useMemo, useState } from "preact/hooks";
import type { TraceView as Trace } from "../../../src/viewer/api.js";
import { ApiFailure, fetchTrace, messageOf } from "../api-client.js";
import { formatClock, formatMs, plural } from "../format.js";
import { useObservable } from "../hooks.js";
import { useShortcuts } from "../keyboard.js";
import type { Live } from "../live.js";
import { refine } from "../navigation.js";
import { StatusLabel } from "../status-label.js";
import { serviceColors } from "./colors.js";
import { Details } from "./details.js";
import { names } from "./names.js";
import type { TimeRange } from "./scale.js";
import { SpanTable } from "./span-table.js";
import { summaryOf } from "./summary.js";
import { TimeSpent } from "./time-strip.js";
import { labelOf, rowsOf, type SpanNode, statusOf, textOf, treesOf } from "./tree.js";
import { Waterfall } from "./waterfall.js";

type Loaded =
  | { readonly kind: "loading" }
  | { readonly kind: "failed"; readonly message: string; readonly unknown: boolean }
  | { readonly kind: "loaded"; readonly trace: Trace };

export function TraceView({
  traceId,
  spanId,
  live,
  onBack,
}: {
  readonly traceId: string;
  readonly spanId: string | undefined;
  readonly live: Live;
  readonly onBack: () => void;
}) {
  const [loaded, setLoaded] = useState<Loaded>({ kind: "loading" });
  const [asked, setAsked] = useState(0);
  const connection = useObservable(live.connection);

  useEffect(() => {
    const request = new AbortController();
    fetchTrace(traceId, request.signal).then(
      (trace) => setLoaded({ kind: "loaded", trace }),
      (error: unknown) => {
        if (request.signal.aborted) return;
        const message = messageOf(error);
        const unknown = error instanceof ApiFailure && error.status === 404;
        // A trace that is on the screen stays there when the viewer goes away.
        setLoaded((last) => (last.kind === "loaded" ? last : { kind: "failed", message, unknown }));
      },
    );
    return () => request.abort();
  }, [traceId, asked, connection === "live"]);

  // Spans of a trace arrive one after the other, and those of other services later still.
  useEffect(
    () =>
      live.listen({
        onCalls: ({ calls }) => {
          if (calls.some((call) => call.traceId === traceId)) setAsked((count) => count + 1);
        },
      }),
    [live, traceId],
  );

  useShortcuts({ r: () => setAsked((count) => count + 1) });

  if (loaded.kind === "loading") return <p class="empty">Loading the trace…</p>;
  if (loaded.kind === "failed") {
    return (
      <div class="empty" role="alert">
        <h1>{loaded.unknown ? "This trace is not here" : "The trace cannot be loaded"}</h1>
        <p>
          {loaded.unknown
            ? "The viewer keeps a bounded number of traces, and drops the oldest. It may have dropped this one, or its spans have not arrived yet."
            : loaded.message}
        </p>
        <p>
          <button type="button" onClick={() => setAsked((count) => count + 1)}>
            Try again
          </button>{" "}
          <button type="button" onClick={onBack}>
            Back to the calls
          </button>
        </p>
      </div>
    );
  }
  return (
    <LoadedTrace
      trace={loaded.trace}
      spanId={spanId}
      onBack={onBack}
      onReload={() => setAsked((count) => count + 1)}
    />
  );
}

function LoadedTrace({
  trace,
  spanId,
  onBack,
  onReload,
}: {
  readonly trace: Trace;
  readonly spanId: string | undefined;
  readonly onBack: () => void;
  readonly onReload: () => void;
}) {
  const trees = useMemo(() => treesOf(trace.spans), [trace]);
  const all = useMemo(() => rowsOf(trees), [trees]);
  const whole = useMemo(() => rangeOf(all), [all]);
  const colors = useMemo(() => serviceColors(all.map(({ span }) => span.service)), [all]);
  const [collapsed, setCollapsed] = useState<ReadonlySet<string>>(new Set());
  const [zoom, setZoom] = useState<TimeRange | undefined>(undefined);
  const [asTable, setAsTable] = useState(false);
  const [showDetails, setShowDetails] = useState(false);

  const selected = all.find(({ key }) => key === spanId);
  const call = selected === undefined ? trees[0] : rootOf(selected);
  const originMs = all[0]?.span.startMs ?? 0;

  const select = (key: string) => refine({ view: "trace", traceId: trace.traceId, spanId: key });
  const copyId = useCopy(trace.traceId);
  const zoomTo = (node: SpanNode | undefined) => {
    if (node === undefined) return;
    const { startMs, endMs } = node.span;
    const margin = Math.max((endMs - startMs) * 0.05, 0.001);
    setZoom({ fromMs: startMs - originMs - margin, toMs: endMs - originMs + margin });
  };
  useShortcuts({
    c: copyId.copy,
    t: () => setAsTable((shown) => !shown),
    z: () => zoomTo(selected),
    "0": () => setZoom(undefined),
    e: () => setCollapsed(new Set()),
    w: () => setCollapsed(new Set(all.filter(isAttempt).map(({ key }) => key))),
    Escape: () => {
      if (showDetails) setShowDetails(false);
      else if (zoom !== undefined) setZoom(undefined);
      else onBack();
    },
  });

  if (call === undefined) return <p class="empty">This trace has no spans.</p>;
  const services = [...colors.keys()];
  const reason = textOf(call.span.attributes[names.rejectionReason]);
  return (
    <section class="trace" aria-labelledby="trace-title">
      <header class="trace-head">
        <div class="trace-title">
          <h1 id="trace-title">{labelOf(call)}</h1>
          <StatusLabel status={statusOf(call.span)} reason={reason} />
          <span class="faint num">{formatClock(call.span.startMs)}</span>
        </div>
        <ul class="summary" aria-label="What happened">
          {summaryOf(call).map((sentence) => (
            <li key={sentence}>{sentence}</li>
          ))}
        </ul>
        <TimeSpent call={call} colors={colors} />
        <div class="trace-tools">
          <ul class="legend" aria-label="Services">
            {services.map((service) => (
              <li key={service}>
                <span class="swatch" data-color={colors.get(service)} aria-hidden="true" />
                {service}
              </li>
            ))}
          </ul>
          <span class="faint">
            {plural(all.length, "span")} in {formatMs(whole.toMs - whole.fromMs)}
            {trace.truncated ? ", more were dropped" : ""}
          </span>
          <span class="grow" />
          <button type="button" onClick={copyId.copy} title={trace.traceId}>
            {copyId.copied ? "Copied" : "Copy trace id"}
          </button>
          <button type="button" disabled={selected === undefined} onClick={() => zoomTo(selected)}>
            Zoom to span
          </button>
          <button type="button" disabled={zoom === undefined} onClick={() => setZoom(undefined)}>
            Whole trace
          </button>
          <button type="button" aria-pressed={asTable} onClick={() => setAsTable(!asTable)}>
            As table
          </button>
          <button type="button" onClick={onReload}>
            Reload
          </button>
        </div>
        <p class="visually-hidden" role="status">
          {copyId.copied ? "Trace id copied" : ""}
        </p>
      </header>
      <div class={`trace-body ${showDetails && selected !== undefined ? "with-details" : ""}`}>
        {asTable ? (
          <SpanTable rows={all} originMs={originMs} />
        ) : (
          <Waterfall
            rows={rowsOf(trees, collapsed)}
            collapsed={collapsed}
            selectedKey={selected?.key}
            range={zoom ?? whole}
            originMs={originMs}
            colors={colors}
            onSelect={select}
            onOpen={(key) => {
              select(key);
              setShowDetails(true);
            }}
            onToggle={(key) => setCollapsed(toggled(collapsed, key))}
            onZoom={setZoom}
          />
        )}
        {showDetails && selected !== undefined ? (
          <Details
            node={selected}
            originMs={originMs}
            colors={colors}
            onClose={() => setShowDetails(false)}
          />
        ) : null}
      </div>
    </section>
  );
}

function isAttempt({ role }: SpanNode): boolean {
  return role === "attempt";
}

function toggled(keys: ReadonlySet<string>, key: string): ReadonlySet<string> {
  const next = new Set(keys);
  if (!next.delete(key)) next.add(key);
  return next;
}

function rootOf(node: SpanNode): SpanNode {
  let root = node;
  while (root.parent !== undefined) root = root.parent;
  return root;
}

function rangeOf(rows: readonly SpanNode[]): TimeRange {
  const originMs = rows[0]?.span.startMs ?? 0;
  let fromMs = 0;
  let toMs = 0;
  for (const { span } of rows) {
    fromMs = Math.min(fromMs, span.startMs - originMs);
    toMs = Math.max(toMs, span.endMs - originMs);
  }
  return { fromMs, toMs: toMs > fromMs ? toMs : fromMs + 1 };
}

/** Says for a moment that the text is in the clipboard. */
function useCopy(text: string): { readonly copied: boolean; readonly copy: () => void } {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return undefined;
    const timer = setTimeout(() => setCopied(false), 1_500);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = () => {
    navigator.clipboard.writeText(text).then(
      () => setCopied(true),
      // Without the permission, the id can still be read from the address.
      () => setCopied(false),
    );
  };
  return { copied, copy };
}
