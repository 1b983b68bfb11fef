import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";

const root = new URL("../../", import.meta.url);

/** The path of a file of the repository on this machine. */
export function pathOf(file: string): string {
  return fileURLToPath(new URL(file, root));
}

export function textOf(file: string): string {
  return readFileSync(pathOf(file), "utf8");
}

/** What a file of YAML or JSON holds. It throws on anything that is neither, and on a key that is there twice. */
export function dataOf(file: string): unknown {
  return parse(textOf(file), { strict: true, uniqueKeys: true });
}

/** What stands at a path in nested mappings; `undefined` where there is nothing. */
export function at(data: unknown, ...path: readonly string[]): unknown {
  const [key, ...rest] = path;
  return key === undefined ? data : at(entriesOf(data).get(key), ...rest);
}

/** The entries of a mapping; none of anything else. */
export function entriesOf(data: unknown): ReadonlyMap<string, unknown> {
  const isMapping = typeof data === "object" && data !== null && !Array.isArray(data);
  return new Map(isMapping ? Object.entries(data) : []);
}

/** The list at a path; an empty one where there is none. */
export function listAt(data: unknown, ...path: readonly string[]): readonly unknown[] {
  const list = at(data, ...path);
  return Array.isArray(list) ? list : [];
}

export interface Rule {
  readonly alert: string;
  readonly query: string;
  readonly for: string;
  readonly severity: string;
  readonly summary: string;
  readonly runbook: string;
}

export const rules: readonly Rule[] = listAt(dataOf("ops/alerts.yaml"), "groups")
  .flatMap((group) => listAt(group, "rules"))
  .map((rule) => ({
    alert: String(at(rule, "alert")),
    query: String(at(rule, "expr")),
    for: String(at(rule, "for")),
    severity: String(at(rule, "labels", "severity")),
    summary: String(at(rule, "annotations", "summary")),
    runbook: String(at(rule, "annotations", "runbook")),
  }));

export const dashboard = dataOf("ops/grafana-dashboard.json");

interface Panel {
  readonly title: string;
  readonly panel: unknown;
  readonly targets: readonly { readonly query: string; readonly legend: string }[];
}

/** The panels of the dashboard, without the titles of rows. */
export const panels: readonly Panel[] = listAt(dashboard, "panels")
  .filter((panel) => at(panel, "type") !== "row")
  .map((panel) => ({
    title: String(at(panel, "title")),
    panel,
    targets: listAt(panel, "targets").map((target) => ({
      query: String(at(target, "expr")),
      legend: String(at(target, "legendFormat")),
    })),
  }));

/** One row of the table of instruments in docs/metrics.md. */
export interface Instrument {
  readonly name: string;
  readonly type: string;
  readonly unit: string;
  readonly attributes: readonly string[];
}

const quotedIn = (cell: string) => [...cell.matchAll(/`([^`]+)`/g)].map(([, text = ""]) => text);

export function instruments(): readonly Instrument[] {
  return textOf("docs/metrics.md")
    .split("\n")
    .map((line) => line.split("|").map((cell) => cell.trim()))
    .filter(([, , type = ""]) => ["counter", "gauge", "histogram"].includes(type))
    .map(([, name = "", type = "", unit = "", attributes = ""]) => ({
      name: quotedIn(name).join(""),
      type,
      unit: quotedIn(unit).join(""),
      attributes: quotedIn(attributes),
    }));
}

const underscored = (name: string) => name.replaceAll(/\W/g, "_");

/** What the exporters add to a name for its unit. The exporter of Node.js adds nothing. */
function unitSuffix({ type, unit }: Instrument): string {
  if (unit === "s") return "_seconds";
  return unit === "1" && type === "gauge" ? "_ratio" : "";
}

/** The names of an instrument in Prometheus, without the parts of a histogram. */
export function prometheusNames(instrument: Instrument): { node: string; collector: string } {
  const base = underscored(instrument.name);
  const ending = instrument.type === "counter" ? "_total" : "";
  return { node: base + ending, collector: base + unitSuffix(instrument) + ending };
}

/** The names of series of an instrument in Prometheus, each from the exporter of Node.js and from the Collector. */
export function seriesNames(
  instrument: Instrument,
): readonly { node: string; collector: string; labels: readonly string[] }[] {
  const { node, collector } = prometheusNames(instrument);
  const labels = instrument.attributes.map(underscored);
  if (instrument.type !== "histogram") return [{ node, collector, labels }];
  return ["bucket", "count", "sum"].map((part) => ({
    node: `${node}_${part}`,
    collector: `${collector}_${part}`,
    labels: part === "bucket" ? [...labels, "le"] : labels,
  }));
}

/** What a query selects: series by name or by a pattern of names, and the labels that it goes by. */
export function selectionOf(query: string): {
  readonly names: readonly string[];
  readonly patterns: readonly string[];
  readonly labels: readonly string[];
} {
  const patterns = [...query.matchAll(/__name__=~"([^"]+)"/g)].map(([, text = ""]) => text);
  const plain = query.replaceAll(/"[^"]*"/g, '""');
  const grouped = [...plain.matchAll(/\b(?:by|on|group_left)\s*\(([^)]*)\)/g)];
  const matched = [...plain.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*""/g)];
  const rest = plain
    .replaceAll(/\b(?:by|on|group_left)\s*\([^)]*\)/g, " ")
    .replaceAll(/\{[^}]*\}|\[[^\]]*\]/g, " ");
  const words = rest.match(/\b[a-z]\w*\b(?!\s*\()/g) ?? [];
  return {
    names: words.filter((word) => !["and", "or", "unless"].includes(word)),
    patterns,
    labels: [
      ...grouped.flatMap(([, list = ""]) => list.match(/\w+/g) ?? []),
      ...matched.map(([, label = ""]) => label).filter((label) => label !== "__name__"),
    ],
  };
}
