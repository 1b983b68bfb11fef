import {
  bulkhead,
  ConsecutiveBreaker,
  circuitBreaker,
  ExponentialBackoff,
  handleAll,
  type IPolicy,
  retry,
  SamplingBreaker,
  TimeoutStrategy,
  timeout,
  wrap,
} from "cockatiel";
import { createWeir, type GuardOptions } from "grpc-weir";
import CircuitBreaker from "opossum";

/** One way to run the function of a scene. */
export interface Contestant {
  readonly name: string;
  readonly run: () => Promise<unknown>;
  /** Brings it into the state that the scene is about. */
  readonly prepare?: () => Promise<unknown>;
  readonly stop?: () => void;
}

/** What all of them run: an async function that is done at once, so that what surrounds it is in the number. */
export async function work(): Promise<number> {
  return 42;
}

/** The same, with a parameter: then a guard gives it a signal, which has to be made where a time-out may abort it. */
async function workWithSignal(_signal: AbortSignal): Promise<number> {
  return 42;
}

function fails(): Promise<never> {
  return Promise.reject(new Error("down"));
}

const weir = createWeir();
let guards = 0;

export function weirGuard(options: GuardOptions, name = "weir"): Contestant {
  guards += 1;
  const guard = weir.guard(`${name} ${guards}`, options);
  return { name, run: () => guard.run(work), prepare: () => guard.run(fails).catch(() => {}) };
}

export function weirGuardWithSignal(options: GuardOptions): Contestant {
  guards += 1;
  const guard = weir.guard(`signal ${guards}`, options);
  return { name: "weir, work that takes a signal", run: () => guard.run(workWithSignal) };
}

export function cockatiel(policy: IPolicy, name = "cockatiel"): Contestant {
  return {
    name,
    run: () => policy.execute(work),
    prepare: () => policy.execute(fails).catch(() => {}),
  };
}

export function opossum(options: CircuitBreaker.Options): Contestant {
  let failing = false;
  // It guards one function that is named once.
  const breaker = new CircuitBreaker(() => (failing ? fails() : work()), options);
  return {
    name: "opossum",
    run: () => breaker.fire(),
    async prepare() {
      failing = true;
      await breaker.fire().catch(() => {});
      failing = false;
    },
    stop: () => breaker.shutdown(),
  };
}

/** The parts of cockatiel, each as near to the guard's as it comes. */
export const parts = {
  bySampling: (halfOpenAfter = 5_000) =>
    circuitBreaker(handleAll, {
      halfOpenAfter,
      breaker: new SamplingBreaker({ threshold: 0.5, duration: 10_000, minimumRps: 2 }),
    }),
  byConsecutive: (failures = 5, halfOpenAfter = 5_000) =>
    circuitBreaker(handleAll, { halfOpenAfter, breaker: new ConsecutiveBreaker(failures) }),
  bulkhead: (concurrent: number, queued: number) => bulkhead(concurrent, queued),
  timeout: (ms: number) => timeout(ms, TimeoutStrategy.Aggressive),
  all: (ms: number) =>
    wrap(
      timeout(ms, TimeoutStrategy.Aggressive),
      retry(handleAll, { maxAttempts: 2, backoff: new ExponentialBackoff() }),
      parts.bySampling(),
      bulkhead(1_000, 1_000),
    ),
} as const;
