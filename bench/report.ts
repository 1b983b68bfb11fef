import { createRequire } from "node:module";
import { availableParallelism, cpus, loadavg } from "node:os";
import type { Spread } from "./statistics.js";

/** Rows of text in columns: the first to the left, numbers to the right. */
export function printTable(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => (row[column] ?? "").length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join("  ");
  console.log(line(head));
  console.log(widths.map((width) => "-".repeat(width)).join("  "));
  for (const row of rows) console.log(line(row));
}

/** What was measured on, under the title of a bench. */
export function printTitle(title: string, noise: string, on = machine()): void {
  console.log(`\n${title}\n${on}\n${noise}\n`);
}

/**
 * What a bench runs on, and how busy that is with other things.
 *
 * @param node The version, or versions, of the Node that runs what is measured.
 */
export function machine(node = process.versions.node): string {
  const [cpu] = cpus();
  const [load = 0] = loadavg();
  return (
    `${cpu?.model ?? "unknown CPU"}, ${availableParallelism()} CPUs, load ${load.toFixed(1)}; ` +
    `Node ${node}, grpc-js ${grpcVersion()}`
  );
}

/** `12.3 (11.9–12.8)`: the median and the quartiles. */
export function withQuartiles({ median, low, high }: Spread, digits: number): string {
  return `${median.toFixed(digits)} (${low.toFixed(digits)}–${high.toFixed(digits)})`;
}

/** The same for a difference: with its sign. */
export function signed({ median, low, high }: Spread, digits: number): string {
  const text = (value: number) => (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(digits);
  return `${text(median)} (${text(low)} to ${text(high)})`;
}

function grpcVersion(): string {
  const read: { readonly version: string } = createRequire(import.meta.url)(
    "@grpc/grpc-js/package.json",
  );
  return read.version;
}
