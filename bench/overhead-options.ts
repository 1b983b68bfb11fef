import { parseArgs } from "node:util";

/** What is measured, and what is done with it. */
export interface OverheadOptions {
  /** By name: a path, or nothing for the package of npm with this version. */
  readonly nodes: ReadonlyMap<string, string | undefined>;
  /** How often everything is measured, each time in new processes. */
  readonly sets: number;
  /** Turns of each row that are kept. */
  readonly rounds: number;
  /** Turns at a fixed rate, of each row. */
  readonly pacedTurns: number;
  /** Minor collections that each row is watched for. */
  readonly collections: number;
  /** Write the page and the plot. */
  readonly write: boolean;
  readonly json: string;
}

/** Throws a `TypeError` for what it does not know. */
export function overheadOptions(args: readonly string[]): OverheadOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: "boolean", default: false },
      write: { type: "boolean", default: false },
      nodes: { type: "string" },
      sets: { type: "string" },
      json: { type: "string", default: "build/overhead.json" },
    },
  });
  const { quick, write, json } = values;
  return {
    nodes: nodesIn(values.nodes),
    sets: count("sets", values.sets, quick ? 2 : 5),
    rounds: quick ? 6 : 15,
    pacedTurns: quick ? 1 : 3,
    collections: quick ? 2 : 3,
    write,
    json,
  };
}

function count(name: string, text: string | undefined, usual: number): number {
  const value = text === undefined ? usual : Number(text);
  if (!(Number.isInteger(value) && value > 0)) {
    throw new TypeError(`--${name}: a whole number above 0, not ${text}`);
  }
  return value;
}

/** `20=/path/node,24`: a name and a path, or a version by itself. */
function nodesIn(text: string | undefined): ReadonlyMap<string, string | undefined> {
  if (text === undefined) return new Map([[process.versions.node, process.execPath]]);
  const nodes = text.split(",").map((entry) => {
    const [name = "", path] = entry.split("=");
    if (name === "" || path === "") throw new TypeError(`--nodes: 24 or 24=/path, not ${entry}`);
    return [name, path] as const;
  });
  return new Map(nodes);
}
