/** The rows of a long list that can be seen. */
export interface VisibleRows {
  readonly first: number;
  /** The one behind the last. */
  readonly end: number;
}

/** Some rows more than can be seen, so that a quick scroll does not show a gap. */
const spareRows = 8;

export function visibleRows(
  count: number,
  rowHeight: number,
  scrollTop: number,
  height: number,
): VisibleRows {
  const first = Math.max(0, Math.floor(scrollTop / rowHeight) - spareRows);
  const end = Math.min(count, Math.ceil((scrollTop + height) / rowHeight) + spareRows);
  return { first: Math.min(first, Math.max(0, end - 1)), end };
}

/** The scroll position at which a row can be seen whole; the present one if it can already. */
export function scrolledTo(
  index: number,
  rowHeight: number,
  scrollTop: number,
  height: number,
): number {
  const top = index * rowHeight;
  if (top < scrollTop) return top;
  return top + rowHeight > scrollTop + height ? top + rowHeight - height : scrollTop;
}
