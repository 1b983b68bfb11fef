import {
  type Contestant,
  cockatiel,
  opossum,
  parts,
  weirGuard,
  weirGuardWithSignal,
} from "./guard-contestants.js";

/** A state of a guard that a run meets. */
export interface Scene {
  readonly title: string;
  /** What the others have not. */
  readonly lacks?: string;
  /** How many runs are under way all the time. */
  readonly concurrent: number;
  readonly rejected?: boolean;
  /** Inside an AsyncLocalStorage, as in a request: promises then cost more, whoever makes them. */
  readonly inRequest?: boolean;
  /** The first is ours, and the others are compared with it. */
  readonly contestants: readonly Contestant[];
}

/** Never used up: nothing is timed out. */
const longMs = 60_000;

/** By the clock of a day: no breaker of a scene leaves its state. */
const restMs = 24 * 60 * 60 * 1_000;

/** The windows of opossum as those of the others: 10 s in tenths, and no verdict below 20 calls. */
const window = {
  errorThresholdPercentage: 50,
  volumeThreshold: 20,
  rollingCountTimeout: 10_000,
  rollingCountBuckets: 10,
  rollingPercentilesEnabled: false,
} as const;

const allTogether = {
  timeouts: { totalMs: longMs },
  breaker: {},
  bulkhead: { maxConcurrent: 1_000, maxQueued: 1_000 },
  retry: {},
} as const;

function together(): readonly Contestant[] {
  return [
    weirGuard(allTogether),
    weirGuardWithSignal(allTogether),
    cockatiel(parts.all(longMs)),
    opossum({ ...window, timeout: longMs, capacity: 1_000 }),
  ];
}

export const scenes: readonly Scene[] = [
  {
    title: "breaker closed, by the share of failures in a window",
    concurrent: 10,
    contestants: [
      weirGuard({ breaker: {} }),
      cockatiel(parts.bySampling()),
      opossum({ ...window, timeout: false }),
    ],
  },
  {
    title: "breaker closed, by failures in a row alone",
    lacks: "opossum has no such breaker.",
    concurrent: 10,
    contestants: [weirGuard({ breaker: { failureRate: false } }), cockatiel(parts.byConsecutive())],
  },
  {
    title: "breaker open",
    concurrent: 10,
    rejected: true,
    contestants: [
      weirGuard({ breaker: { consecutiveFailures: 1, openMs: restMs, maxOpenMs: restMs } }),
      cockatiel(parts.byConsecutive(1, restMs)),
      opossum({ ...window, volumeThreshold: 0, timeout: false, resetTimeout: restMs }),
    ],
  },
  {
    title: "bulkhead with room",
    lacks:
      "cockatiel's queue has no bound in time and no priorities; opossum's comes with its breaker.",
    concurrent: 10,
    contestants: [
      weirGuard({ bulkhead: { maxConcurrent: 1_000 } }),
      cockatiel(parts.bulkhead(1_000, 1_000)),
      opossum({ ...window, timeout: false, capacity: 1_000 }),
    ],
  },
  {
    title: "bulkhead with a queue: one runs, 99 wait",
    lacks:
      "cockatiel's queue has no bound in time and no priorities, and runs the work in the async context of another " +
      "run; opossum has no queue.",
    concurrent: 100,
    contestants: [
      weirGuard({ bulkhead: { maxConcurrent: 1, maxQueued: 1_000, maxWaitMs: longMs } }),
      cockatiel(parts.bulkhead(1, 1_000)),
    ],
  },
  {
    title: "time-out, never reached",
    lacks: "opossum's comes with its breaker, and gives the work no signal.",
    concurrent: 10,
    contestants: [
      weirGuard({ timeouts: { totalMs: longMs } }),
      weirGuardWithSignal({ timeouts: { totalMs: longMs } }),
      cockatiel(parts.timeout(longMs)),
      opossum({ ...window, timeout: longMs }),
    ],
  },
  {
    title: "all together: time-out, retry, breaker, bulkhead",
    lacks:
      "cockatiel has no retry budget; opossum no retries, no queue and no signal for the work.",
    concurrent: 10,
    contestants: together(),
  },
  {
    title: "all together, inside a request",
    lacks: "as above.",
    concurrent: 10,
    inRequest: true,
    contestants: together(),
  },
];
