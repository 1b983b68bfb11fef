import fc from "fast-check";
import { expect, it } from "vitest";
import { LabProcess } from "../../src/lab/process.js";
import { World } from "../../src/lab/world.js";

/** A piece of work: what it costs, and what it plans in which process. */
interface Piece {
  readonly costMs: number;
  readonly plans: readonly {
    readonly kind: "timer" | "input" | "check" | "block";
    readonly inMs: number;
    readonly process: number;
  }[];
}

const processCount = 3;
const times = fc.integer({ min: 0, max: 200 }).map((tenths) => tenths / 10);
const pieces = fc.array(
  fc.record({
    costMs: times,
    plans: fc.array(
      fc.record({
        kind: fc.constantFrom("timer", "input", "check", "block"),
        inMs: times,
        process: fc.nat(processCount - 1),
      }),
      { maxLength: 3 },
    ),
  }),
  { minLength: 1, maxLength: 40 },
);

interface Ran {
  readonly process: string;
  readonly startMs: number;
  readonly endMs: number;
}

async function run(all: readonly Piece[]): Promise<readonly Ran[]> {
  const world = new World();
  const processes = Array.from({ length: processCount }, (_, n) => new LabProcess(world, `p${n}`));
  const ran: Ran[] = [];
  const left = [...all];
  const work = (process: LabProcess) => {
    const piece = left.shift();
    if (piece === undefined) return;
    const startMs = process.now();
    process.spend(piece.costMs / 2);
    for (const { kind, inMs, process: number } of piece.plans) {
      const other = processes[number] ?? process;
      if (kind === "timer") process.schedule(inMs, () => work(process));
      else if (kind === "check") process.afterPoll(() => work(process));
      else if (kind === "block") process.block(inMs);
      else other.deliver(process.now() + inMs, () => work(other));
    }
    process.spend(piece.costMs / 2);
    ran.push({ process: process.name, startMs, endMs: process.now() });
  };
  for (const process of processes) process.deliver(1, () => work(process));
  await world.run(100_000);
  return ran;
}

it("time never goes back in a process, its pieces of work never overlap, and runs repeat", async () => {
  await fc.assert(
    fc.asyncProperty(pieces, async (all) => {
      const ran = await run(all);
      const endedMs = new Map<string, number>();
      for (const { process, startMs, endMs } of ran) {
        expect(startMs).toBeGreaterThanOrEqual(endedMs.get(process) ?? 0);
        expect(endMs).toBeGreaterThanOrEqual(startMs);
        endedMs.set(process, endMs);
      }
      // The world goes from one beginning to the next: nothing that begins later has happened before.
      const starts = ran.map(({ startMs }) => startMs);
      expect(starts).toEqual(starts.toSorted((a, b) => a - b));
      expect(await run(all)).toEqual(ran);
    }),
    { numRuns: 100 },
  );
});
