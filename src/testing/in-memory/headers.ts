import { Metadata, type status } from "@grpc/grpc-js";

/** Metadata as it looks on the wire: one string for each key, binary values in base64. */
export type WireHeaders = Readonly<Record<string, string>>;

/** What ends a call on the wire. */
export interface WireTrailers {
  readonly code: status;
  readonly details: string;
  readonly headers: WireHeaders;
}

/** The form in which Node's http2 hands headers to the other side: several values become one. */
export function toWire(metadata: Metadata): WireHeaders {
  const wire: Record<string, string> = {};
  for (const [key, value] of Object.entries(metadata.toHttp2Headers())) {
    if (value !== undefined) wire[key] = Array.isArray(value) ? value.join(", ") : String(value);
  }
  return wire;
}

export function fromWire(headers: WireHeaders): Metadata {
  return Metadata.fromHttp2Headers(headers);
}

/** Headers that a grpc-js server and Node's http2 add to a response, and the client's filters leave in. */
export function responseHeaders(custom: WireHeaders, wallNow: number): WireHeaders {
  const date = new Date(wallNow).toUTCString();
  return { "content-type": "application/grpc+proto", ...custom, date };
}

const units = [
  ["m", 1],
  ["S", 1_000],
  ["M", 60_000],
  ["H", 3_600_000],
] as const;

/** As grpc-js reads a deadline: a Date by `getTime`, each time anew. */
export function epochMs(deadline: Date | number): number {
  return deadline instanceof Date ? deadline.getTime() : deadline;
}

/** A deadline as `grpc-timeout`, rounded up as in grpc-js. */
export function timeoutHeader(deadline: number, wallNow: number): string {
  const timeoutMs = Math.max(deadline - wallNow, 0);
  for (const [unit, factor] of units) {
    const amount = timeoutMs / factor;
    if (amount < 1e8) return `${Math.ceil(amount)}${unit}`;
  }
  throw new Error("Deadline is too far in the future");
}

const unitMs: Record<string, number> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 0.001,
  n: 0.000_001,
};

/** Milliseconds of a `grpc-timeout`; undefined when it cannot be read. */
export function parseTimeout(header: string): number | undefined {
  const match = /(\d{1,8})\s*([HMSmun])/.exec(header);
  const factor = unitMs[match?.[2] ?? ""];
  if (match === null || factor === undefined) return undefined;
  // grpc-js fact: the product is forced into 32 bits, so more than 24.8 days turn negative.
  return (Number(match[1]) * factor) | 0;
}
