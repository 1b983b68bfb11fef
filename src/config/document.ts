import { InvalidOptionError } from "../core/options.js";

/** The way to a value in a document: names of fields and numbers of items. */
export type DocumentPath = readonly (string | number)[];

/**
 * Lines and columns count from 1.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** A document of policies as it was read: its JSON value, and where each part of it stands. */
export interface PolicyDocument {
  /** What errors call it, such as the path of a file. */
  readonly name: string;
  readonly value: unknown;
  /** Where the value at a path, or what stands around it, is written; `undefined` where nobody knows. */
  positionOf(path: DocumentPath): Position | undefined;
}

/**
 * Something in a document that makes no sense.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface PolicyProblem extends Partial<Position> {
  readonly file: string;
  /** For example `methods[0].retry.maxAttempts`; empty for the document as a whole. */
  readonly path: string;
  /** What it must be, and what it is. */
  readonly message: string;
  /** The name that was probably meant. */
  readonly suggestion?: string;
}

/**
 * Thrown for a document of policies that makes no sense. Its message has a line for each problem.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export class PolicyDocumentError extends InvalidOptionError {
  readonly problems: readonly PolicyProblem[];

  constructor(name: string, problems: readonly PolicyProblem[]) {
    const lines = problems.map((problem) => `\n  ${problemText(problem)}`).join("");
    super("policies", "valid", name, `are not valid:${lines}`);
    this.problems = problems;
  }
}

/** `policies.yaml:12:7 methods[0].retry.maxAttempts must be …` */
export function problemText({
  file,
  line,
  column,
  path,
  message,
  suggestion,
}: PolicyProblem): string {
  const place = line === undefined ? file : `${file}:${line}:${column ?? 1}`;
  const what = path === "" ? message : `${path} ${message}`;
  const meant = suggestion === undefined ? "" : ` (did you mean ${suggestion}?)`;
  return `${place} ${what}${meant}`;
}

/** `methods[0].retry`, of `["methods", 0, "retry"]`. */
export function pathText(path: DocumentPath): string {
  return path
    .map((part, index) => {
      if (typeof part === "number") return `[${part}]`;
      if (!/^[A-Za-z_]\w*$/.test(part)) return `["${part}"]`;
      return index === 0 ? part : `.${part}`;
    })
    .join("");
}
