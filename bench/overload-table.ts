import { columns } from "./overload-columns.js";
import { works } from "./overload-handlers.js";
import { priorityNames } from "./overload-mix.js";
import type { Row } from "./overload-rows.js";
import type { CallCosts } from "./overload-stage.js";
import type { Target } from "./overload-targets.js";

export const head = [
  "load",
  "server",
  "offered",
  "goodput",
  ...priorityNames,
  "refused",
  "held back",
  "late",
  "p50 ms",
  "p99 ms",
  "normal after",
];

/** The rows of one handler, as text. */
export function cellsOf(row: Row): string[] {
  const invalid = row.validRuns === 0 ? " invalid" : "";
  return [
    `${row.load}×`,
    columns[row.column],
    `${row.offered.toFixed(2)}×${invalid}`,
    row.goodput.toFixed(2),
    ...priorityNames.map((name) => percent(row.success[name])),
    percent(row.refused),
    percent(row.heldBack),
    percent(row.late),
    number(row.p50Ms),
    number(row.p99Ms),
    recovery(row.recoveredMs),
  ];
}

export function titleOf(work: Row["work"]): string {
  const { title, callers, knownLimit } = works[work];
  return `${title} (peak: a closed loop of ${callers} callers; fixed limit: ${knownLimit})`;
}

export function costLines({ accepted, refused }: CallCosts): string[][] {
  const share = (us: number) => (us / accepted.bare).toFixed(2);
  return [
    ["accepted by bare grpc-js", accepted.bare.toFixed(1), "1"],
    ["accepted by the fixed limit", accepted.limit.toFixed(1), share(accepted.limit)],
    ["accepted by grpc-weir", accepted.weir.toFixed(1), share(accepted.weir)],
    ["refused by the fixed limit", refused.limit.toFixed(1), share(refused.limit)],
    ["refused by grpc-weir", refused.weir.toFixed(1), share(refused.weir)],
  ];
}

export function verdict({ met }: Target): string {
  return met === undefined ? "–" : met ? "met" : "missed";
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share > 0.995 && share < 1 ? 2 : 1)} %`;
}

function number(ms: number): string {
  return Number.isNaN(ms) ? "–" : ms.toFixed(0);
}

function recovery(ms: number): string {
  if (Number.isNaN(ms)) return "";
  return Number.isFinite(ms) ? `${(ms / 1_000).toFixed(1)} s` : "not yet";
}
