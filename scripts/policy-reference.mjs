// Writes docs/policy-reference.md from proto/weir/v1/policy.proto. With `--check` it only says whether the page differs.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const page = "docs/policy-reference.md";
const args = ["build", "--path", "proto/weir/v1/policy.proto", "-o", "-#format=json"];
const built = spawnSync(join(root, "node_modules", ".bin", "buf"), args, {
  cwd: root,
  encoding: "utf8",
  maxBuffer: 1 << 26,
  shell: process.platform === "win32",
});
if (built.status !== 0) {
  process.stderr.write(built.stderr ?? String(built.error));
  process.exit(1);
}
const { file: files } = JSON.parse(built.stdout);
const schema = files.find(({ name }) => name === "weir/v1/policy.proto");
const comments = new Map(
  schema.sourceCodeInfo.location.map(({ path, leadingComments = "" }) => [
    (path ?? []).join("."),
    leadingComments.trim().replaceAll(/\s*\n\s*/g, " "),
  ]),
);
const own = ".weir.v1.";
const messages = schema.messageType;

const typesOf = new Map([
  ["TYPE_DOUBLE", "number"],
  ["TYPE_UINT32", "whole number"],
  ["TYPE_UINT64", "whole number"],
  ["TYPE_BOOL", "true or false"],
  ["TYPE_STRING", "text"],
]);

/** The entry of a map field; `undefined` for other fields. */
function entryOf(message, field) {
  return message.nestedType?.find(
    ({ name, options }) => options?.mapEntry && field.typeName.endsWith(`.${name}`),
  );
}

function typeText(message, field) {
  const entry = field.type === "TYPE_MESSAGE" ? entryOf(message, field) : undefined;
  if (entry !== undefined) return `by name: ${typeText(entry, entry.field[1])}`;
  const one = typeOfOne(field);
  return field.label === "LABEL_REPEATED" ? `list of ${one}` : one;
}

function typeOfOne({ type, typeName = "" }) {
  if (typeName === ".google.protobuf.Duration") return "duration";
  if (typeName === ".google.rpc.Code") return "status code";
  if (!typeName.startsWith(own)) return typesOf.get(type);
  const name = typeName.slice(own.length);
  return `[${name}](#${name.toLowerCase()})`;
}

/** The option of a field in the code, by the rules in the head of the schema. */
function optionText(message, field) {
  const base = baseOf(message, field);
  if (base === undefined) return `\`${optionName(field)}\``;
  const word = field.name.slice(base.name.length + 1).replaceAll("_", "-");
  if (field.type === "TYPE_MESSAGE") return `\`${optionName(base)}.algorithm: "${word}"\``;
  return `\`${optionName(base)}: ${word === "off" ? "false" : `"${word}"`}\``;
}

function baseOf({ field: fields }, field) {
  if (field.oneofIndex === undefined || field.proto3Optional) return undefined;
  return fields.find(
    (other) =>
      other !== field &&
      other.oneofIndex === field.oneofIndex &&
      field.name.startsWith(`${other.name}_`),
  );
}

function optionName({ jsonName, typeName = "" }) {
  const inMs = typeName === ".google.protobuf.Duration" || typeName === `${own}DurationRange`;
  return inMs ? `${jsonName}Ms` : jsonName;
}

function rowOf(message, index, field, number) {
  const choice =
    field.oneofIndex !== undefined && !field.proto3Optional && baseOf(message, field) === undefined
      ? comments.get(`4.${index}.8.${field.oneofIndex}`)
      : "";
  const text = [comments.get(`4.${index}.2.${number}`), choice].filter(Boolean).join(" ");
  const type =
    baseOf(message, field) && field.type === "TYPE_BOOL" ? "true" : typeText(message, field);
  const inCode = message.name === "Policies" || (field.name === "name" && !field.proto3Optional);
  const option = inCode ? "" : optionText(message, field);
  return `| \`${field.jsonName}\` | ${type} | ${option} | ${text.replaceAll("|", "\\|")} |`;
}

const sections = messages.map((message, index) =>
  [
    `## ${message.name}`,
    "",
    comments.get(`4.${index}`),
    "",
    "| field | value | in code | |",
    "|---|---|---|---|",
    ...message.field.map((field, number) => rowOf(message, index, field, number)),
    "",
  ].join("\n"),
);
const text = `# Policies as data: all fields

Every field of a [document of policies](configuration.md), from \`proto/weir/v1/policy.proto\`, which is part of the package. The page is generated (\`npm run docs\`).

Durations are texts such as \`"0.25s"\`, up to 24 days. Status codes are names such as \`"UNAVAILABLE"\`. A field that is absent leaves the default.

${sections.join("\n")}`;

const path = join(root, page);
const before = (() => {
  try {
    return readFileSync(path, "utf8").replaceAll("\r\n", "\n");
  } catch {
    return "";
  }
})();
if (before !== text) {
  if (process.argv.includes("--check")) {
    console.error(`${page}: it is not that of the schema; run \`npm run docs\``);
    process.exitCode = 1;
  } else {
    writeFileSync(path, text);
    console.log(`${page}: written`);
  }
}
