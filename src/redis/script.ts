import { createHash } from "node:crypto";
import { type Clock, epochOffsetMs, expireAt, systemClock } from "../core/clock.js";
import { durationMs, InvalidOptionError } from "../core/options.js";
import { answerOf, userClock, warn } from "../core/user-code.js";
import type { RedisClient } from "./client.js";

/**
 * Options of everything that keeps its state in Redis.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface RedisOptions {
  /**
   * What the names of all its keys begin with, without `{` and `}`. Services that share a Redis and must not share state have
   * different ones. @defaultValue `"weir:"`
   */
  readonly prefix?: string;
  /**
   * How long an answer of Redis is awaited, from 1 to 60,000 milliseconds, over all that a question takes. After that the
   * question has failed, whatever the client still does with it. @defaultValue 1_000
   */
  readonly timeoutMs?: number;
  /** The time of this process. Tests hand in a virtual one. @defaultValue `systemClock` */
  readonly clock?: Clock;
}

/** The names of the options that everything in Redis has. */
export const redisOptionNames = ["prefix", "timeoutMs", "clock"] as const;

/**
 * Redis did not answer, or not as it should have. The message says what was asked, and holds no keys or values.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export class RedisError extends Error {
  override readonly name = "RedisError";
  /** What was asked. */
  readonly question: string;

  constructor(question: string, what: string) {
    super(`${question}: ${what}`);
    this.question = question;
  }
}

/** One atomic step in Redis. */
export interface Script {
  /** What it does, for error messages. */
  readonly name: string;
  readonly source: string;
  readonly sha1: string;
  /** It does what it does also when its question has failed meanwhile. */
  readonly evenLate: boolean;
}

/**
 * Makes a script of the body of a Lua function, which finds its keys in `KEYS`, its arguments in `ARGV`, and the time of Redis
 * in `nowUs`, in microseconds since the Unix epoch. It returns a table of texts without `nil`; `text(number)` writes a whole
 * number in digits.
 *
 * All keys of a script belong to one entry, and so to one slot of a cluster: see `ScriptRunner.key`.
 *
 * @param evenLate For a step that is right whenever it is made.
 */
export function script(name: string, body: string, { evenLate = false } = {}): Script {
  const source = `${prologue}${body.trim()}\n${epilogue}`;
  return { name, source, sha1: createHash("sha1").update(source).digest("hex"), evenLate };
}

/**
 * The last argument is the time of Redis after which nobody waits for the answer any more. A client keeps what it could not
 * send, and a server that hangs finds in its sockets what was sent long ago: both would run it late, for nobody.
 */
const prologue = `local time = redis.call('TIME')
local nowUs = time[1] * 1000000 + time[2]
local function text(number) return string.format('%.0f', number) end
if nowUs > tonumber(ARGV[#ARGV]) then return {text(nowUs), 'late'} end
local function run()
`;
const epilogue = `end
local answer = run()
table.insert(answer, 1, 'ran')
table.insert(answer, 1, text(nowUs))
return answer
`;

/** Questions that were given up and are still with the client. More are not sent, so that an outage does not fill the memory. */
const maxGivenUp = 1_000;

/**
 * Runs scripts: by `EVALSHA`, with `EVAL` where the server does not know the script; within a time that holds whatever the
 * client does.
 *
 * A question that has failed may have been answered: the answer may be lost, or late. A script that has not begun by the time
 * at which its question fails does nothing, unless it is made for `evenLate`. The runner tells Redis that time by the clock of
 * Redis, which it knows from the last answer, to within the time that that answer took, and at first takes for its own. Where
 * that is wrong, Redis says so in time, and the question is asked again with what has been learnt.
 */
export class ScriptRunner {
  readonly #client: RedisClient;
  readonly #prefix: string;
  readonly #timeoutMs: number;
  readonly #clock: Clock;
  /** What is added to the time of this process for the latest time that it can be in Redis, in milliseconds. */
  #aheadMs: number;
  #givenUp = 0;

  /** @param option What the options are called, for errors about them. */
  constructor(option: string, client: RedisClient, options: RedisOptions = {}) {
    this.#client = client;
    this.#prefix = keyPrefix(`${option}.prefix`, options.prefix ?? "weir:");
    this.#timeoutMs = timeoutMs(`${option}.timeoutMs`, options.timeoutMs ?? 1_000);
    this.#clock = userClock(options.clock ?? systemClock, warn);
    this.#aheadMs = epochOffsetMs(this.#clock);
  }

  /**
   * The name of an entry's key. Where an entry has several, each is this name with something of its own behind it: the part in
   * braces, which alone decides on the slot in a cluster, is the same.
   *
   * @param kind What keeps it there, which no other uses: `idem`.
   */
  key(kind: string, id: string): string {
    return `${this.#prefix}{${kind}:${id}}`;
  }

  /**
   * @param onGivenUp Is called when the question fails because it was not answered in time, with the answer that may still come.
   * @returns What the script returned.
   * @throws RedisError when it did not answer in time, or with an error.
   */
  run(
    asked: Script,
    keys: readonly string[],
    args: readonly string[],
    onGivenUp?: (late: Promise<readonly string[]>) => void,
  ): Promise<readonly string[]> {
    if (this.#givenUp >= maxGivenUp) {
      return Promise.reject(
        new RedisError(asked.name, `Redis owes the answers to ${maxGivenUp} earlier questions`),
      );
    }
    const dueMs = this.#clock.now() + this.#timeoutMs;
    return new Promise((resolve, reject) => {
      let givenUp = false;
      const answered = this.#ask(asked, keys, args, dueMs);
      const cancel = expireAt(this.#clock, dueMs, this.#timeoutMs, () => {
        givenUp = true;
        this.#givenUp += 1;
        reject(new RedisError(asked.name, `Redis did not answer in ${this.#timeoutMs} ms`));
        onGivenUp?.(answered);
      });
      const settle = (end: () => void) => {
        if (givenUp) {
          this.#givenUp -= 1;
        } else {
          cancel();
          end();
        }
      };
      answered.then(
        (answer) => settle(() => resolve(answer)),
        (error: unknown) => settle(() => reject(failure(asked, error))),
      );
    });
  }

  async #ask(
    asked: Script,
    keys: readonly string[],
    args: readonly string[],
    dueMs: number,
  ): Promise<readonly string[]> {
    const sentMs = this.#clock.now();
    const [verdict, ...answer] = await this.#send(asked, keys, args, dueMs);
    if (verdict === "ran") return answer;
    // Redis called it late, and yet its answer is here in time: its clock is ahead of where it was believed to be.
    if (this.#clock.now() < dueMs) {
      const [second, ...late] = await this.#send(asked, keys, args, dueMs);
      if (second === "ran") return late;
    }
    const tookMs = Math.round(this.#clock.now() - sentMs);
    throw new RedisError(asked.name, `Redis got to it too late, after ${tookMs} ms`);
  }

  /** Sends it once, and learns from the answer where the clock of Redis is. */
  async #send(
    asked: Script,
    keys: readonly string[],
    args: readonly string[],
    dueMs: number,
  ): Promise<readonly string[]> {
    const all = [...args, String(this.#latestUs(asked, dueMs))];
    let sentMs = this.#clock.now();
    let reply: unknown;
    try {
      reply = await answerOf(() => this.#client.evalsha(asked.sha1, keys, all));
    } catch (error) {
      if (!messageOf(error).startsWith("NOSCRIPT")) throw error;
      if (this.#clock.now() >= dueMs && !asked.evenLate) throw error;
      sentMs = this.#clock.now();
      reply = await answerOf(() => this.#client.eval(asked.source, keys, all));
    }
    const [stampUs, ...answer] = texts(asked, reply);
    // What comes too late says only that it took long.
    if (this.#clock.now() < dueMs) this.#aheadMs = Number(stampUs) / 1_000 - sentMs;
    return answer;
  }

  #latestUs(asked: Script, dueMs: number): number {
    if (asked.evenLate) return Number.MAX_SAFE_INTEGER;
    return Math.ceil((dueMs + this.#aheadMs) * 1_000);
  }
}

function keyPrefix(option: string, value: unknown): string {
  if (typeof value === "string" && !/[{}]/.test(value)) return value;
  throw new InvalidOptionError(option, "a text without { and }", value);
}

function timeoutMs(option: string, value: unknown): number {
  const ms = durationMs(option, value, 1);
  if (ms <= 60_000) return ms;
  throw new InvalidOptionError(option, "milliseconds from 1 to 60000", value);
}

/** Clients may be told to decode texts as bytes and numbers as texts. */
function texts(asked: Script, reply: unknown): readonly string[] {
  if (!Array.isArray(reply)) throw new RedisError(asked.name, "Redis answered with no list");
  return reply.map((part: unknown) => {
    if (typeof part === "string") return part;
    if (part instanceof Uint8Array) return new TextDecoder().decode(part);
    throw new RedisError(asked.name, "Redis answered with something else than texts");
  });
}

/**
 * The error without what a client adds to it: ioredis adds the command with its arguments, which are the data of calls. Redis
 * itself repeats arguments only of a command that it does not know. It says, too, which line of which script failed.
 */
function failure(asked: Script, error: unknown): RedisError {
  if (error instanceof RedisError) return error;
  const [text = ""] = messageOf(error).split(/,? with args beginning with| script: [0-9a-f]{40}/);
  return new RedisError(asked.name, text.slice(0, 300) || "the client failed without a message");
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
