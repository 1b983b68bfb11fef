import { Metadata, type status } from "@grpc/grpc-js";

/** Metadata on the wire: one string for each key, binary values in base64. */
export type WireHeaders = Readonly<Record<string, string>>;

/** What ends a call on the wire. */
export interface WireTrailers {
  readonly code: status;
  readonly details: string;
  readonly headers: WireHeaders;
}

/** The headers as the http2 module of Node gives them to the other side: several values of a key are joined. */
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

/** The headers of a response, with those that a server of grpc-js and the http2 module of Node add. */
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

/** A deadline in milliseconds since the epoch. As in grpc-js, a Date is read each time anew. */
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

/** The milliseconds of a `grpc-timeout`; `undefined` if it cannot be parsed. */
export function parseTimeout(header: string): number | undefined {
  const match = /(\d{1,8})\s*([HMSmun])/.exec(header);
  const factor = unitMs[match?.[2] ?? ""];
  if (match === null || factor === undefined) return undefined;
  // As in grpc-js, the product is truncated to 32 bits, so that more than 24.8 days become negative.
  return (Number(match[1]) * factor) | 0;
}
