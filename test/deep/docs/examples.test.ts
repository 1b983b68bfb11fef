import { execFile, spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const { CI } = process.env;
const root = fileURLToPath(new URL("../../../", import.meta.url));

/** A line of what each program prints, by which a person knows that it has shown what it is for. */
const shows: Readonly<Record<string, RegExp>> = {
  admission: /critical: 10 OK/,
  backends: /weir_calls_total\{.*\} 3\n.*\ncalls whose traces have arrived: 3/,
  brownout: /kept on: \d+ of 40 OK/,
  breaker: /BREAKER_OPEN/,
  bulkhead: /at most 4 at once on the server/,
  configuration:
    /staging: 42 boots\n.*\n.*\n.*\n +deadline\.defaultMs +10000 +data \(staging\.yaml:2\)/,
  "connection-bulkhead": /partitions: the question is answered/,
  deadlines: /caller: DEADLINE_EXCEEDED \(FIRST_RESPONSE_TIMEOUT\)/,
  drain: /drained: \{"inFlight":3,"cutOff":1/,
  dynamic: /GetStock, priority high, attempt 2/,
  explain: /Attempt 3 \(retry, \d+(\.\d)? ms of wait\): OK/,
  fallback: /picks are withdrawn:\n +Anna sees \(nothing recommended\)/,
  faults: /the network healed: 100 OK/,
  flags: /by the flag kill\.shop\.Recommendations \((redis|static)\) \[KILLED\]/,
  guard: /orders-db 4 of 4, stock-db 0 of 4/,
  hedging: /with hedges: 20 calls, \d+ requests/,
  idempotency: /the shelf refuses its token\n.*OK, cleo\/order-2, 4 left \(the stored answer\)/,
  limits: /no limit +\d % of the calls in time\naimd +6\d % .*\nvegas +6\d % .*\ngradient2 +6\d % /,
  "load-balancing": /no service config: \d+, 0, 0;/,
  metrics: /retry, remote, OK: \d+/,
  "nice-grpc": /client: 42 boots after 2 requests/,
  "own-policy": /answered: boots of blue/,
  priorities: /GetStock of boots in other colours is low/,
  quickstart: /refused by this process: BREAKER_OPEN/,
  readme: /Reserve: priority high, attempt 2\nPlaceOrder: reservation-order-1/,
  rate: /umbrella 5th: OK/,
  reload:
    /maxConcurrent: 10 → 5\n.*\nrefused: .*\n.*\n3 calls so far, at most 5 at once\n3 .* 20 at once/,
  retries: /UNAVAILABLE twice: OK after 3 on the server/,
  schema: /boots: 8900 cents, from the cache\n[\s\S]+deadline\.defaultMs +300 +schema \(demo/,
  shared: /60 calls while Redis is away: \d+ OK, [1-9]\d* of them by the half of a server/,
  tasks:
    /breaker: \d+ × BREAKER_OPEN[\s\S]+critical: [4-6] of 6 served[\s\S]+(9\d|100) of 100 calls were answered[\s\S]+fairness: quiet ([6-9]|10) of 10/,
  tutorial: /order 1: OK\n[\s\S]+'critical'[\s\S]+open http:\/\/127/,
  tracing: /wait: queue +·/,
  xds: /OK, from (the failing server, then )*the first server\n.*another cluster: OK, from (the failing server, then )*the second server/,
  throttle: /not sent \(THROTTLED\)/,
  viewer: /the page shows: demo.shop.v1.InventoryService\/GetStock OK, 2 attempts/,
  testing: /an interceptor that passes all on: 0 cases fail/,
};

/** Tested elsewhere: it takes long, and starts processes of its own. */
const elsewhere = new Set(["incident"]);

/** Programs that an example needs. Where one is missing, the example is skipped, but not in CI. */
const needs: Readonly<Record<string, string>> = { idempotency: "redis-server" };

function isSkipped(name: string): boolean {
  const program = needs[name];
  if (program === undefined || CI !== undefined) return false;
  return spawnSync(program, ["--version"]).status !== 0;
}

const examples = readdirSync(`${root}examples`, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && !elsewhere.has(entry.name))
  .map(({ name }) => name)
  .filter((name) => existsSync(`${root}examples/${name}/main.ts`));

interface Ended {
  readonly code: number | string | null | undefined;
  readonly output: string;
}

function run(name: string): Promise<Ended> {
  return new Promise((resolve) => {
    const program = `${root}build/examples/${name}/main.js`;
    const options = { cwd: `${root}examples/${name}`, timeout: 60_000 };
    execFile(process.execPath, [program], options, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : error.code, output: stdout + stderr }),
    );
  });
}

// They are run as `npm run test:deep` has built them.
describe.each(examples)("examples/%s", (name) => {
  it.skipIf(isSkipped(name))(
    "runs by itself and shows what it is for",
    { timeout: 90_000 },
    async () => {
      const { code, output } = await run(name);
      expect(output).toMatch(shows[name] ?? /\S/);
      expect(code).toBe(0);
    },
  );
});
