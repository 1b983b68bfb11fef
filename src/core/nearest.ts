/**
 * The name that was probably meant: of all names that differ in at most two letters, or a third of the word, the nearest
 * one; the first one of those that are as near. A plural is as near as its singular: `retries` is `retry`.
 *
 * @returns `undefined` where none is near.
 */
export function nearest(word: string, names: readonly string[]): string | undefined {
  const given = word.toLowerCase();
  const singular = given.replace(/ies$/, "y");
  let found: string | undefined;
  let least = Math.max(2, Math.floor(given.length / 3)) + 1;
  for (const name of names) {
    const away = distanceBelow(least, given, singular, name.toLowerCase());
    if (away === undefined) continue;
    least = away;
    found = name;
  }
  return found;
}

/** How far a word, or its singular, is from a name, where that is less than `most`. */
function distanceBelow(most: number, given: string, singular: string, name: string) {
  let least: number | undefined;
  for (const word of singular === given ? [given] : [given, singular]) {
    if (Math.abs(name.length - word.length) >= (least ?? most)) continue;
    const away = distance(word, name);
    if (away < (least ?? most)) least = away;
  }
  return least;
}

/** How many letters have to be added, removed, replaced, or swapped with their neighbour. */
function distance(from: string, to: string): number {
  let before: number[] = [];
  let last = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= from.length; row += 1) {
    const next = [row];
    for (let column = 1; column <= to.length; column += 1) {
      const same = from[row - 1] === to[column - 1];
      let away = Math.min(
        (last[column] ?? 0) + 1,
        (next[column - 1] ?? 0) + 1,
        (last[column - 1] ?? 0) + (same ? 0 : 1),
      );
      const swapped = from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1];
      if (swapped && row > 1 && column > 1) away = Math.min(away, (before[column - 2] ?? 0) + 1);
      next.push(away);
    }
    before = last;
    last = next;
  }
  return last[to.length] ?? 0;
}
