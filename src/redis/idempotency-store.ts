import { readOptions } from "../core/options.js";
import type { ClaimAnswer, IdempotencyStore, KeyClaim } from "../policies/idempotency/store.js";
import type { RedisClient } from "./client.js";
import { RedisError, type RedisOptions, redisOptionNames, ScriptRunner, script } from "./script.js";

// An entry is a hash. Its fields are:
//
//   token        the last token that was given out for the key
//   fingerprint  of the request that the key belongs to; a key that was released has none
//   holder       of the lease
//   until        when the lease runs out, in microseconds of the time of Redis; only while somebody holds the key
//   answer       in base64; only when the call has been answered
//
// No entry goes before the time of Redis has passed its token, also a key that was released: so tokens grow even where that
// time is put back. Where it has been, the next token is larger by a number that the holder's name decides: after a failover
// two servers may both go on from the same token, and must not come to the same one.
//
// A Redis that is full refuses the first command of a script that needs memory, unless the script has written before. A claim
// begins with one, and is refused. The others begin with the expiry, so that calls that run keep their leases and get their
// answers stored: their effects are made already.
//
// Answers and releases are right even when they reach Redis late, as long as the token holds the key: the call has ended. A claim
// is not, and is run in time or not at all.

/** `expire(atUs, token)`: the entry goes at that time, or when the time has passed its token. */
const expire = `
local function expire(atUs, token)
  redis.call('PEXPIREAT', KEYS[1], text(math.floor(math.max(atUs, token) / 1000) + 1))
end
`;

/** Arguments: fingerprint, holder, leaseMs, ttlMs. */
const claim = script(
  "claim of an idempotency key",
  `${expire}
local entry = redis.call('HMGET', KEYS[1], 'token', 'fingerprint', 'holder', 'until', 'answer')
local last, untilUs, answer = tonumber(entry[1] or 0), tonumber(entry[4] or 0), entry[5]
if entry[2] and entry[2] ~= ARGV[1] then return {'mismatch'} end
if answer then return {'done', answer} end
if untilUs > nowUs then
  if entry[3] == ARGV[2] then return {'started', entry[1]} end
  return {'running', text(untilUs - nowUs)}
end
local token = nowUs
if token <= last then
  token = last + 1 + tonumber(string.sub(redis.sha1hex(ARGV[2]), 1, 5), 16)
end
local leaseUs = ARGV[3] * 1000
redis.call('HSET', KEYS[1], 'token', text(token), 'fingerprint', ARGV[1], 'holder', ARGV[2],
  'until', text(nowUs + leaseUs))
expire(nowUs + math.max(2 * leaseUs, ARGV[4] * 1000), token)
return {'started', text(token)}
`,
);

/** Arguments: token, leaseMs. */
const renew = script(
  "renewal of an idempotency key",
  `${expire}
local entry = redis.call('HMGET', KEYS[1], 'token', 'until')
if entry[1] ~= ARGV[1] or not entry[2] then return {'no'} end
local leaseUs = ARGV[2] * 1000
local leftUs = redis.call('PTTL', KEYS[1]) * 1000
expire(nowUs + math.max(2 * leaseUs, leftUs), tonumber(ARGV[1]))
redis.call('HSET', KEYS[1], 'until', text(nowUs + leaseUs))
return {'yes'}
`,
);

/** Arguments: token, answer, ttlMs. */
const complete = script(
  "completion of an idempotency key",
  `${expire}
local entry = redis.call('HMGET', KEYS[1], 'token', 'until')
if entry[1] ~= ARGV[1] then return {'no'} end
if not entry[2] then
  return {redis.call('HEXISTS', KEYS[1], 'answer') == 1 and 'yes' or 'no'}
end
expire(nowUs + ARGV[3] * 1000, tonumber(ARGV[1]))
redis.call('HSET', KEYS[1], 'answer', ARGV[2])
redis.call('HDEL', KEYS[1], 'until', 'holder')
return {'yes'}
`,
  { evenLate: true },
);

/** Arguments: token. */
const release = script(
  "release of an idempotency key",
  `${expire}
local entry = redis.call('HMGET', KEYS[1], 'token', 'until')
if entry[1] ~= ARGV[1] or not entry[2] then return {'no'} end
redis.call('HDEL', KEYS[1], 'until', 'holder', 'fingerprint')
expire(nowUs, tonumber(ARGV[1]))
return {'yes'}
`,
  { evenLate: true },
);

/**
 * An idempotency store in Redis, for all servers that answer the same calls. Each step is one script, and one round trip. Time
 * is the time of Redis, so that the clocks of the servers do not matter.
 *
 * What holds, and where it ends:
 *
 * - **One Redis that keeps its data.** A key has one holder at a time, an answer that was stored is given to every later claim
 *   of its time, and tokens of a key only grow: also where leases run out, keys are released, and the clock of Redis is put
 *   back. (A clock that is put back makes leases last longer by as much, one that is put forward makes them shorter.)
 * - **A Redis that loses data**: restarted without persistence, or evicting (`maxmemory-policy` other than `noeviction`). What
 *   is lost counts as never claimed, so a call whose answer was lost runs again, and one that still runs may run a second time
 *   beside itself. The holder from before neither renews, completes nor releases, and the new token is larger than its
 *   token, unless the clock was put back meanwhile: a handler that writes under the token is protected from the old one.
 * - **A failover.** Replication is asynchronous, and nothing here waits for it: `WAIT` cannot take back what a script has
 *   done, and `min-replicas-to-write` only bounds how much is lost. What the promoted replica had not received counts as lost,
 *   as above: the last claims, and also the last answers, for calls whose clients have been told OK. A claim that has begun
 *   on both sides has two holders. The new one's token comes from the clock of the promoted replica: where that is
 *   behind the clock of the old one by more than the time since the old token, the new token is smaller. A resource that
 *   refuses smaller tokens then refuses the new holder, until the clocks have caught up: the effect is still made once, but
 *   by the old holder. A master that is cut off and not yet demoted answers those who still reach it.
 * - **A Redis that is full** and evicts nothing refuses claims that would start: these reject. Answers that it has are still
 *   given. Calls that run keep their leases, and their answers are stored, beyond `maxmemory` by as much as these take.
 *
 * So run it with `maxmemory-policy noeviction` and enough memory, with `appendonly yes` (`appendfsync always` where a crash of the
 * machine must lose nothing), and keep the clocks of masters and replicas together. An entry takes about 300 bytes while its
 * call runs; then 500 bytes and up to one and a half times its answer, until the end of its time to live.
 *
 * In a cluster each entry is one key, so that any slot will do. Redis 5 or newer; a client of `ioredis` or of `redis`.
 *
 * @param client What {@link fromIoredis} or {@link fromNodeRedis} made of your client.
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 *
 * @example
 * ```ts
 * const store = redisIdempotencyStore(fromIoredis(new Redis("redis://cache:6379")));
 * ```
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export function redisIdempotencyStore(
  client: RedisClient,
  options: RedisOptions = {},
): IdempotencyStore {
  const where = "redisIdempotencyStore";
  const runner = new ScriptRunner(where, client, readOptions(where, options, redisOptionNames));
  return new RedisIdempotencyStore(runner);
}

class RedisIdempotencyStore implements IdempotencyStore {
  readonly #runner: ScriptRunner;
  /** The last claims of holders who have given them up, and whose answers may still come. */
  readonly #givenUp = new Map<string, Promise<readonly string[]>>();

  constructor(runner: ScriptRunner) {
    this.#runner = runner;
  }

  async claim(
    key: string,
    { fingerprint, holder, leaseMs, ttlMs }: KeyClaim,
  ): Promise<ClaimAnswer> {
    // The same claim made again takes over what becomes of the first.
    this.#givenUp.delete(holder);
    const args = [fingerprint, holder, String(leaseMs), String(ttlMs)];
    const [kind, value = ""] = await this.#runner.run(claim, this.#keys(key), args, (late) =>
      this.#giveBack(key, holder, late),
    );
    if (kind === "started") return { kind, token: Number(value) };
    if (kind === "running") return { kind, leaseLeftMs: Number(value) / 1_000 };
    if (kind === "done") return { kind, answer: Buffer.from(value, "base64") };
    if (kind === "mismatch") return { kind };
    throw new RedisError(claim.name, "the entry has another format");
  }

  /** Releases the key when a claim that was given up has started: else it would be held for a lease, and nobody would run. */
  #giveBack(key: string, holder: string, late: Promise<readonly string[]>): void {
    this.#givenUp.set(holder, late);
    const settled = ([kind, token = ""]: readonly string[]) => {
      if (this.#givenUp.get(holder) !== late) return;
      this.#givenUp.delete(holder);
      // If that fails, the lease runs out.
      if (kind === "started") this.release(key, Number(token)).catch(() => {});
    };
    late.then(settled, () => settled([]));
  }

  async renew(key: string, token: number, leaseMs: number): Promise<boolean> {
    const args = [String(token), String(leaseMs)];
    return saysYes(await this.#runner.run(renew, this.#keys(key), args));
  }

  async complete(key: string, token: number, answer: Uint8Array, ttlMs: number): Promise<boolean> {
    const bytes = Buffer.from(answer.buffer, answer.byteOffset, answer.byteLength);
    const args = [String(token), bytes.toString("base64"), String(ttlMs)];
    return saysYes(await this.#runner.run(complete, this.#keys(key), args));
  }

  async release(key: string, token: number): Promise<boolean> {
    return saysYes(await this.#runner.run(release, this.#keys(key), [String(token)]));
  }

  #keys(key: string): readonly string[] {
    return [this.#runner.key("idem", key)];
  }
}

function saysYes([answer]: readonly string[]): boolean {
  return answer === "yes";
}
