// One of several processes that share a quota. Its first argument is its plan, in JSON. It calls at an even rate from one time
// to another, prints what became of its calls, and ends by itself.
import { setTimeout as sleep } from "node:timers/promises";
import { fromIoredis, redisQuotaStore } from "grpc-weir/redis";
import { Redis } from "ioredis";

const plan = JSON.parse(process.argv[2]);
const redis = new Redis(plan.port, "127.0.0.1", { retryStrategy: () => 50 });
redis.on("error", () => {});
const store = redisQuotaStore(fromIoredis(redis), { onError: () => {}, ...plan.options });

/** The time of each call that passed, in milliseconds since the epoch, and whether its tokens were those of this process. */
const granted = [];
let refused = 0;
let longestWaitMs = 0;
const pending = new Set();

function note(answer) {
  if (answer.granted) granted.push([Date.now(), answer.alone === true]);
  else refused += 1;
}

async function wait(answer) {
  const sinceMs = performance.now();
  note(await answer);
  longestWaitMs = Math.max(longestWaitMs, performance.now() - sinceMs);
}

function call() {
  const answer = store.take("orders", 1, plan.rate, performance.now());
  if (answer instanceof Promise) {
    const waiting = wait(answer).finally(() => pending.delete(waiting));
    pending.add(waiting);
  } else note(answer);
}

await sleep(plan.fromMs - Date.now());
let called = 0;
while (Date.now() < plan.untilMs) {
  const sinceMs = Math.min(Date.now(), plan.untilMs) - plan.fromMs;
  for (; called < (sinceMs * plan.perSecond) / 1_000; called += 1) call();
  await sleep(5);
}
await Promise.all(pending);
const { asked } = store.snapshot();
await store.close();
const { leased } = store.snapshot();
redis.disconnect();
console.log(JSON.stringify({ granted, refused, longestWaitMs, called, asked, leased }));
