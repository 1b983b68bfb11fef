import { relative } from "node:path";
import { type RunnerTestCase, TestRunner } from "vitest";

const { SEED } = process.env;

/** The one seed to run, of tests that draw many cases: set by the line that a failure prints. */
export const onlySeed = SEED === undefined ? undefined : Number(SEED);

/**
 * The line for a shell that runs a test alone.
 * @param seed Of the case that failed, where the test draws many.
 */
export function replayLine(test: RunnerTestCase, seed?: number): string {
  const names = [test.name];
  for (let suite = test.suite; suite !== undefined; suite = suite.suite) names.unshift(suite.name);
  const pattern = names.join(" ").replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  const quoted = `'^${pattern.replaceAll("'", String.raw`'\''`)}$'`;
  const env = seed === undefined ? "" : `SEED=${seed} `;
  return `replay: ${env}npx vitest run ${relative("", test.file.filepath)} -t ${quoted}`;
}

/** Runs a case. If it fails, its error says how to run it alone. */
export async function replayable(
  run: () => Promise<unknown>,
  seed?: number,
  test: RunnerTestCase = TestRunner.getCurrentTest(),
): Promise<void> {
  try {
    await run();
  } catch (error) {
    const line = replayLine(test, seed);
    if (!(error instanceof Error)) throw new Error(line, { cause: error });
    const { message, stack } = error;
    error.message = `${message}\n${line}`;
    // Reports show the stack, which has the message of old.
    if (stack !== undefined) error.stack = stack.replace(message, () => error.message);
    throw error;
  }
}

/** Runs the case of each seed in turn, or that of the seed in the environment alone. */
export async function forSeeds(
  seeds: readonly number[],
  run: (seed: number) => Promise<unknown>,
): Promise<void> {
  for (const seed of onlySeed === undefined ? seeds : [onlySeed]) {
    await replayable(() => run(seed), seed);
  }
}
