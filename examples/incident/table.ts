import type { Priority } from "grpc-weir";
import type { CallResult } from "./messages.js";
import type { Paint } from "./paint.js";
import { phases } from "./script.js";
import { titles, type Way, ways } from "./ways.js";

export const priorities: readonly Priority[] = ["critical", "high", "normal", "low"];

/** What became of the calls, by the way in which they were made. */
export type Results = Readonly<Record<Way, readonly CallResult[]>>;

export interface Filter {
  readonly phase?: string;
  readonly priority?: Priority;
}

/** What became of some calls. */
export interface Sums {
  readonly sent: number;
  readonly ok: number;
  readonly shed: number;
  readonly failed: number;
  /** Of the calls that were served, in milliseconds; NaN without one. */
  readonly p50: number;
  readonly p99: number;
}

export function sumsOf(all: readonly CallResult[], { phase, priority }: Filter = {}): Sums {
  const calls = all.filter(
    (call) =>
      (phase === undefined || call.phase === phase) &&
      (priority === undefined || call.priority === priority),
  );
  const ended = (end: string) => calls.filter((call) => call.end === end).length;
  const ms = calls.filter((call) => call.end === "ok").map((call) => call.ms);
  ms.sort((a, b) => a - b);
  return {
    sent: calls.length,
    ok: ended("ok"),
    shed: ended("shed"),
    failed: ended("failed"),
    p50: quantile(ms, 0.5),
    p99: quantile(ms, 0.99),
  };
}

/** NaN without one. */
export function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN;
}

const phaseWidth = 38;
const priorityWidth = 9;

/** The share of calls that were served in each part of the incident. */
export function phaseTable(results: Results, paint: Paint): string {
  const share = ({ ok, sent }: Sums) => {
    const text = percent(ok, sent).padStart(9);
    if (ok === sent) return paint.good(text);
    return ok < 0.8 * sent ? paint.bad(text) : paint.poor(text);
  };
  const cells = (way: Way, phase: Filter) =>
    share(sumsOf(results[way], { ...phase, priority: "critical" })) +
    share(sumsOf(results[way], phase));
  const row = (label: string, phase: Filter) => line(label.padEnd(phaseWidth), cells, phase);
  return [
    line(paint.strong("served".padEnd(phaseWidth)), (way) =>
      paint.strong(centred(titles[way], 18)),
    ),
    line("".padEnd(phaseWidth), () => `${"critical".padStart(9)}${"all".padStart(9)}`),
    rule(phaseWidth, 18),
    ...phases.map(({ happens }) => row(happens, { phase: happens })),
    rule(phaseWidth, 18),
    row("the whole incident", {}),
  ].join("\n");
}

/** What became of the calls of each priority. */
export function priorityTable(results: Results, paint: Paint): string {
  const width = priorityWidth + 5;
  const cells = (way: Way, filter: Filter) => {
    const { ok, shed, failed, p50, p99 } = sumsOf(results[way], filter);
    return (
      paint.strong(`${ok}`.padStart(6)) +
      `${shed}`.padStart(5) +
      `${failed}`.padStart(5) +
      ms(p50).padStart(5) +
      ms(p99).padStart(5)
    );
  };
  const row = (label: string, filter: Filter) => {
    const { sent } = sumsOf(results.bare, filter);
    return line(`${label.padEnd(priorityWidth)}${`${sent}`.padStart(5)}`, cells, filter);
  };
  return [
    line("".padEnd(width), (way) => paint.strong(centred(titles[way], 26))),
    line(
      `${paint.strong("calls".padEnd(priorityWidth))}${"sent".padStart(5)}`,
      () => "served shed fail  p50  p99",
    ),
    rule(width, 26),
    ...priorities.map((priority) => row(priority, { priority })),
    row("all", {}),
  ].join("\n");
}

function line<T>(label: string, cells: (way: Way, about: T) => string, about: T): string;
function line(label: string, cells: (way: Way) => string): string;
function line<T>(label: string, cells: (way: Way, about?: T) => string, about?: T): string {
  return [label, ...ways.map((way) => cells(way, about))].join(" │");
}

function rule(labelWidth: number, width: number): string {
  return ["─".repeat(labelWidth + 1), ...ways.map(() => "─".repeat(width + 1))].join("┼");
}

/** Rounded down, so that 100 % is all. */
export function percent(part: number, whole: number): string {
  return whole === 0 ? "–" : `${Math.floor((100 * part) / whole)} %`;
}

function ms(value: number): string {
  return Number.isNaN(value) ? "–" : value.toFixed(0);
}

function centred(text: string, width: number): string {
  return text.padStart(Math.floor((width + text.length) / 2)).padEnd(width);
}
