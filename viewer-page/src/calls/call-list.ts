import type { CallRow } from "../../../src/viewer/api.js";

/** The calls that the table shows, the newest first. */
export interface CallListState {
  readonly rows: readonly CallRow[];
  /** New calls that came while the list was held; they are shown when it is let go. */
  readonly held: readonly CallRow[];
  readonly paused: boolean;
}

export const emptyList: CallListState = { rows: [], held: [], paused: false };

/** How many rows the page shows, and how many it holds beside them. */
export const maxRows = 10_000;

/** Adds calls that came live, the oldest first. */
export function withLive(state: CallListState, live: readonly CallRow[]): CallListState {
  const fresh = unknownTo(state, live).reverse();
  if (fresh.length === 0) return state;
  if (state.paused) return bounded({ ...state, held: [...fresh, ...state.held] });
  return bounded({ ...state, rows: [...fresh, ...state.rows] });
}

/**
 * Adds the newest page of what the server keeps, the newest first. Where it has nothing in common with the rows, calls in
 * between are missing, so it takes their place.
 */
export function withNewest(state: CallListState, page: readonly CallRow[]): CallListState {
  const fresh = unknownTo(state, page);
  if (fresh.length === 0) return state;
  if (state.paused) return bounded({ ...state, held: [...fresh, ...state.held] });
  if (fresh.length === page.length) return { ...state, rows: page };
  return bounded({ ...state, rows: [...fresh, ...state.rows] });
}

/** Adds a page of older calls. */
export function withOlder(state: CallListState, page: readonly CallRow[]): CallListState {
  const fresh = unknownTo(state, page);
  return fresh.length === 0 ? state : bounded({ ...state, rows: [...state.rows, ...fresh] });
}

export function pausedList(state: CallListState): CallListState {
  return state.paused ? state : { ...state, paused: true };
}

export function resumedList(state: CallListState): CallListState {
  if (!state.paused) return state;
  return bounded({ rows: [...state.held, ...state.rows], held: [], paused: false });
}

function unknownTo(state: CallListState, calls: readonly CallRow[]): CallRow[] {
  const known = new Set<string>();
  for (const row of state.rows) known.add(row.id);
  for (const row of state.held) known.add(row.id);
  return calls.filter(({ id }) => !known.has(id) && known.add(id));
}

/** The oldest go. */
function bounded(state: CallListState): CallListState {
  if (state.rows.length <= maxRows && state.held.length <= maxRows) return state;
  return { ...state, rows: state.rows.slice(0, maxRows), held: state.held.slice(0, maxRows) };
}
