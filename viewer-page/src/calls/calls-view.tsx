import type { ComponentChildren, RefObject } from "preact";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { CallRow } from "../../../src/viewer/api.js";
import { Announcer } from "../announcer.js";
import { formatClock, formatCount, formatMs, plural } from "../format.js";
import { useMedia, useObservable, useSize } from "../hooks.js";
import { useShortcuts } from "../keyboard.js";
import { goTo, refine } from "../navigation.js";
import { hashOf } from "../route.js";
import { StatusLabel } from "../status-label.js";
import { scrolledTo, visibleRows } from "../virtual.js";
import { maxRows } from "./call-list.js";
import type { CallCounts, CallsModel } from "./calls-model.js";
import { type CallFilter, filterOf, noFilter, queryOf } from "./filter.js";
import { FilterBar } from "./filter-bar.js";

const columns = ["Start", "Status", "Method", "Priority", "Attempts", "Reason", "Duration"];

/** The head of the table stays on top of its rows. */
const headHeight = 28;

/** A bar as long as the column stands for so many milliseconds; the scale is logarithmic. */
const longestBarMs = 10_000;

/** What holds the list: the reader has scrolled, chosen a row, or pressed the button. */
type Hold = "scroll" | "row" | "button";

/** What outlives the view while a trace is shown. */
export interface CallsPlace {
  activeId: string | undefined;
  scrollTop: number;
  hold: Hold | undefined;
}

export function CallsView({
  model,
  place,
  query,
}: {
  readonly model: CallsModel;
  readonly place: CallsPlace;
  readonly query: URLSearchParams;
}) {
  const filter = useMemo(() => filterOf(query), [query]);
  const list = useObservable(model.list);
  const counts = useObservable(model.counts);
  const problem = useObservable(model.problem);
  const known = useObservable(model.known);
  const [activeId, setActiveId] = useState(place.activeId);
  const search = useRef<HTMLInputElement>(null);
  const scroller = useRef<HTMLDivElement>(null);

  useEffect(() => model.setFilter(filter), [model, filter]);

  const hold = (by: Hold) => {
    place.hold ??= by;
    model.pause();
  };
  const choose = (id: string | undefined) => {
    place.activeId = id;
    setActiveId(id);
  };
  const resume = () => {
    place.hold = undefined;
    choose(undefined);
    model.resume();
    scroller.current?.scrollTo({ top: 0 });
  };
  const toggle = () => (list.paused ? resume() : hold("button"));
  const change = (next: CallFilter) => {
    place.hold = undefined;
    choose(undefined);
    scroller.current?.scrollTo({ top: 0 });
    refine({ view: "calls", query: queryOf(next) });
  };
  useShortcuts({ "/": () => search.current?.focus(), p: toggle });

  return (
    <section class="calls" aria-labelledby="calls-title">
      <h1 id="calls-title" class="visually-hidden">
        Calls
      </h1>
      <FilterBar filter={filter} known={known} searchRef={search} onChange={change} />
      <div class="calls-bar">
        <span>{countWords(list.rows.length, counts)}</span>
        <span class="grow" />
        {list.paused && list.held.length > 0 ? (
          <button type="button" class="primary" onClick={resume}>
            Show {plural(list.held.length, "new call")}
          </button>
        ) : null}
        <button type="button" aria-pressed={list.paused} onClick={toggle}>
          <span aria-hidden="true">{list.paused ? "▶" : "❚❚"}</span>{" "}
          {list.paused ? "Resume" : "Pause"}
        </button>
      </div>
      <Announcer
        text={
          list.paused
            ? `Paused. ${plural(list.held.length, "new call")}.`
            : countWords(list.rows.length, counts)
        }
      />
      <CallTable
        rows={list.rows}
        activeId={activeId}
        place={place}
        scroller={scroller}
        onHold={hold}
        onTop={() => {
          if (place.hold === "scroll") resume();
        }}
        onChoose={choose}
        onBottom={() => model.loadOlder()}
      >
        {list.rows.length === 0 ? (
          <EmptyCalls
            filter={filter}
            counts={counts}
            problem={problem}
            onClear={() => change(noFilter)}
          />
        ) : null}
      </CallTable>
    </section>
  );
}

function countWords(shown: number, counts: CallCounts | undefined): string {
  if (counts === undefined) return "Loading…";
  const { total, kept, dropped } = counts;
  const older = dropped > 0 ? `, ${formatCount(dropped)} older dropped` : "";
  if (total > shown && shown >= maxRows) {
    return `the newest ${formatCount(shown)} of ${plural(total, "call")}${older}`;
  }
  return total === kept
    ? `${plural(total, "call")}${older}`
    : `${formatCount(total)} of ${plural(kept, "call")}${older}`;
}

function EmptyCalls({
  filter,
  counts,
  problem,
  onClear,
}: {
  readonly filter: CallFilter;
  readonly counts: CallCounts | undefined;
  readonly problem: string | undefined;
  readonly onClear: () => void;
}) {
  if (problem !== undefined) {
    return (
      <div class="empty" role="alert">
        <p>{problem}</p>
      </div>
    );
  }
  if (counts === undefined) return null;
  if (queryOf(filter).size > 0) {
    return (
      <div class="empty">
        <p>
          <strong>No call fits the filter.</strong>
        </p>
        <p>New calls that fit it appear here.</p>
        <button type="button" onClick={onClear}>
          Clear filter
        </button>
      </div>
    );
  }
  return (
    <div class="empty">
      <p>
        <strong>No calls yet.</strong> They appear here as they end.
      </p>
      <p>
        Send spans to the viewer by OTLP: set <code>OTEL_EXPORTER_OTLP_ENDPOINT</code> to the
        address that the viewer printed when it started, or add its <code>spanProcessor</code> to
        the SDK of the process.
      </p>
    </div>
  );
}

function CallTable({
  rows,
  activeId,
  place,
  scroller,
  onHold,
  onTop,
  onChoose,
  onBottom,
  children,
}: {
  readonly rows: readonly CallRow[];
  readonly activeId: string | undefined;
  readonly place: CallsPlace;
  readonly scroller: RefObject<HTMLDivElement | null>;
  readonly onHold: (by: Hold) => void;
  readonly onTop: () => void;
  readonly onChoose: (id: string | undefined) => void;
  readonly onBottom: () => void;
  readonly children: ComponentChildren;
}) {
  const rowHeight = useMedia("(width < 760px)") ? 52 : 28;
  const height = Math.max(0, useSize(scroller).height - headHeight);
  const [scrollTop, setScrollTop] = useState(place.scrollTop);
  const { first, end } = visibleRows(rows.length, rowHeight, scrollTop, height);
  const activeIndex = rows.findIndex(({ id }) => id === activeId);

  useLayoutEffect(() => {
    scroller.current?.scrollTo({ top: place.scrollTop });
  }, [place, scroller]);
  useEffect(() => {
    if (end >= rows.length - 50) onBottom();
  }, [end, rows.length, onBottom]);

  const onScroll = useCallback(
    ({ currentTarget }: { readonly currentTarget: HTMLElement }) => {
      const top = currentTarget.scrollTop;
      place.scrollTop = top;
      setScrollTop(top);
      if (top > 4) onHold("scroll");
      else onTop();
    },
    [place, onHold, onTop],
  );

  const moveTo = (index: number) => {
    const row = rows[Math.max(0, Math.min(rows.length - 1, index))];
    if (row === undefined || scroller.current === null) return;
    onHold("row");
    onChoose(row.id);
    const at = rows.indexOf(row);
    const top = scrolledTo(at, rowHeight, scroller.current.scrollTop, height);
    scroller.current.scrollTo({ top });
  };
  const perPage = Math.max(1, Math.floor(height / rowHeight) - 1);
  const keys: Readonly<Record<string, () => void>> = {
    ArrowDown: () => moveTo(activeIndex + 1),
    ArrowUp: () => moveTo(activeIndex - 1),
    j: () => moveTo(activeIndex + 1),
    k: () => moveTo(activeIndex - 1),
    PageDown: () => moveTo(activeIndex + perPage),
    PageUp: () => moveTo(activeIndex - perPage),
    Home: () => moveTo(0),
    End: () => moveTo(rows.length - 1),
    Enter: () => open(rows[activeIndex]),
  };

  return (
    <div class="call-table">
      <div
        class="call-grid"
        role="grid"
        data-view-focus
        aria-label="Calls, newest first"
        aria-rowcount={rows.length + 1}
        aria-colcount={columns.length}
        aria-activedescendant={activeIndex === -1 ? undefined : `call-${activeIndex}`}
        tabIndex={0}
        ref={scroller}
        onScroll={onScroll}
        onKeyDown={(event) => {
          const action = event.ctrlKey || event.metaKey ? undefined : keys[event.key];
          if (action === undefined) return;
          event.preventDefault();
          action();
        }}
      >
        <div class="call-row call-head" role="row" aria-rowindex={1}>
          {columns.map((column) => (
            <div role="columnheader" class={`cell-${column.toLowerCase()}`} key={column}>
              {column}
            </div>
          ))}
        </div>
        <div class="call-rows" role="rowgroup" style={{ height: `${rows.length * rowHeight}px` }}>
          {rows.slice(first, end).map((row, offset) => {
            const index = first + offset;
            return (
              <Row
                key={row.id}
                call={row}
                index={index}
                top={index * rowHeight}
                height={rowHeight}
                active={index === activeIndex}
                onChoose={onChoose}
              />
            );
          })}
        </div>
      </div>
      {children}
    </div>
  );
}

function open(call: CallRow | undefined): void {
  if (call !== undefined) goTo({ view: "trace", traceId: call.traceId, spanId: call.spanId });
}

function Row({
  call,
  index,
  top,
  height,
  active,
  onChoose,
}: {
  readonly call: CallRow;
  readonly index: number;
  readonly top: number;
  readonly height: number;
  readonly active: boolean;
  readonly onChoose: (id: string) => void;
}) {
  const link = hashOf({ view: "trace", traceId: call.traceId, spanId: call.spanId });
  const share = Math.log10(1 + call.durationMs) / Math.log10(1 + longestBarMs);
  const why = call.reason ?? (call.degraded === true ? "degraded answer" : "");
  return (
    // The keyboard works on the grid, which names this row as its active one.
    <div
      class={`call-row ${active ? "row-active" : ""}`}
      role="row"
      id={`call-${index}`}
      aria-rowindex={index + 2}
      aria-selected={active}
      style={{ top: `${top}px`, height: `${height}px` }}
      onClick={(event) => {
        onChoose(call.id);
        // The link does what links do, also in another tab.
        if (!(event.target instanceof HTMLElement && event.target.closest("a") !== null)) {
          open(call);
        }
      }}
    >
      <div role="gridcell" class="cell-start num">
        {formatClock(call.startMs)}
      </div>
      <div role="gridcell" class="cell-status">
        <StatusLabel status={call.status} reason={call.reason} />
      </div>
      <div role="gridcell" class="cell-method" title={`${call.method} in ${call.service}`}>
        <a href={link} tabIndex={-1}>
          {call.method}
        </a>{" "}
        <span class="faint">
          {call.side === "server" ? "at" : "from"} {call.service}
        </span>
      </div>
      <div role="gridcell" class={`cell-priority priority-${call.priority ?? "none"}`}>
        {call.priority ?? ""}
      </div>
      <div role="gridcell" class={`cell-attempts num ${call.attempts > 1 ? "many" : ""}`}>
        {call.attempts}
        <span class="only-narrow"> {call.attempts === 1 ? "attempt" : "attempts"}</span>
      </div>
      <div
        role="gridcell"
        class="cell-reason"
        title={call.policies.length > 0 ? `Decided by ${call.policies.join(", ")}` : undefined}
      >
        {why === "" ? <span class="faint">{call.policies.join(", ")}</span> : why}
      </div>
      <div role="gridcell" class="cell-duration num">
        <span
          class="duration-bar"
          aria-hidden="true"
          style={{ width: `${Math.min(1, share) * 100}%` }}
        />
        <span>{formatMs(call.durationMs)}</span>
      </div>
    </div>
  );
}
