import { readFileSync } from "node:fs";
import { changesBetween, changeText } from "../config/changes.js";
import { problemText } from "../config/document.js";
import { type Finding, findingsIn, findingsInSchema } from "../config/findings.js";
import type { LintSurroundings } from "../config/lints.js";
import { schemaSource } from "../config/schema-source.js";
import { fileSource } from "../config/source.js";
import { documentOf } from "../config/text.js";
import { methodRegistry } from "../policies/idempotency/client-registry.js";
import { checkUsage } from "./check-usage.js";
import { type GivenSchema, givenSchema, schemaFlags } from "./given-schema.js";
import { readArguments, refusing, type Terminal, UsageError } from "./terminal.js";

const text = { type: "string" } as const;

/**
 * Checks documents of policies and prints what is wrong or unwise.
 *
 * @returns the exit code: 1 where something was found.
 * @throws CommandError for wrong arguments, and for a file that cannot be read.
 */
export async function check(args: readonly string[], terminal: Terminal): Promise<number> {
  const { values, positionals } = readArguments(args, {
    format: text,
    "service-config": text,
    ...schemaFlags,
    diff: { type: "boolean" },
  });
  if (values.help === true) {
    terminal.stdout.write(checkUsage);
    return 0;
  }
  const { format = "text" } = values;
  if (format !== "text" && format !== "json") throw new UsageError("--format is text or json");
  if (values.diff === true) return compare(positionals, format, terminal);
  const schema = await givenSchema(values);
  if (positionals.length === 0 && schema === undefined) {
    throw new UsageError("check takes the path of a file");
  }
  const serviceConfig = serviceConfigIn(values["service-config"]);
  const { around, inSchema } = withSchema(schema, { serviceConfig });
  const inFiles = positionals.flatMap((file) =>
    refusing(file, () => findingsIn(readFileSync(file, "utf8"), file, around)),
  );
  const findings = [...inSchema, ...inFiles];
  const files = positionals.length + (schema === undefined ? 0 : 1);
  terminal.stdout.write(format === "json" ? asJson(findings) : asText(findings, files));
  return findings.length === 0 ? 0 : 1;
}

/** Says what the second document changes. @returns the exit code: 1 where it changes something. */
function compare(
  files: readonly string[],
  format: "text" | "json",
  terminal: Pick<Terminal, "stdout">,
): number {
  const [old, now, another] = files;
  if (old === undefined || now === undefined || another !== undefined) {
    throw new UsageError("--diff takes two files: the old one and the new one");
  }
  const read = (file: string) => refusing(file, () => fileSource(file).read());
  const changes = changesBetween(read(old), read(now));
  const lines = changes.map((change) => `${changeText(change)}\n`);
  terminal.stdout.write(
    format === "json"
      ? `${JSON.stringify({ changes }, undefined, 2)}\n`
      : lines.length === 0
        ? "nothing changes\n"
        : lines.join(""),
  );
  return changes.length === 0 ? 0 : 1;
}

/** What the schemas say, and what is to be said of that. A schema with errors says nothing of policies. */
function withSchema(
  schema: GivenSchema | undefined,
  around: LintSurroundings,
): { readonly around: LintSurroundings; readonly inSchema: readonly Finding[] } {
  if (schema === undefined) return { around, inSchema: [] };
  const { bytes } = schema;
  return refusing(schema.name, () => {
    const known = { ...around, registry: methodRegistry(bytes) };
    const inSchema = findingsInSchema(bytes, known);
    if (inSchema.some(({ severity }) => severity === "error")) return { around: known, inSchema };
    return { around: { ...known, schema: schemaSource(bytes).read() }, inSchema };
  });
}

function serviceConfigIn(file: string | undefined): unknown {
  if (file === undefined) return undefined;
  return refusing(file, () => documentOf(readFileSync(file, "utf8"), file).value ?? {});
}

function asJson(findings: readonly Finding[]): string {
  return `${JSON.stringify({ findings }, undefined, 2)}\n`;
}

function asText(findings: readonly Finding[], files: number): string {
  if (findings.length === 0) return `${files === 1 ? "1 file" : `${files} files`}: nothing found\n`;
  const lines = findings.map((finding) => {
    const rule = finding.rule === undefined ? "" : ` [${finding.rule}]`;
    return `${finding.severity}${rule} ${problemText(finding)}\n`;
  });
  return lines.join("");
}
