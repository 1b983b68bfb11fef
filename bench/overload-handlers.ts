import type { handleUnaryCall, MethodDefinition } from "@grpc/grpc-js";

// Bare bytes: what a serialiser costs is the same in every column.
const asIs = (bytes: Buffer): Buffer => bytes;

function method(name: string): MethodDefinition<Buffer, Buffer> {
  return {
    path: `/weir.bench.v1.Overload/${name}`,
    requestStream: false,
    responseStream: false,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  };
}

export const overloadService = {
  /** The work whose overload is measured. */
  work: method("Work"),
  /** Answers at once: what a call costs without any work. */
  empty: method("Empty"),
  /** Does not answer while the server runs: whoever calls it holds a slot. */
  hold: method("Hold"),
} as const;

export type MethodName = keyof typeof overloadService;

export const payload = Buffer.alloc(64, "w");

export interface Work {
  readonly title: string;
  /** Callers of the closed loop that finds the peak: as many as keep the server at work all the time. */
  readonly callers: number;
  /** What one who knows the handler would set a fixed limit to. */
  readonly knownLimit: number;
  /** @param roundsPerMs What this machine computes, the same for all servers of a run. */
  make(roundsPerMs: number): handleUnaryCall<Buffer, Buffer>;
}

/** Slots of the pool, such as the connections to a database. */
const poolSlots = 10;
const poolMs = 20;

export const works = {
  "cpu-2ms": {
    title: "2 ms of CPU",
    callers: 8,
    knownLimit: 8,
    make: (perMs) => spinning(2 * perMs),
  },
  "cpu-0.2ms": {
    title: "0.2 ms of CPU",
    callers: 8,
    knownLimit: 8,
    make: (perMs) => spinning(0.2 * perMs),
  },
  pool: {
    title: "a pool of 10 slots, 20 ms each",
    // Two for each slot: one that is at work and one that waits, so that no slot is ever free.
    callers: 2 * poolSlots,
    knownLimit: 2 * poolSlots,
    make: () => pooled(),
  },
} as const satisfies Record<string, Work>;

export type WorkName = keyof typeof works;

/** Computes. What a neighbour on the machine takes away makes a call longer, as it would any other work. */
function spinning(rounds: number): handleUnaryCall<Buffer, Buffer> {
  return (call, callback) => {
    compute(rounds);
    callback(null, call.request);
  };
}

/** How many rounds this machine computes in a millisecond when nobody disturbs it: the quickest of many tries. */
export function measureRoundsPerMs(): number {
  const rounds = 20_000;
  let most = 0;
  for (let tries = 0; tries < 500; tries += 1) {
    const startedMs = performance.now();
    compute(rounds);
    most = Math.max(most, rounds / (performance.now() - startedMs));
  }
  return most;
}

let seed = 1;
function compute(rounds: number): void {
  let value = seed;
  for (let round = 0; round < rounds; round += 1) value = (Math.imul(value, 1_664_525) + 1) | 0;
  // Kept, so that the work cannot be left out as useless.
  seed = value;
}

/** Waits for a slot, first come first served and without a bound, and holds it for some time; the loop is free. */
function pooled(): handleUnaryCall<Buffer, Buffer> {
  const waiting: (() => void)[] = [];
  let free = poolSlots;
  const leave = () => {
    const next = waiting.shift();
    if (next === undefined) free += 1;
    else next();
  };
  return (call, callback) => {
    const work = () => {
      setTimeout(() => {
        callback(null, call.request);
        leave();
      }, poolMs);
    };
    if (free === 0) waiting.push(work);
    else {
      free -= 1;
      work();
    }
  };
}
