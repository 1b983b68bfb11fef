import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { SpanEvent } from "../../../src/viewer/api.js";
import { formatMs } from "../format.js";
import { useMedia, useSize } from "../hooks.js";
import { scrolledTo, visibleRows } from "../virtual.js";
import { eventWords, isObserved, shapeOf } from "./decisions.js";
import { positionIn, type TimeRange, ticksOf } from "./scale.js";
import { barWords } from "./summary.js";
import { failed, labelOf, type SpanNode, statusOf } from "./tree.js";

const headHeight = 28;

/** Deeper levels are not moved further to the right. */
const maxIndent = 12;

/** A scale has a mark for so many pixels at most. */
const pxPerTick = 90;

/** The label of a mark needs so much room; without it, it stands before the mark. */
const labelPx = 56;

/** The spans of a trace below each other, each with a bar that stands where its time is. */
export function Waterfall({
  rows,
  collapsed,
  selectedKey,
  range,
  originMs,
  colors,
  onSelect,
  onOpen,
  onToggle,
  onZoom,
}: {
  readonly rows: readonly SpanNode[];
  readonly collapsed: ReadonlySet<string>;
  readonly selectedKey: string | undefined;
  readonly range: TimeRange;
  readonly originMs: number;
  readonly colors: ReadonlyMap<string, string>;
  readonly onSelect: (key: string) => void;
  readonly onOpen: (key: string) => void;
  readonly onToggle: (key: string) => void;
  readonly onZoom: (range: TimeRange) => void;
}) {
  const narrow = useMedia("(width < 760px)");
  const rowHeight = narrow ? 44 : 26;
  const scroller = useRef<HTMLDivElement>(null);
  const size = useSize(scroller);
  const height = Math.max(0, size.height - headHeight);
  const [scrollTop, setScrollTop] = useState(0);
  const { first, end } = visibleRows(rows.length, rowHeight, scrollTop, height);
  const ruler = useRef<HTMLDivElement>(null);
  const { width } = useSize(ruler);
  const ticks = ticksOf(range, Math.max(2, width / pxPerTick));
  const selectedIndex = rows.findIndex(({ key }) => key === selectedKey);

  const show = (index: number) => {
    const element = scroller.current;
    if (element === null || height === 0) return;
    element.scrollTo({ top: scrolledTo(index, rowHeight, element.scrollTop, height) });
  };
  // Also the span that the address names, and when the panel of details has taken room away.
  useLayoutEffect(() => {
    if (selectedIndex !== -1) show(selectedIndex);
  }, [height, selectedIndex]);

  const moveTo = (index: number) => {
    const node = rows[Math.max(0, Math.min(rows.length - 1, index))];
    if (node !== undefined) onSelect(node.key);
  };
  const selected = rows[selectedIndex];
  const perPage = Math.max(1, Math.floor(height / rowHeight) - 1);
  const isOpen = (node: SpanNode) => node.children.length > 0 && !collapsed.has(node.key);
  const keys: Readonly<Record<string, () => void>> = {
    ArrowDown: () => moveTo(selectedIndex + 1),
    ArrowUp: () => moveTo(selectedIndex - 1),
    j: () => moveTo(selectedIndex + 1),
    k: () => moveTo(selectedIndex - 1),
    PageDown: () => moveTo(selectedIndex + perPage),
    PageUp: () => moveTo(selectedIndex - perPage),
    Home: () => moveTo(0),
    End: () => moveTo(rows.length - 1),
    ArrowRight: () => {
      if (selected === undefined) moveTo(0);
      else if (collapsed.has(selected.key)) onToggle(selected.key);
      else if (isOpen(selected)) moveTo(selectedIndex + 1);
    },
    ArrowLeft: () => {
      if (selected === undefined) return;
      if (isOpen(selected)) onToggle(selected.key);
      else if (selected.parent !== undefined) moveTo(rows.indexOf(selected.parent));
    },
    Enter: () => {
      if (selected !== undefined) onOpen(selected.key);
    },
    " ": () => {
      if (selected !== undefined) onToggle(selected.key);
    },
  };

  return (
    <div
      class="waterfall"
      role="treegrid"
      data-view-focus
      aria-label="Spans of the trace"
      aria-rowcount={rows.length + 1}
      aria-colcount={2}
      aria-activedescendant={selectedIndex === -1 ? undefined : `span-${selectedIndex}`}
      tabIndex={0}
      ref={scroller}
      onScroll={({ currentTarget }) => setScrollTop(currentTarget.scrollTop)}
      onKeyDown={(event) => {
        const action = event.ctrlKey || event.metaKey ? undefined : keys[event.key];
        if (action === undefined) return;
        event.preventDefault();
        action();
      }}
    >
      <div class="span-row span-head" role="row" aria-rowindex={1}>
        <div role="columnheader" class="span-name">
          Span
        </div>
        <div role="columnheader" class="span-track" aria-label="Time">
          <Ruler rulerRef={ruler} width={width} range={range} ticks={ticks} onZoom={onZoom} />
        </div>
      </div>
      <div class="span-rows" role="rowgroup" style={{ height: `${rows.length * rowHeight}px` }}>
        <div class="span-row span-lines" aria-hidden="true">
          <div />
          <div class="span-track">
            {ticks.map((tick) => (
              <span key={tick} style={{ left: `${100 * positionIn(range, tick)}%` }} />
            ))}
          </div>
        </div>
        {rows.slice(first, end).map((node, offset) => {
          const index = first + offset;
          return (
            <Row
              key={node.key}
              node={node}
              index={index}
              top={index * rowHeight}
              height={rowHeight}
              range={range}
              originMs={originMs}
              color={colors.get(node.span.service)}
              collapsed={collapsed.has(node.key)}
              selected={index === selectedIndex}
              onOpen={onOpen}
              onToggle={onToggle}
            />
          );
        })}
      </div>
    </div>
  );
}

/** The scale of time. A drag over it shows that part of the time. */
function Ruler({
  rulerRef,
  width,
  range,
  ticks,
  onZoom,
}: {
  readonly rulerRef: RefObject<HTMLDivElement | null>;
  readonly width: number;
  readonly range: TimeRange;
  readonly ticks: readonly number[];
  readonly onZoom: (range: TimeRange) => void;
}) {
  const [drag, setDrag] = useState<readonly [number, number] | undefined>(undefined);
  const shareAt = (event: PointerEvent) => {
    const box = rulerRef.current?.getBoundingClientRect();
    if (box === undefined || box.width === 0) return 0;
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  };
  const timeAt = (share: number) => range.fromMs + share * (range.toMs - range.fromMs);
  useEffect(() => setDrag(undefined), [range]);
  return (
    <div
      class="ruler"
      ref={rulerRef}
      title="Drag to zoom into a part of the time"
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        setDrag([shareAt(event), shareAt(event)]);
      }}
      onPointerMove={(event) => {
        if (drag !== undefined) setDrag([drag[0], shareAt(event)]);
      }}
      onPointerUp={() => {
        if (drag === undefined) return;
        const [from, to] = drag[0] < drag[1] ? drag : [drag[1], drag[0]];
        setDrag(undefined);
        if (to - from > 0.005) onZoom({ fromMs: timeAt(from), toMs: timeAt(to) });
      }}
      onPointerCancel={() => setDrag(undefined)}
    >
      {ticks.map((tick) => {
        const position = positionIn(range, tick);
        return (
          <span
            key={tick}
            class={`tick ${(1 - position) * width < labelPx ? "tick-before" : ""}`}
            style={{ left: `${100 * position}%` }}
          >
            {formatMs(tick)}
          </span>
        );
      })}
      {drag === undefined ? null : (
        <span
          class="ruler-drag"
          style={{
            left: `${100 * Math.min(...drag)}%`,
            width: `${100 * Math.abs(drag[1] - drag[0])}%`,
          }}
        />
      )}
    </div>
  );
}

function Row({
  node,
  index,
  top,
  height,
  range,
  originMs,
  color,
  collapsed,
  selected,
  onOpen,
  onToggle,
}: {
  readonly node: SpanNode;
  readonly index: number;
  readonly top: number;
  readonly height: number;
  readonly range: TimeRange;
  readonly originMs: number;
  readonly color: string | undefined;
  readonly collapsed: boolean;
  readonly selected: boolean;
  readonly onOpen: (key: string) => void;
  readonly onToggle: (key: string) => void;
}) {
  const { span, children } = node;
  const label = labelOf(node);
  return (
    // The keyboard works on the grid, which names this row as its active one.
    <div
      class={`span-row ${selected ? "row-active" : ""}`}
      role="row"
      id={`span-${index}`}
      data-span={node.key}
      aria-rowindex={index + 2}
      aria-level={node.depth + 1}
      aria-expanded={children.length === 0 ? undefined : !collapsed}
      aria-selected={selected}
      style={{ top: `${top}px`, height: `${height}px` }}
      onClick={() => onOpen(node.key)}
    >
      <div
        role="gridcell"
        class="span-name"
        title={`${span.name} in ${span.service}`}
        style={{ paddingInlineStart: `${6 + 14 * Math.min(maxIndent, node.depth)}px` }}
      >
        <span
          class="toggle"
          aria-hidden="true"
          onClick={(event) => {
            if (children.length === 0) return;
            event.stopPropagation();
            onToggle(node.key);
          }}
        >
          {children.length === 0 ? "" : collapsed ? "▸" : "▾"}
        </span>
        <span class="swatch" data-color={color} aria-hidden="true" />
        <span class={`span-label ${failed(node) ? "failed" : ""}`}>{label}</span>
        <span class="span-service faint">{span.service}</span>
      </div>
      <div role="gridcell" class="span-track">
        <Bar node={node} range={range} originMs={originMs} color={color} />
      </div>
    </div>
  );
}

function Bar({
  node,
  range,
  originMs,
  color,
}: {
  readonly node: SpanNode;
  readonly range: TimeRange;
  readonly originMs: number;
  readonly color: string | undefined;
}) {
  const { span } = node;
  const from = positionIn(range, span.startMs - originMs);
  const to = positionIn(range, span.endMs - originMs);
  const words = <span class="visually-hidden">{barWords(node, originMs)}</span>;
  if (to < 0 || from > 1) {
    return (
      <>
        <span class={`bar-outside ${to < 0 ? "outside-left" : "outside-right"}`} aria-hidden="true">
          {to < 0 ? "◂" : "▸"}
        </span>
        {words}
      </>
    );
  }
  const side = to < 0.72 ? "after" : from > 0.28 ? "before" : "inside";
  const edges = {
    after: { left: `${100 * to}%` },
    before: { right: `${100 * (1 - from)}%` },
    // At its end: decisions, which have marks, are mostly taken at the beginning.
    inside: { right: `${100 * Math.max(0, 1 - to)}%` },
  };
  const look = node.superseded ? "bar-lost" : `bar-${node.role}`;
  return (
    <>
      <span
        class={`bar ${look} ${failed(node) ? "bar-failed" : ""}`}
        data-color={color}
        data-bar={node.key}
        aria-hidden="true"
        style={{ left: `${100 * from}%`, width: `${100 * (to - from)}%` }}
      />
      {span.events.map((event, index) => (
        <Mark key={index} event={event} range={range} originMs={originMs} />
      ))}
      <span class={`bar-label bar-label-${side} on-${look}`} aria-hidden="true" style={edges[side]}>
        <span class="num">{formatMs(span.endMs - span.startMs)}</span>
        {node.superseded ? <span class="lost-word"> lost</span> : null}
        {failed(node) ? <span class="failed"> ✕ {statusOf(span)}</span> : null}
      </span>
      {words}
    </>
  );
}

function Mark({
  event,
  range,
  originMs,
}: {
  readonly event: SpanEvent;
  readonly range: TimeRange;
  readonly originMs: number;
}) {
  const at = positionIn(range, event.atMs - originMs);
  if (at < 0 || at > 1) return null;
  return (
    <span
      class={`mark mark-${shapeOf(event)} ${isObserved(event) ? "mark-observed" : ""}`}
      aria-hidden="true"
      title={`${formatMs(event.atMs - originMs)}: ${eventWords(event)}`}
      style={{ left: `${100 * at}%` }}
    />
  );
}
