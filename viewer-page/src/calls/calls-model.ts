import type { CallRow, CallsView } from "../../../src/viewer/api.js";
import { fetchCalls, messageOf } from "../api-client.js";
import type { Live } from "../live.js";
import { Observable } from "../observable.js";
import {
  type CallListState,
  emptyList,
  maxRows,
  pausedList,
  resumedList,
  withLive,
  withNewest,
  withOlder,
} from "./call-list.js";
import {
  type CallFilter,
  type Facet,
  facets,
  matches,
  noFilter,
  queryOf,
  valuesOf,
} from "./filter.js";

/** How a page of calls comes into the list. */
type Merge = (state: CallListState, page: readonly CallRow[]) => CallListState;

export type FacetValues = Readonly<Record<Facet, readonly string[]>>;

export interface CallCounts {
  /** Calls that fit the filter, also those that the page has not loaded. */
  readonly total: number;
  readonly kept: number;
  readonly dropped: number;
}

/** As many as the server gives at a time. */
const pageSize = 1_000;

/** The values that the page offers of one facet. More than a person picks from. */
const maxFacetValues = 300;

/** After calls that the server did not send one by one, the newest are asked for again; so often at most. */
const catchUpMs = 1_000;

/** The calls that fit the filter: loaded, then kept up to date, also while another view is shown. */
export class CallsModel {
  readonly list = new Observable<CallListState>(emptyList);
  readonly counts = new Observable<CallCounts | undefined>(undefined);
  readonly problem = new Observable<string | undefined>(undefined);
  readonly known: Observable<FacetValues>;
  #filter: CallFilter = noFilter;
  #search = new AbortController();
  #loadingOlder = false;
  #catchingUp = false;

  constructor(live: Live) {
    const none: readonly string[] = [];
    this.known = new Observable<FacetValues>({
      method: none,
      status: none,
      priority: none,
      policy: none,
      reason: none,
      service: none,
    });
    live.listen({
      onConnected: () => this.#load(withNewest),
      onCalls: ({ calls, skipped }) => {
        this.#learn(calls);
        this.#count(calls, skipped);
        const fitting = calls.filter((call) => matches(call, this.#filter));
        this.list.set(withLive(this.list.value, fitting));
        if (skipped > 0) this.#catchUpSoon();
      },
    });
  }

  get filter(): CallFilter {
    return this.#filter;
  }

  /** Shows the calls that fit another filter. */
  setFilter(filter: CallFilter): void {
    const same = queryOf(filter).toString() === queryOf(this.#filter).toString();
    if (same && this.counts.value !== undefined) return;
    this.#filter = filter;
    this.#search.abort();
    this.#search = new AbortController();
    this.list.set(emptyList);
    this.counts.set(undefined);
    this.#load(withNewest);
    // What can be chosen does not depend on what is chosen.
    if (this.known.value.method.length === 0 && queryOf(filter).size > 0) this.#learnFromAll();
  }

  pause(): void {
    this.list.set(pausedList(this.list.value));
  }

  resume(): void {
    this.list.set(resumedList(this.list.value));
  }

  loadOlder(): void {
    const { rows } = this.list.value;
    const last = rows.at(-1);
    const total = this.counts.value?.total ?? 0;
    if (last === undefined || this.#loadingOlder) return;
    if (rows.length >= Math.min(total, maxRows)) return;
    this.#loadingOlder = true;
    this.#load(withOlder, last.id);
  }

  #load(merge: Merge, before?: string): void {
    const { signal } = this.#search;
    const query = queryOf(this.#filter);
    query.set("limit", String(pageSize));
    if (before !== undefined) query.set("before", before);
    fetchCalls(query, signal)
      .then(
        (view) => {
          if (!signal.aborted) this.#take(view, merge);
        },
        (error: unknown) => {
          if (!signal.aborted) this.problem.set(messageOf(error));
        },
      )
      .finally(() => {
        if (before !== undefined) this.#loadingOlder = false;
      });
  }

  #take({ calls, total, kept, dropped }: CallsView, merge: Merge): void {
    this.problem.set(undefined);
    this.#learn(calls);
    this.counts.set({ total, kept, dropped });
    this.list.set(merge(this.list.value, calls));
  }

  /** Until the server is asked again. */
  #count(calls: readonly CallRow[], skipped: number): void {
    const { value } = this.counts;
    if (value === undefined) return;
    const fitting = calls.filter((call) => matches(call, this.#filter)).length;
    const kept = value.kept + calls.length + skipped;
    this.counts.set({ ...value, kept, total: value.total + fitting });
  }

  #catchUpSoon(): void {
    if (this.#catchingUp) return;
    this.#catchingUp = true;
    setTimeout(() => {
      this.#catchingUp = false;
      this.#load(withNewest);
    }, catchUpMs);
  }

  #learn(calls: readonly CallRow[]): void {
    let changed = false;
    const known = { ...this.known.value };
    for (const facet of facets) {
      const values = new Set(known[facet]);
      for (const call of calls) for (const value of valuesOf(call, facet)) values.add(value);
      if (values.size === known[facet].length || known[facet].length >= maxFacetValues) continue;
      known[facet] = [...values].sort().slice(0, maxFacetValues);
      changed = true;
    }
    if (changed) this.known.set(known);
  }

  #learnFromAll(): void {
    const query = new URLSearchParams({ limit: String(pageSize) });
    fetchCalls(query, this.#search.signal).then(
      ({ calls }) => this.#learn(calls),
      () => {
        // The filter works without it: it then offers what the calls of the present search have.
      },
    );
  }
}
