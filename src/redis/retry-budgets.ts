import { createHash, randomUUID } from "node:crypto";
import { systemClock } from "../core/clock.js";
import { durationMs, optionalFunction, readOptions } from "../core/options.js";
import { type ReportError, userClock, warn } from "../core/user-code.js";
import { type BudgetRules, ranks, slices } from "../policies/retry/budget-counts.js";
import { type BudgetLedger, SharedRetryBudgets } from "../policies/retry/shared-budget.js";
import type { RedisClient } from "./client.js";
import { RedisError, type RedisOptions, redisOptionNames, ScriptRunner, script } from "./script.js";

// A budget is two keys. The first is a hash with these fields:
//
//   <slice>:<n>  calls (n from 1 to 4) and extra attempts (5 to 8) of a priority in a slice of the window
//   t<n>         thousandths of tokens that the failures of a priority have taken
//
// The second is a sorted set: the processes, by the time at which they are taken to have left, in microseconds.

/**
 * Arguments: the process, how long it is taken to be there, sliceUs, slices, maxMilliTokens (0 for none), milliTokenRatio; then, by
 * priority: calls, extra attempts, successes, failures. Answers calls, extra attempts and what is taken by priority, and how many
 * processes there are.
 */
const report = script(
  "report to a retry budget",
  `
local us, ranks = tonumber(ARGV[3]), ${ranks}
local function seen(what, rank) return tonumber(ARGV[6 + what * ranks + rank]) end

local slice = math.floor(nowUs / us)
for n = 1, 2 * ranks do
  local more = tonumber(ARGV[6 + n])
  if more ~= 0 then redis.call('HINCRBY', KEYS[1], text(slice) .. ':' .. n, text(more)) end
end
local sums, taken = {}, {}
for n = 1, 2 * ranks do sums[n] = 0 end
for n = 1, ranks do taken[n] = 0 end
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local of, n = string.match(fields[i], '^(%d+):(%d+)$')
  if of then
    -- Of a clock that was put back, there are slices to come.
    if tonumber(of) <= slice - tonumber(ARGV[4]) or tonumber(of) > slice then
      redis.call('HDEL', KEYS[1], fields[i])
    else
      sums[tonumber(n)] = sums[tonumber(n)] + tonumber(fields[i + 1])
    end
  else
    taken[tonumber(string.sub(fields[i], 2))] = tonumber(fields[i + 1])
  end
end

local max = tonumber(ARGV[5])
if max > 0 then
  local left = max
  for n = 1, ranks do left = left - taken[n] end
  -- Returns up to 'most' of what a priority has taken.
  local function back(n, most)
    local returned = math.min(taken[n], most)
    taken[n] = taken[n] - returned
    left = left + returned
    return returned
  end
  for rank = 1, ranks do
    local need = 1000 * seen(3, rank)
    for n = ranks, rank + 1, -1 do
      if left < need then back(n, need - left) end
    end
    local took = math.max(0, math.min(need, left))
    left = left - took
    taken[rank] = taken[rank] + took
  end
  for rank = 1, ranks do
    local rest = seen(2, rank) * tonumber(ARGV[6])
    rest = rest - back(rank, rest)
    for n = 1, ranks do rest = rest - back(n, rest) end
  end
  for n = 1, ranks do
    if taken[n] > 0 then
      redis.call('HSET', KEYS[1], 't' .. n, text(taken[n]))
    else
      redis.call('HDEL', KEYS[1], 't' .. n)
    end
  end
end

-- Longer than the window, because tokens do not come back with time.
local keepMs = text(math.max(600000, us * tonumber(ARGV[4]) / 500))
redis.call('PEXPIRE', KEYS[1], keepMs)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', text(nowUs))
redis.call('ZADD', KEYS[2], text(nowUs + tonumber(ARGV[2]) * 1000), ARGV[1])
redis.call('PEXPIRE', KEYS[2], keepMs)
local answer = {}
for n = 1, 2 * ranks do answer[n] = text(sums[n]) end
for n = 1, ranks do answer[2 * ranks + n] = text(taken[n]) end
answer[3 * ranks + 1] = text(redis.call('ZCARD', KEYS[2]))
return answer
`,
);

/**
 * Retry budgets that all processes of a fleet share.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface RedisRetryBudgetsOptions extends RedisOptions {
  /**
   * How often a process reports what it has seen of a target, 20 ms to 24 days. It reports only what is new, and sooner when it
   * has used up half of its share. @defaultValue 250
   */
  readonly reportMs?: number;
  /** Is told that Redis does not answer, once per second at most. @defaultValue emits a process warning */
  readonly onError?: ReportError;
}

const known = [
  ...redisOptionNames,
  "reportMs",
  "onError",
] as const satisfies readonly (keyof RedisRetryBudgetsOptions)[];

/**
 * For `budget.share` of retries and hedges: the budget of a target is that of all processes together that have equal numbers in
 * `budget`. What some see of a target, all know within `reportMs`: a target that breaks gets no more extra attempts from any of
 * them, and a process with few calls of its own may use what the calls of the others allow. Calls never wait for Redis.
 *
 * How exact it is: of what is left for all, a process uses between two answers at most its share, `left / (2 * processes)` and at
 * least one, so all together pass the bound of one budget by no more than one share of each.
 *
 * While Redis does not answer, each process has the budget that it would have alone, with all its numbers. Retries that it
 * allows then have a decision with the reason `STORE_AWAY`, and the gauge `weir.store.away` is 1. It asks again once per second,
 * while there are calls.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export function redisRetryBudgets(
  client: RedisClient,
  given: RedisRetryBudgetsOptions = {},
): SharedRetryBudgets {
  const options = readOptions("redisRetryBudgets", given, known);
  const { reportMs = 250, onError } = options;
  const everyMs = durationMs("redisRetryBudgets.reportMs", reportMs, 20);
  return new SharedRetryBudgets(
    new RedisBudgetLedger(new ScriptRunner("redisRetryBudgets", client, options), everyMs),
    everyMs,
    userClock(options.clock ?? systemClock, warn),
    optionalFunction("redisRetryBudgets.onError", onError) ?? warn,
    "redisRetryBudgets",
  );
}

class RedisBudgetLedger implements BudgetLedger {
  readonly #runner: ScriptRunner;
  /** Names this process. */
  readonly #process = randomUUID();
  readonly #staysMs: number;

  constructor(runner: ScriptRunner, reportMs: number) {
    this.#runner = runner;
    this.#staysMs = Math.max(2_000, 4 * reportMs);
  }

  async report(
    ...[name, { calls, extras, successes, failures }, rules]: Parameters<BudgetLedger["report"]>
  ): ReturnType<BudgetLedger["report"]> {
    const { windowMs, maxMilliTokens, milliTokenRatio } = rules;
    const key = this.#runner.key("budget", nameOf(name, rules));
    const numbers = [
      this.#staysMs,
      (windowMs * 1_000) / slices,
      slices,
      maxMilliTokens === false ? 0 : maxMilliTokens,
      milliTokenRatio,
      ...[calls, extras, successes, failures].flat(),
    ];
    const keys = [key, `${key}:processes`];
    const answer = await this.#runner.run(report, keys, [this.#process, ...numbers.map(String)]);
    const told = answer.map(Number);
    if (told.length !== 3 * ranks + 1 || !told.every(Number.isFinite)) {
      throw new RedisError(report.name, "Redis answered with other numbers than those of a budget");
    }
    return {
      calls: told.slice(0, ranks),
      extras: told.slice(ranks, 2 * ranks),
      takenBy: told.slice(2 * ranks, 3 * ranks),
      processes: told[3 * ranks] ?? 1,
    };
  }
}

/** Budgets with other numbers are others, and the name of a target may be long. */
function nameOf(name: string, rules: BudgetRules): string {
  const { ratio, minPerSecond, windowMs, maxMilliTokens, milliTokenRatio } = rules;
  const all = [name, ratio, minPerSecond, windowMs, maxMilliTokens, milliTokenRatio];
  return createHash("sha256").update(JSON.stringify(all)).digest("base64url");
}
