import type { CallRow } from "../../../src/viewer/api.js";

export function callRow(number: number, more: Partial<CallRow> = {}): CallRow {
  return {
    id: `trace${number}-span`,
    traceId: `trace${number}`,
    spanId: "span",
    service: "web",
    side: "client",
    method: "shop.v1.Checkout/Place",
    status: "OK",
    policies: [],
    startMs: number,
    durationMs: 10,
    attempts: 1,
    ...more,
  };
}
