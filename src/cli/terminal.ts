import { type ParseArgsConfig, parseArgs } from "node:util";
import { InvalidOptionError } from "../core/options.js";

/** What the program uses of its process. */
export interface Terminal {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  once(signal: "SIGINT" | "SIGTERM", listener: () => void): unknown;
  removeListener(signal: "SIGINT" | "SIGTERM", listener: () => void): unknown;
  readonly env?: { readonly REDIS_URL?: string };
}

/** A command ended with an error, of which all is said. */
export class CommandError extends Error {
  /** 1 when it could not be done, 2 for wrong arguments. */
  readonly code: 1 | 2;

  constructor(code: 1 | 2, message: string) {
    super(message);
    this.code = code;
  }
}

/** Arguments that make no sense. */
export class UsageError extends CommandError {
  constructor(message: string) {
    super(2, message);
  }
}

/** What `parseArgs` is asked with these options. */
interface Arguments<O> {
  readonly args: string[];
  readonly allowPositionals: true;
  readonly options: O & { readonly help: { readonly type: "boolean"; readonly short: "h" } };
}

/**
 * Reads arguments. `-h` and `--help` are options of every command.
 *
 * @throws UsageError
 */
export function readArguments<const O extends NonNullable<ParseArgsConfig["options"]>>(
  args: readonly string[],
  options: O,
): ReturnType<typeof parseArgs<Arguments<O>>> {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { ...options, help: { type: "boolean", short: "h" } },
    });
  } catch (error) {
    const [reason = ""] = error instanceof Error ? error.message.split(/[.\n]/, 1) : [];
    throw new UsageError(reason.charAt(0).toLowerCase() + reason.slice(1));
  }
}

/** What `read` gets of a file or a server. What cannot be read ends the command. */
export function refusing<T>(name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof CommandError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new CommandError(2, error instanceof InvalidOptionError ? why : `${name}: ${why}`);
  }
}
