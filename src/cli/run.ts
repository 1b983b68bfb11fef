import { checkUsage } from "./check-usage.js";
import { flag, flagUsage } from "./flag.js";
import { initUsage } from "./init-usage.js";
import { type OpenRedis, openRedis } from "./redis-connection.js";
import { simulateUsage } from "./simulate-usage.js";
import { CommandError, type Terminal, UsageError } from "./terminal.js";
import { view, viewUsage } from "./view.js";

const usage = `${viewUsage}
${flagUsage}
${simulateUsage}
${checkUsage}
${initUsage}`;

/**
 * Runs the program until its command is done.
 *
 * @returns its exit code: 0 also when it is stopped by a signal, 1 when the command could not be done or a
 * check has found something, 2 for wrong arguments.
 */
export async function run(
  args: readonly string[],
  terminal: Terminal,
  redis: OpenRedis = openRedis,
): Promise<number> {
  const [command, ...rest] = args;
  let shown = usage;
  try {
    switch (command) {
      case "view":
        shown = viewUsage;
        await view(rest, terminal);
        return 0;
      case "flag":
        shown = flagUsage;
        await flag(rest, terminal, redis);
        return 0;
      case "simulate": {
        shown = simulateUsage;
        // The other commands do not load the lab, and the toolkit with it.
        const { simulate } = await import("./simulate.js");
        await simulate(rest, terminal);
        return 0;
      }
      case "check": {
        shown = checkUsage;
        const { check } = await import("./check.js");
        return await check(rest, terminal);
      }
      case "init": {
        shown = initUsage;
        const { init } = await import("./init.js");
        await init(rest, terminal);
        return 0;
      }
      case "-h":
      case "--help":
        terminal.stdout.write(usage);
        return 0;
      case undefined:
        throw new UsageError("a command is missing");
      default:
        throw new UsageError(`there is no command ${command}`);
    }
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const more = error instanceof UsageError ? `\n${shown}` : "";
    terminal.stderr.write(`grpc-weir: ${error.message}\n${more}`);
    return error.code;
  }
}
