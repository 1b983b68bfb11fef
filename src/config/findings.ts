import { nearest } from "../core/nearest.js";
import { InvalidOptionError } from "../core/options.js";
import { policySetOf } from "./check.js";
import {
  type PolicyDocument,
  PolicyDocumentError,
  type PolicyProblem,
  pathText,
} from "./document.js";
import { type LintRule, type LintSurroundings, lintRules, lintsOf } from "./lints.js";
import { type MappedPolicies, mapped, mappedOptions } from "./mapping.js";
import { documentsIn } from "./schema-options.js";
import { documentOf } from "./text.js";

/** Something that `grpc-weir check` says of a document. */
export interface Finding extends PolicyProblem {
  /** An `error` is refused by a weir; a `warning` is legal and unwise. */
  readonly severity: "error" | "warning";
  /** Of warnings, and of errors about comments. */
  readonly rule?: LintRule | "weir-ignore";
}

/** All that is wrong or unwise in the text of a document, in the order of its lines. */
export function findingsIn(
  text: string,
  name: string,
  around: LintSurroundings,
): readonly Finding[] {
  let document: PolicyDocument;
  try {
    document = documentOf(text, name);
    policySetOf(document);
  } catch (error) {
    return errorsOf(error, name);
  }
  const warnings = warningsOf(document, mapped(document), around);
  return withoutIgnored(warnings, ignoresIn(text), name).toSorted(
    (a, b) => (a.line ?? 0) - (b.line ?? 0),
  );
}

/** All that is wrong or unwise in the options of services and methods in a serialized `FileDescriptorSet`. */
export function findingsInSchema(
  descriptors: Uint8Array,
  around: LintSurroundings,
): readonly Finding[] {
  return documentsIn(descriptors, "descriptors").flatMap((document) => {
    try {
      policySetOf(document, mappedOptions);
    } catch (error) {
      return errorsOf(error, document.name);
    }
    return warningsOf(document, mappedOptions(document), around);
  });
}

function errorsOf(error: unknown, file: string): readonly Finding[] {
  if (error instanceof PolicyDocumentError) {
    return error.problems.map((problem) => ({ severity: "error", ...problem }));
  }
  if (!(error instanceof InvalidOptionError)) throw error;
  return [{ severity: "error", file, path: "", message: error.message }];
}

function warningsOf(
  document: PolicyDocument,
  found: MappedPolicies,
  around: LintSurroundings,
): readonly Finding[] {
  return lintsOf(found, around).map(({ rule, path, message, suggestion }): Finding => {
    const position = document.positionOf(path);
    const file = document.name;
    // A policy for a method that nobody has acts on nothing, which nobody wants.
    const severity = rule === "unknown-method" ? "error" : "warning";
    const finding = { severity, rule, file, ...position, path: pathText(path), message } as const;
    return suggestion === undefined ? finding : { ...finding, suggestion };
  });
}

/** A comment `# weir-ignore: rule because of a reason`. */
interface Ignore {
  /** The line of the comment. */
  readonly line: number;
  /** The line that it is about: its own, or the next one where it stands alone. */
  readonly about: number;
  readonly rule: string;
  readonly reason: string;
}

function ignoresIn(text: string): readonly Ignore[] {
  return text.split("\n").flatMap((content, index) => {
    const found = /^(.*?)#\s*weir-ignore\b:?\s*([\w-]*)\s*(.*)$/.exec(content);
    if (found === null) return [];
    const [, before = "", rule = "", reason = ""] = found;
    const line = index + 1;
    return [{ line, about: before.trim() === "" ? line + 1 : line, rule, reason: reason.trim() }];
  });
}

/** The warnings that no comment takes away, and what is wrong with comments. */
function withoutIgnored(
  warnings: readonly Finding[],
  ignores: readonly Ignore[],
  file: string,
): readonly Finding[] {
  const about = (severity: Finding["severity"], { line }: Ignore, message: string): Finding => ({
    severity,
    rule: "weir-ignore",
    file,
    line,
    column: 1,
    path: "",
    message,
  });
  const left = new Set(warnings);
  const wrong: Finding[] = [];
  for (const ignore of ignores) {
    const { rule, reason } = ignore;
    if (!lintRules.some((known) => known === rule)) {
      const suggestion = nearest(rule, lintRules);
      const finding = about("error", ignore, `names no rule: ${rule === "" ? "nothing" : rule}`);
      wrong.push(suggestion === undefined ? finding : { ...finding, suggestion });
      continue;
    }
    if (reason === "") {
      wrong.push(about("error", ignore, `must give a reason behind ${rule}`));
      continue;
    }
    const ignored = warnings.filter((each) => each.rule === rule && each.line === ignore.about);
    for (const each of ignored) left.delete(each);
    if (ignored.length === 0) {
      wrong.push(about("warning", ignore, `takes nothing away: ${rule} is not found there`));
    }
  }
  return [...left, ...wrong];
}
