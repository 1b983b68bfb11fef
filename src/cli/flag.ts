import { hostname, userInfo } from "node:os";
import { flagKind, readFlagValue } from "../policies/flags/names.js";
import type { FlagValue } from "../policies/flags/source.js";
import { RedisFlagStore, type StoredFlag } from "../redis/flag-store.js";
import { RedisError } from "../redis/script.js";
import { type OpenRedis, placeIn } from "./redis-connection.js";
import { CommandError, readArguments, type Terminal, UsageError } from "./terminal.js";

const usualRedis = "redis://127.0.0.1:6379";
const usualPrefix = "weir:";

export const flagUsage = `Usage: grpc-weir flag list [options]
       grpc-weir flag get <flag> [options]
       grpc-weir flag set <flag> <value> [options]
       grpc-weir flag unset <flag> [options]

Sets flags of running processes, which have them from redisFlags().

  kill, kill.<pkg.Service>, kill.<pkg.Service>/<Method>   true: such calls are refused
  skip.<work>                                             true: this optional work is left out
  mode.<policy>, mode.<policy>.<what it was built for>    enforce, observe or off

Options:
  --redis <url>    (default the environment variable REDIS_URL, or ${usualRedis})
  --prefix <text>  what the keys of the processes begin with (default ${usualPrefix})
  --for <time>     with set: holds for so long, as in 90s, 10m, 2h or 1d (default until it is unset)
  --by <name>      with set: who does it (default who is logged in)
  --help           shows this

get ends with the exit code 1 when the flag is not set.
`;

const text = { type: "string" } as const;

/** One command about flags, checked. */
type Asked =
  | { readonly command: "list" }
  | { readonly command: "get" | "unset"; readonly name: string }
  | {
      readonly command: "set";
      readonly name: string;
      readonly value: FlagValue;
      readonly forMs: number | undefined;
      readonly by: string | undefined;
    };

/**
 * Lists, tells, sets or unsets flags in Redis.
 *
 * @throws CommandError
 */
export async function flag(
  args: readonly string[],
  terminal: Terminal,
  open: OpenRedis,
): Promise<void> {
  const { values, positionals } = readArguments(args, {
    redis: text,
    prefix: text,
    for: text,
    by: text,
  });
  if (values.help === true) {
    terminal.stdout.write(flagUsage);
    return;
  }
  const asked = read(positionals, values);
  const url = values.redis ?? terminal.env?.REDIS_URL ?? usualRedis;
  const { prefix = usualPrefix } = values;
  if (/[{}]/.test(prefix)) throw new UsageError("--prefix is a text without { and }");
  if (!/^rediss?:\/\/./.test(url)) {
    throw new UsageError("--redis is a URL that begins with redis:// or rediss://");
  }
  const connection = await open(url);
  try {
    const store = new RedisFlagStore("flag", connection.client, { prefix });
    terminal.stdout.write(await answer(asked, store));
  } catch (error) {
    if (!(error instanceof RedisError)) throw error;
    throw new CommandError(1, `Redis at ${placeIn(url)}: ${error.message}`);
  } finally {
    connection.close();
  }
}

/** Checks the arguments before anything is connected. */
function read(
  [command, name, value, ...more]: readonly string[],
  options: { readonly for?: string | undefined; readonly by?: string | undefined },
): Asked {
  const tooMany = (most: number) => {
    const given = [name, value, ...more].filter((one) => one !== undefined);
    if (given.length > most)
      throw new UsageError(`too many arguments: ${given.slice(most).join(" ")}`);
  };
  if (command !== "set") {
    for (const option of ["for", "by"] as const) {
      if (options[option] !== undefined) throw new UsageError(`--${option} belongs to flag set`);
    }
  }
  switch (command) {
    case undefined:
      throw new UsageError("flag takes one of list, get, set and unset");
    case "list":
      tooMany(0);
      return { command };
    case "get":
    case "unset":
      tooMany(1);
      return { command, name: nameOf(command, name) };
    case "set": {
      tooMany(2);
      const flag = nameOf(command, name);
      const by = options.by ?? whoIsLoggedIn();
      return { command, name: flag, value: valueFor(flag, value), forMs: timeIn(options.for), by };
    }
    default:
      throw new UsageError(`flag takes one of list, get, set and unset, not ${command}`);
  }
}

function nameOf(command: string, name: string | undefined): string {
  if (name === undefined) throw new UsageError(`flag ${command} takes the name of a flag`);
  const kind = flagKind(name);
  if (typeof kind !== "string") return name;
  // What was set by hand under a wrong name can be looked at and removed.
  if (command !== "set" && name !== "") return name;
  throw new UsageError(`there is no flag ${JSON.stringify(name)}: ${kind}`);
}

function valueFor(name: string, given: string | undefined): FlagValue {
  const kind = flagKind(name);
  const values: readonly FlagValue[] = typeof kind === "string" ? [] : kind.values;
  const allowed = values.join(", ");
  if (given === undefined)
    throw new UsageError(`flag set ${name} takes a value, one of ${allowed}`);
  const value = readFlagValue(given);
  if (values.includes(value)) return value;
  throw new UsageError(`${name} is one of ${allowed}, not ${JSON.stringify(given)}`);
}

const unitMs = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
/** A flag that should hold for longer belongs into the configuration. */
const longestMs = 365 * unitMs.d;

function timeIn(given: string | undefined): number | undefined {
  if (given === undefined) return undefined;
  const [, number, unit] = /^(\d{1,9})([smhd])$/.exec(given) ?? [];
  const ms = Object.entries(unitMs).find(([name]) => name === unit)?.[1];
  const forMs = Number(number) * (ms ?? Number.NaN);
  if (forMs > 0 && forMs <= longestMs) return forMs;
  throw new UsageError(
    `--for is a time up to 365d, such as 90s, 10m, 2h or 1d, not ${JSON.stringify(given)}`,
  );
}

/** For people only. A user without an entry in the system's list has no name. */
function whoIsLoggedIn(): string | undefined {
  try {
    return `${userInfo().username}@${hostname()}`;
  } catch {
    return hostname();
  }
}

async function answer(asked: Asked, store: RedisFlagStore): Promise<string> {
  switch (asked.command) {
    case "list":
      return listOf(await store.read());
    case "get": {
      const found = (await store.read())?.get(asked.name);
      if (found === undefined) throw new CommandError(1, `${asked.name} is not set`);
      return `${printable(String(found.value))}\n`;
    }
    case "set": {
      const { name, value, forMs, by } = asked;
      await store.set(name, value, {
        ...(by === undefined ? {} : { by }),
        ...(forMs === undefined ? {} : { forMs }),
      });
      return `${name} is ${value}${forMs === undefined ? ", until it is unset" : ` for ${timeText(forMs)}`}\n`;
    }
    case "unset": {
      const was = await store.unset(asked.name);
      return `${printable(asked.name)} ${was ? "is not set any more" : "was not set"}\n`;
    }
    default:
      return asked satisfies never;
  }
}

function listOf(flags: ReadonlyMap<string, StoredFlag> | undefined): string {
  if (flags === undefined || flags.size === 0) return "No flag is set.\n";
  const rows = [...flags]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([name, { value, setBy, ageMs, leftMs }]) => [
      name,
      String(value),
      leftMs === undefined ? "until it is unset" : `for ${timeText(leftMs)}`,
      setBy ?? "",
      ageMs === undefined ? "" : `${timeText(ageMs)} ago`,
    ]);
  const table = [["FLAG", "VALUE", "HOLDS", "SET BY", "SET"], ...rows].map((row) =>
    row.map(printable),
  );
  const widths = [0, 1, 2, 3, 4].map((column) =>
    Math.max(...table.map((row) => row[column]?.length ?? 0)),
  );
  return table
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "))
    .map((line) => `${line.trimEnd()}\n`)
    .join("");
}

/** The largest unit and the one below: `1h 5m`. */
function timeText(ms: number): string {
  let restMs = Math.round(ms / 1_000) * 1_000;
  const parts: string[] = [];
  for (const [unit, size] of Object.entries(unitMs).reverse()) {
    const count = Math.floor(restMs / size);
    restMs -= count * size;
    if (count > 0) parts.push(`${count}${unit}`);
    else if (parts.length > 0) break;
  }
  return parts.slice(0, 2).join(" ") || "0s";
}

/** Texts come from other programs: none may move the cursor of a terminal. */
function printable(cell: string): string {
  return cell.replace(/\p{Cc}/gu, "?");
}
