import { useEffect, useRef, useState } from "preact/hooks";
import type { BoardModel } from "./board/board-model.js";
import { BoardView } from "./board/board-view.js";
import type { CallsModel } from "./calls/calls-model.js";
import { type CallsPlace, CallsView } from "./calls/calls-view.js";
import { queryOf } from "./calls/filter.js";
import { CompareView } from "./compare/compare-view.js";
import type { DemoModel } from "./compare/demo-model.js";
import { Help } from "./help.js";
import { useObservable } from "./hooks.js";
import { useShortcuts } from "./keyboard.js";
import type { Connection, Live } from "./live.js";
import { currentRoute, goTo } from "./navigation.js";
import { nextTheme, theme } from "./preferences.js";
import { hashOf, type Route } from "./route.js";
import { TraceView } from "./trace/trace-view.js";

export interface Models {
  readonly live: Live;
  readonly calls: CallsModel;
  readonly callsPlace: CallsPlace;
  readonly board: BoardModel;
  readonly demo: DemoModel;
}

const titles: Readonly<Record<Route["view"], string>> = {
  calls: "Calls",
  trace: "Trace",
  board: "Board",
  compare: "Compare",
};

export function App({ models }: { readonly models: Models }) {
  const route = useObservable(currentRoute);
  const demo = useObservable(models.demo.state);
  const connection = useObservable(models.live.connection);
  const [help, setHelp] = useState(false);
  const main = useRef<HTMLElement>(null);
  const place = route.view === "trace" ? `trace ${route.traceId}` : route.view;

  const toCalls = (): Route => ({ view: "calls", query: queryOf(models.calls.filter) });
  useShortcuts({
    "1": () => goTo(toCalls()),
    "2": () => goTo({ view: "board" }),
    "3": () => {
      if (demo !== undefined) goTo({ view: "compare" });
    },
    d: nextTheme,
    "?": () => setHelp(true),
  });

  const first = useRef(true);
  useEffect(() => {
    document.title = `${titles[route.view]} · grpc-weir`;
    // The first view leaves the focus where the browser puts it.
    if (first.current) {
      first.current = false;
      return;
    }
    return focusWhenShown(main.current);
  }, [place]);

  return (
    <>
      <button type="button" class="skip-link" onClick={() => main.current?.focus()}>
        Skip to the content
      </button>
      <header class="top">
        <span class="brand">
          <span class="brand-mark" aria-hidden="true" />
          grpc-weir
        </span>
        <nav aria-label="Views">
          <NavLink to={toCalls()} current={route.view === "calls" || route.view === "trace"}>
            Calls
          </NavLink>
          <NavLink to={{ view: "board" }} current={route.view === "board"}>
            Board
          </NavLink>
          {demo === undefined ? null : (
            <NavLink to={{ view: "compare" }} current={route.view === "compare"}>
              Compare
            </NavLink>
          )}
        </nav>
        <span class="grow" />
        <ConnectionState connection={connection} />
        <ThemeButton />
        <button type="button" class="quiet" onClick={() => setHelp(true)}>
          <span aria-hidden="true">?</span>
          <span class="visually-hidden">Help and keyboard shortcuts</span>
        </button>
      </header>
      {connection === "gone" ? (
        <p class="banner" role="alert">
          The viewer does not answer. What is shown stays; the page tries again by itself.
        </p>
      ) : null}
      <main ref={main} tabIndex={-1}>
        <View route={route} models={models} onBack={() => goTo(toCalls())} />
      </main>
      <Help open={help} onClose={() => setHelp(false)} />
    </>
  );
}

function View({
  route,
  models,
  onBack,
}: {
  readonly route: Route;
  readonly models: Models;
  readonly onBack: () => void;
}) {
  switch (route.view) {
    case "calls":
      return <CallsView model={models.calls} place={models.callsPlace} query={route.query} />;
    case "trace":
      return (
        <TraceView
          key={route.traceId}
          traceId={route.traceId}
          spanId={route.spanId}
          live={models.live}
          onBack={onBack}
        />
      );
    case "board":
      return <BoardView model={models.board} />;
    case "compare":
      return <CompareView model={models.demo} />;
  }
}

/** Puts the focus on what a view is about, so that its keys work at once. A view may have to load first. */
function focusWhenShown(main: HTMLElement | null): (() => void) | undefined {
  if (main === null) return undefined;
  const focus = () => {
    const target = main.querySelector<HTMLElement>("[data-view-focus]");
    target?.focus({ preventScroll: true });
    return target !== null;
  };
  if (focus()) return undefined;
  main.focus({ preventScroll: true });
  const observer = new MutationObserver(() => {
    // Who has moved on is not called back.
    if (document.activeElement !== main || focus()) observer.disconnect();
  });
  observer.observe(main, { childList: true, subtree: true });
  return () => observer.disconnect();
}

function NavLink({
  to,
  current,
  children,
}: {
  readonly to: Route;
  readonly current: boolean;
  readonly children: string;
}) {
  return (
    <a href={hashOf(to)} aria-current={current ? "page" : undefined}>
      {children}
    </a>
  );
}

const connectionWords: Readonly<Record<Connection, string>> = {
  connecting: "Connecting",
  live: "Live",
  gone: "Not connected",
};

function ConnectionState({ connection }: { readonly connection: Connection }) {
  return (
    <span class={`connection connection-${connection}`} role="status">
      <span aria-hidden="true">{connection === "live" ? "●" : "○"}</span>{" "}
      {connectionWords[connection]}
    </span>
  );
}

function ThemeButton() {
  const chosen = useObservable(theme);
  return (
    <button type="button" class="quiet" onClick={nextTheme} title="Change the theme">
      <span class="visually-hidden">Theme: </span>
      <span aria-hidden="true">{chosen === "auto" ? "◐" : chosen === "light" ? "○" : "●"}</span>{" "}
      <span class="theme-name">{chosen}</span>
    </button>
  );
}
