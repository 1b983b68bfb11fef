import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import {
  durationMs,
  InvalidOptionError,
  isRecord,
  nameText,
  optionalFunction,
  readOptions,
} from "../core/options.js";
import { Polling, type PollingOptions } from "../core/polling.js";
import { answerOf, ask, callSafely } from "../core/user-code.js";
import type { PolicySet, PolicySource, PolicyWatcher } from "../pipeline/policy-set.js";
import { changesBetween } from "./changes.js";
import { policySetOf } from "./check.js";
import { documentOf } from "./text.js";

/**
 * Policies of an object with the fields of `weir.v1.Policies`, such as one that was parsed from JSON. They never change.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export function objectSource(
  value: Readonly<Record<string, unknown>>,
  name = "policies",
): PolicySource {
  if (!isRecord(value))
    throw new InvalidOptionError("objectSource", "an object of policies", value);
  const named = nameText("objectSource.name", name);
  return { name: named, read: () => policySetIn(value, named) };
}

/**
 * How a file of policies is watched.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface FileSourceOptions {
  /**
   * How often the file is read again, in milliseconds, from 100 to 24 days; `false` for never: then it is read once.
   * @defaultValue 2_000
   */
  readonly pollMs?: number | false;
}

/** A file that has changed is read once more after so many milliseconds: one that is being written is not whole yet. */
const settleMs = 100;

/**
 * Policies of a file, for `createWeir({ policies: … })`: JSON or YAML. The fields are those of
 * `weir.v1.Policies` (`proto/weir/v1/policy.proto`). It is read when the weir is created, and then every `pollMs`, so that it does not
 * matter how it was replaced: written, renamed, or by another link, as with a ConfigMap of Kubernetes. While the file is gone,
 * or wrong in any part, the last good policies hold.
 *
 * Replace the file by renaming a whole one to its name: a half of a file may make sense, too.
 *
 * @param path Relative to the working directory of the process.
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export function fileSource(path: string, given: FileSourceOptions = {}): PolicySource {
  nameText("fileSource.path", path);
  const { pollMs = 2_000 } = readOptions("fileSource", given, ["pollMs"]);
  if (pollMs !== false) durationMs("fileSource.pollMs", pollMs, 100);
  let first = "";
  const read = () => {
    first = textOf(path);
    return policySetIn(first, path);
  };
  const source = { name: path, read, changes: changesBetween };
  if (pollMs === false) return source;
  return {
    ...source,
    watch: (watcher) => {
      let last = first;
      const settled = async (): Promise<string | undefined> => {
        const text = await readFile(path, "utf8");
        if (text === last) return text;
        await new Promise<void>((resolve) => {
          watcher.clock.schedule(settleMs, resolve, { ref: false });
        });
        if ((await readFile(path, "utf8")) !== text) return undefined;
        last = text;
        return text;
      };
      return watched({ read: settled }, path, { pollMs, firstValuesMs: 0 }, watcher, first);
    },
  };
}

/**
 * Where documents of policies are kept, such as `redisPolicies` of `grpc-weir/redis`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface PolicyDocuments {
  /** The document as text (JSON or YAML) or as an object; `undefined` while there is none. May be a promise. */
  read(): unknown;
  /** Calls `changed` whenever `read` may give another document. @returns Ends that. */
  onChange?(changed: () => void): () => void;
}

/**
 * How policies are read that a function gives.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface FunctionSourceOptions extends PollingOptions {
  /** What errors and explanations call it. @defaultValue `policies` */
  readonly name?: string;
  /** The policies until the function has given some, as text or as an object. @defaultValue none: the code alone says what holds */
  readonly first?: string | Readonly<Record<string, unknown>>;
}

/**
 * Policies that a function gives.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface FunctionSource extends PolicySource {
  /**
   * Resolves when the policies have been read for the first time, or after `firstValuesMs`. Await it, after the weir was created,
   * before the server listens. True when they have been read.
   */
  readonly ready: Promise<boolean>;
}

/**
 * Policies that a function gives, for `createWeir({ policies: … })`: of a configuration service, of Redis (`redisPolicies`), of what
 * you have. It is asked when the weir is created, every `pollMs` (with some chance, so that processes do not all ask at once), and when
 * it says that there is another document. While it throws, rejects, or gives a document that is wrong in any part, the last good
 * policies hold.
 *
 * It serves one weir.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export function functionSource(
  documents: (() => unknown) | PolicyDocuments,
  given: FunctionSourceOptions = {},
): FunctionSource {
  const known = ["name", "first", "pollMs", "firstValuesMs"];
  const options = readOptions("functionSource", given, known);
  const { name = "policies", first = {}, ...polling } = options;
  nameText("functionSource.name", name);
  const from = typeof documents === "function" ? { read: documents } : documents;
  if (typeof from?.read !== "function") {
    throw new InvalidOptionError("functionSource", "a function, or an object with read()", from);
  }
  optionalFunction("functionSource.onChange", Reflect.get(from, "onChange"));
  let isReady: (read: boolean) => void = () => {};
  const ready = new Promise<boolean>((resolve) => {
    isReady = resolve;
  });
  return {
    name,
    ready,
    read: () => policySetIn(first, name),
    changes: changesBetween,
    watch: (watcher) => watched(from, name, polling, watcher, undefined, isReady),
  };
}

/** @param known What holds already. */
function watched(
  from: PolicyDocuments,
  name: string,
  options: PollingOptions,
  { clock, random, newer, failed }: PolicyWatcher,
  known: string | undefined,
  isReady: (read: boolean) => void = () => {},
): () => void {
  let last = known;
  let away = false;
  let closed = false;
  const read = async (): Promise<boolean> => {
    try {
      const document: unknown = await answerOf(() => from.read());
      if (closed) return false;
      away = false;
      // Told once, and not at each reading.
      const text = typeof document === "string" ? document : JSON.stringify(document);
      if (document === undefined || text === last) return document !== undefined;
      last = text;
      newer(() => policySetIn(document, name));
      return true;
    } catch (error) {
      if (!away && !closed) failed(error);
      away = true;
      return false;
    }
  };
  const polling = new Polling(read, options, { clock, random }, "functionSource");
  void polling.ready.then(isReady);
  const listen = () => from.onChange?.(() => polling.now());
  const told = (error: unknown) => failed(error);
  const stop = ask(listen, ending, undefined, told, "functionSource.onChange");
  polling.now();
  return () => {
    closed = true;
    if (stop !== undefined) callSafely(stop, told, "functionSource.onChange");
    polling.close();
  };
}

/** @throws TypeError for what is no function. */
function ending(answer: unknown): (() => unknown) | undefined {
  if (answer === undefined) return undefined;
  if (typeof answer === "function") return () => answer() as unknown;
  throw new TypeError("onChange returns a function that ends it");
}

/** @throws InvalidOptionError for what is neither text nor an object, and where the policies make no sense. */
function policySetIn(document: unknown, name: string): PolicySet {
  if (typeof document === "string") return policySetOf(documentOf(document, name));
  if (!isRecord(document)) {
    throw new InvalidOptionError("policies", "a document: text, or an object", document);
  }
  return policySetOf({ name, value: document, positionOf: () => undefined });
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new InvalidOptionError(
      "policies",
      "a file that can be read",
      path,
      `cannot be read: ${why}`,
    );
  }
}
