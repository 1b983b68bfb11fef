import { describe, expect, it } from "vitest";
import {
  type CallListState,
  emptyList,
  maxRows,
  pausedList,
  resumedList,
  withLive,
  withNewest,
  withOlder,
} from "../../../viewer-page/src/calls/call-list.js";
import { callRow } from "./call-row.js";

const rows = (...numbers: number[]) => numbers.map((number) => callRow(number));
const shown = ({ rows: list }: CallListState) => list.map(({ startMs }) => startMs);
const held = ({ held: list }: CallListState) => list.map(({ startMs }) => startMs);

describe("the list of calls", () => {
  it("shows live calls above the others, each once", () => {
    const first = withLive(emptyList, rows(1, 2));
    expect(shown(withLive(first, rows(2, 3, 4)))).toEqual([4, 3, 2, 1]);
  });

  it("holds live calls while it is paused, and shows them then", () => {
    const paused = withLive(pausedList(withLive(emptyList, rows(1))), rows(2, 3));
    expect([shown(paused), held(paused)]).toEqual([[1], [3, 2]]);
    const resumed = resumedList(paused);
    expect([shown(resumed), held(resumed), resumed.paused]).toEqual([[3, 2, 1], [], false]);
  });

  it("takes the newest page from the server above what it has", () => {
    expect(shown(withNewest(withLive(emptyList, rows(1, 2)), rows(4, 3, 2)))).toEqual([4, 3, 2, 1]);
  });

  it("shows no list with a hole: a page that has nothing in common with it takes its place", () => {
    expect(shown(withNewest(withLive(emptyList, rows(1, 2)), rows(9, 8)))).toEqual([9, 8]);
  });

  it("adds older calls below", () => {
    expect(shown(withOlder(withLive(emptyList, rows(5, 6)), rows(5, 4, 3)))).toEqual([6, 5, 4, 3]);
  });

  it("keeps a bounded number of rows, and of held calls", () => {
    const many = Array.from({ length: maxRows + 5 }, (_, index) => callRow(index));
    const full = withLive(emptyList, many);
    expect([full.rows.length, full.rows[0]?.startMs]).toEqual([maxRows, maxRows + 4]);
    const paused = withLive(pausedList(emptyList), many);
    expect([paused.held.length, paused.held[0]?.startMs]).toEqual([maxRows, maxRows + 4]);
    expect(resumedList(paused).rows).toHaveLength(maxRows);
  });

  it("stays the same object while nothing changes", () => {
    const list = withLive(emptyList, rows(1));
    expect(withLive(list, rows(1))).toBe(list);
    expect(resumedList(list)).toBe(list);
    const paused = pausedList(list);
    expect(pausedList(paused)).toBe(paused);
  });
});
