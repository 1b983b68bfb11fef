import type { Priority } from "grpc-weir";
import type { CallResult } from "./messages.js";
import type { Phase } from "./script.js";

export const priorities: readonly Priority[] = ["critical", "high", "normal", "low"];

/** What became of the calls of one row. */
export interface Sums {
  readonly sent: number;
  readonly ok: number;
  readonly retried: number;
  readonly shed: number;
  readonly failed: number;
  /** Of the calls that went well, in milliseconds; NaN without one. */
  readonly p50: number;
  readonly p99: number;
}

/** @param retried Order ids of the calls that were tried more than once somewhere. */
export function sumsOf(calls: readonly CallResult[], retried: ReadonlySet<string>): Sums {
  const ended = (end: string) => calls.filter((call) => call.end === end).length;
  const ms = calls.filter((call) => call.end === "ok").map((call) => call.ms);
  ms.sort((a, b) => a - b);
  return {
    sent: calls.length,
    ok: ended("ok"),
    retried: calls.filter(({ orderId }) => retried.has(orderId)).length,
    shed: ended("shed"),
    failed: ended("failed"),
    p50: quantile(ms, 0.5),
    p99: quantile(ms, 0.99),
  };
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN;
}

/** One run, ready for the tables. */
export interface Column {
  readonly calls: readonly CallResult[];
  readonly retried: ReadonlySet<string>;
}

function cells({ sent, ok, retried, shed, failed, p50, p99 }: Sums): string {
  const ms = (value: number) => (Number.isNaN(value) ? "–" : value.toFixed(0));
  return [
    `${ok}`.padStart(5),
    percent(ok, sent).padStart(6),
    `${retried}`.padStart(8),
    `${shed}`.padStart(5),
    `${failed}`.padStart(7),
    ms(p50).padStart(5),
    ms(p99).padStart(5),
  ].join("");
}

function percent(part: number, whole: number): string {
  return whole === 0 ? "–" : `${Math.floor((100 * part) / whole)} %`;
}

const heads = "   ok   ok %  retried shed failed  p50  p99";

/** The table of calls by priority, both runs side by side, in less than 100 columns. */
export function priorityTable(equipped: Column, bare: Column): string {
  const row = (label: string, priority: Priority | undefined): string => {
    const of = ({ calls, retried }: Column) =>
      sumsOf(
        calls.filter((call) => priority === undefined || call.priority === priority),
        retried,
      );
    const left = of(equipped);
    return `${label.padEnd(9)}${`${left.sent}`.padStart(5)} │${cells(left)} │${cells(of(bare))}`;
  };
  return [
    `${"".padEnd(14)} │${centred("with the toolkit", 41)} │${centred("without it", 41)}`,
    `${"priority".padEnd(9)}${"sent".padStart(5)} │${heads.slice(1).padStart(41)} │${heads.slice(1).padStart(41)}`,
    `${"─".repeat(15)}┼${"─".repeat(42)}┼${"─".repeat(41)}`,
    ...priorities.map((priority) => row(priority, priority)),
    row("all", undefined),
  ].join("\n");
}

/** The share of calls that went well in each part of the incident. */
export function phaseTable(phases: readonly Phase[], equipped: Column, bare: Column): string {
  const share = ({ calls }: Column, phase: string, priority?: Priority) => {
    const own = calls.filter(
      (call) => call.phase === phase && (priority === undefined || call.priority === priority),
    );
    return percent(own.filter(({ end }) => end === "ok").length, own.length).padStart(8);
  };
  const rows = phases.map(
    ({ name, happens }) =>
      `${happens.padEnd(63)}│${share(equipped, name, "critical")}${share(equipped, name)} │${share(bare, name, "critical")}${share(bare, name)}`,
  );
  return [
    `${"ok, by what happened".padEnd(63)}│${centred("with", 16)} │${centred("without", 16)}`,
    `${"".padEnd(63)}│${"critical".padStart(8)}${"all".padStart(8)} │${"critical".padStart(8)}${"all".padStart(8)}`,
    `${"─".repeat(63)}┼${"─".repeat(17)}┼${"─".repeat(16)}`,
    ...rows,
  ].join("\n");
}

function centred(text: string, width: number): string {
  return text.padStart(Math.floor((width + text.length) / 2)).padEnd(width);
}
