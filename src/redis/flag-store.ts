import { isRecord } from "../core/options.js";
import { readFlagValue } from "../policies/flags/names.js";
import type { FlagValue } from "../policies/flags/source.js";
import type { RedisClient } from "./client.js";
import { type RedisOptions, ScriptRunner, script } from "./script.js";

// All flags are one hash, so that they are read and changed in one step. Its fields are the names of the flags, and `#`, which
// counts the changes: Redis deletes an empty hash, and with `#` in it, a hash that is not there was lost and not emptied.
//
// A value is JSON: {"value": "true", "atMs": …, "untilMs": …, "by": …}, in the time of Redis; `untilMs` and `by` may be absent.
// One that somebody has set by hand may be a bare `true`. Who changes a flag says so on the channel with the name of the hash.

/** What the field that counts changes is called. No flag is called so. */
const count = "#";

const read = script(
  "read of the flags",
  `local all = redis.call('HGETALL', KEYS[1])
table.insert(all, 1, text(math.floor(nowUs / 1000)))
return all
`,
);

/** `changed()`: counts a change, drops what has expired, and tells who listens. `ARGV[1]` is the channel. */
const changed = `
local function changed()
  redis.call('HINCRBY', KEYS[1], '${count}', 1)
  local all = redis.call('HGETALL', KEYS[1])
  for index = 1, #all, 2 do
    local untilMs = string.match(all[index + 1], '"untilMs":(%d+)')
    if untilMs and tonumber(untilMs) * 1000 <= nowUs then redis.call('HDEL', KEYS[1], all[index]) end
  end
  redis.call('PUBLISH', ARGV[1], '')
end
`;

/** Arguments: channel, flag, value, who sets it or '', for how many milliseconds or ''. */
const set = script(
  "setting of a flag",
  `${changed}
local nowMs = math.floor(nowUs / 1000)
local entry = '{"value":' .. cjson.encode(ARGV[3]) .. ',"atMs":' .. text(nowMs)
if ARGV[4] ~= '' then entry = entry .. ',"by":' .. cjson.encode(ARGV[4]) end
if ARGV[5] ~= '' then entry = entry .. ',"untilMs":' .. text(nowMs + ARGV[5]) end
-- A Redis that is full refuses what needs memory, unless the script has written before.
redis.call('HDEL', KEYS[1], ARGV[2])
redis.call('HSET', KEYS[1], ARGV[2], entry .. '}')
changed()
return {}
`,
);

/** Arguments: channel, flag. */
const unset = script(
  "unsetting of a flag",
  `${changed}
local was = redis.call('HDEL', KEYS[1], ARGV[2])
changed()
return {was == 1 and 'yes' or 'no'}
`,
);

/** A flag, as Redis has it. */
export interface StoredFlag {
  readonly value: FlagValue;
  readonly setBy: string | undefined;
  /** How long ago it was set, in milliseconds; `undefined` where that is not known. */
  readonly ageMs: number | undefined;
  /** For how much longer it holds, in milliseconds; `undefined` for as long as it is not unset. */
  readonly leftMs: number | undefined;
}

/**
 * How a flag is set.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface SetFlagOptions {
  /** Who sets it, for people. @defaultValue not told */
  readonly by?: string;
  /** For how many milliseconds it holds. @defaultValue until it is unset */
  readonly forMs?: number;
}

/** The flags that processes share, in Redis. */
export class RedisFlagStore {
  readonly #runner: ScriptRunner;
  readonly #key: string;

  /** @param option What the options are called, for errors about them. */
  constructor(option: string, client: RedisClient, options: RedisOptions) {
    this.#runner = new ScriptRunner(option, client, options);
    this.#key = this.#runner.key("flags", "all");
  }

  /** On which channel changes are told. */
  get channel(): string {
    return this.#key;
  }

  /**
   * All flags that are set, by name; `undefined` where Redis has never had any, or has lost them.
   *
   * @throws RedisError
   */
  async read(): Promise<ReadonlyMap<string, StoredFlag> | undefined> {
    const [now = "", ...fields] = await this.#runner.run(read, [this.#key], []);
    if (fields.length === 0) return undefined;
    const flags = new Map<string, StoredFlag>();
    for (let index = 0; index + 1 < fields.length; index += 2) {
      const [name = "", text = ""] = fields.slice(index, index + 2);
      const flag = name === count ? undefined : storedFlag(text, Number(now));
      if (flag !== undefined) flags.set(name, flag);
    }
    return flags;
  }

  /** @throws RedisError */
  async set(name: string, value: FlagValue, { by = "", forMs }: SetFlagOptions): Promise<void> {
    const until = forMs === undefined ? "" : String(Math.ceil(forMs));
    await this.#runner.run(set, [this.#key], [this.channel, name, String(value), by, until]);
  }

  /**
   * @returns Whether it was set.
   * @throws RedisError
   */
  async unset(name: string): Promise<boolean> {
    const [was] = await this.#runner.run(unset, [this.#key], [this.channel, name]);
    return was === "yes";
  }
}

/** `undefined` for one that has expired. */
function storedFlag(text: string, nowMs: number): StoredFlag | undefined {
  const entry = entryIn(text);
  const { value, by, atMs, untilMs } = entry;
  const leftMs = typeof untilMs === "number" ? untilMs - nowMs : undefined;
  if (leftMs !== undefined && leftMs <= 0) return undefined;
  return {
    value: readFlagValue(String(value)),
    setBy: typeof by === "string" ? by : undefined,
    ageMs: typeof atMs === "number" ? Math.max(0, nowMs - atMs) : undefined,
    leftMs,
  };
}

/** What was set by hand is no JSON of ours: then the whole text is the value. */
function entryIn(text: string): Readonly<Record<string, unknown>> {
  try {
    const entry: unknown = JSON.parse(text);
    if (isRecord(entry) && "value" in entry) return entry;
  } catch {
    // As below.
  }
  return { value: text };
}
