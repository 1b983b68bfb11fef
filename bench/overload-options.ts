import { parseArgs } from "node:util";
import { type Column, columns } from "./overload-columns.js";
import { type WorkName, works } from "./overload-handlers.js";

/** What is measured, and what is done with it. */
export interface OverloadOptions {
  readonly runs: number;
  /** Of each load. */
  readonly seconds: number;
  readonly works: readonly WorkName[];
  readonly columns: readonly Column[];
  /** Multiples of the peak. */
  readonly loads: readonly number[];
  /** Write the page and the plot. */
  readonly write: boolean;
  readonly json: string;
}

const allLoads = [0.5, 1, 2, 5, 10];

/** Throws a `TypeError` for what it does not know. */
export function overloadOptions(args: readonly string[]): OverloadOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: "boolean", default: false },
      write: { type: "boolean", default: false },
      runs: { type: "string" },
      seconds: { type: "string" },
      handlers: { type: "string" },
      columns: { type: "string" },
      loads: { type: "string" },
      json: { type: "string", default: "build/overload.json" },
    },
  });
  const { quick, write, json } = values;
  return {
    runs: positive("runs", values.runs, quick ? 1 : 3),
    seconds: positive("seconds", values.seconds, quick ? 1 : 2),
    works: named("handlers", values.handlers, works),
    columns: named("columns", values.columns, columns),
    loads:
      values.loads === undefined
        ? quick
          ? [0.5, 2, 10]
          : allLoads
        : values.loads.split(",").map((load) => positive("loads", load, Number.NaN)),
    write,
    json,
  };
}

function positive(name: string, text: string | undefined, usual: number): number {
  const value = text === undefined ? usual : Number(text);
  if (!(value > 0)) throw new TypeError(`--${name}: a number above 0, not ${text}`);
  return value;
}

function named<K extends string>(
  name: string,
  text: string | undefined,
  known: Readonly<Record<K, unknown>>,
): readonly K[] {
  const isKnown = (key: string): key is K => Object.hasOwn(known, key);
  if (text === undefined) return Object.keys(known).filter(isKnown);
  return text.split(",").map((key) => {
    if (isKnown(key)) return key;
    throw new TypeError(`--${name}: ${Object.keys(known).join(", ")}, not ${key}`);
  });
}
