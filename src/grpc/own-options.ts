import { InvalidOptionError, isRecord } from "../core/options.js";

/**
 * Checks what a user adds of their own to the options of a client or server: grpc-js would only notice it in the first call.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function checkOwn(option: string, own: object, lists: readonly string[]): void {
  if (!isRecord(own)) throw new InvalidOptionError(option, "an object of options", own);
  for (const name of lists) {
    const list = own[name];
    if (list === undefined) continue;
    if (!Array.isArray(list) || list.some((entry) => typeof entry !== "function")) {
      throw new InvalidOptionError(`${option}.${name}`, "an array of functions", list);
    }
  }
}
