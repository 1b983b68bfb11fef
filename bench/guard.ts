import { AsyncLocalStorage } from "node:async_hooks";
import { type Contestant, work } from "./guard-contestants.js";
import { guardMemory } from "./guard-memory.js";
import { type Scene, scenes } from "./guard-scenes.js";
import { printTable, printTitle, withQuartiles } from "./report.js";
import { interleaved, type Rounds } from "./rounds.js";
import { lowest, pairwise, ratio, spreadOf } from "./statistics.js";

const rounds: Rounds = { warmUp: 10, kept: 40 };
const runs = 5_000;

const noise =
  `Runs of an async function that is done at once, ${runs} a turn; the contestants take turns, ${rounds.kept} rounds ` +
  `after ${rounds.warmUp} of warm-up.\n` +
  "CPU time of the process for each run, the collector's included. Medians (quartiles); it / weir: its number divided " +
  "by weir's, round by round;\n" +
  "quietest: the lowest tenth of the rounds, because what a busy machine adds is never negative. Added: the quietest " +
  "less that of the bare function.\n" +
  "The target: it / weir is at least 3.";

const bare: Contestant = { name: "the function alone", run: work };
const request = new AsyncLocalStorage<object>();

/** What a guard costs around an async function, against cockatiel and opossum. */
export async function guard(): Promise<void> {
  printTitle("guard: policies around an async function, in memory", noise);
  for (const scene of scenes) await play(scene);
  await guardMemory();
}

async function play(scene: Scene): Promise<void> {
  const { title, lacks, concurrent, contestants } = scene;
  const all = scene.rejected === true ? contestants : [bare, ...contestants];
  if (scene.rejected === true) for (const { prepare } of contestants) await prepare?.();
  const measure = (one: Contestant) => turn(one.run, concurrent, scene.rejected === true);
  const measured = await (scene.inRequest === true
    ? request.run({}, () => interleaved(all, rounds, measure))
    : interleaved(all, rounds, measure));
  for (const { stop } of contestants) stop?.();
  if (scene.inRequest === true) request.disable();
  console.log(`${title}; ${concurrent} under way`);
  if (lacks !== undefined) console.log(lacks);
  print(all, measured);
  console.log();
}

/** @returns nanoseconds of CPU for each run */
async function turn(
  run: () => Promise<unknown>,
  concurrent: number,
  rejected: boolean,
): Promise<number> {
  let left = runs;
  const slot = rejected
    ? async () => {
        while (left > 0) {
          left -= 1;
          await run().catch(ignored);
        }
      }
    : async () => {
        while (left > 0) {
          left -= 1;
          await run();
        }
      };
  const before = process.cpuUsage();
  await Promise.all(Array.from({ length: concurrent }, slot));
  const { user, system } = process.cpuUsage(before);
  return ((user + system) * 1_000) / runs;
}

function ignored(): void {}

function print(
  all: readonly Contestant[],
  measured: ReadonlyMap<Contestant, readonly number[]>,
): void {
  const of = (one: Contestant | undefined): readonly number[] =>
    (one === undefined ? undefined : measured.get(one)) ?? [];
  const ours = all.find(({ name }) => name === "weir");
  const alone = all.includes(bare) ? lowest(of(bare)) : 0;
  printTable(
    ["", "ns/run", "it / weir", "quietest", "it / weir", "added", "it / weir"],
    all.map((one) => {
      const costs = of(one);
      const ourAdded = lowest(of(ours)) - alone;
      const added = lowest(costs) - alone;
      const compared = one !== bare && one !== ours;
      return [
        one.name,
        withQuartiles(spreadOf(costs), 0),
        compared ? withQuartiles(pairwise(costs, of(ours), ratio), 1) : "",
        lowest(costs).toFixed(0),
        compared ? (lowest(costs) / lowest(of(ours))).toFixed(1) : "",
        one === bare || alone === 0 ? "" : added.toFixed(0),
        compared && alone !== 0 ? (added / ourAdded).toFixed(1) : "",
      ];
    }),
  );
}
