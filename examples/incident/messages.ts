import type { ServerUnaryCall } from "@grpc/grpc-js";
import type { Attributes } from "@opentelemetry/api";
import type { Priority } from "grpc-weir";
import type { PlannedCall } from "./script.js";

/** The processes of one shop: the caller with edge and orders, and inventory, which is killed. */
export type Role = "shop" | "inventory";

/** How inventory is, until the next message of this kind. */
export interface Conditions {
  readonly serviceMs: number;
  readonly failing: number;
  /** How often the network loses all connections to inventory; 0 for never. */
  readonly breaksEveryMs: number;
}

/** A call that a handler serves. */
export type ServerCall = ServerUnaryCall<unknown, unknown>;

/** What the director tells a process. */
export type Order =
  | {
      readonly type: "listen";
      /** 0 for any. */
      readonly port: number;
    }
  | ({ readonly type: "conditions" } & Conditions)
  | {
      readonly type: "open";
      /** Address of inventory. */
      readonly inventory: string;
    }
  | { readonly type: "prime"; readonly calls: number }
  | { readonly type: "begin"; readonly calls: readonly PlannedCall[] }
  /** Calls without an end, at this rate; 0 for none. */
  | { readonly type: "flow"; readonly callsPerSecond: number }
  /** Sends the spans so far. Those that follow are not kept. */
  | { readonly type: "send" }
  | { readonly type: "stop" };

/** What a process tells the director. */
export type Report =
  | { readonly type: "ready" }
  | { readonly type: "listening"; readonly port: number }
  | { readonly type: "opened" }
  | { readonly type: "primed" }
  | ({ readonly type: "tally" } & Tally)
  | { readonly type: "results"; readonly calls: readonly CallResult[] }
  /** By how much the process was late in its work: it did not get to run. */
  | { readonly type: "late"; readonly ms: number }
  | { readonly type: "spans"; readonly spans: readonly SpanRecord[] }
  | { readonly type: "sent" }
  | { readonly type: "stopped" };

/** How a call ended for its caller. `shed`: refused by a policy, early and on purpose. */
export type End = "ok" | "shed" | "failed";

/** What has become of the calls so far. */
export interface Tally extends Readonly<Record<End | "sent", number>> {
  readonly endedCritical: number;
  readonly okCritical: number;
  /** How long the calls took that were served since the last tally, in milliseconds. */
  readonly servedMs: readonly number[];
}

export interface CallResult {
  readonly orderId: string;
  readonly priority: Priority;
  readonly phase: string;
  readonly end: End;
  /** Name of the status code. */
  readonly code: string;
  readonly ms: number;
}

/** A finished span, as it travels between processes. */
export interface SpanRecord {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string | undefined;
  readonly name: string;
  readonly kind: "client" | "server" | "internal";
  /** Epoch milliseconds, with a fraction. */
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes: Attributes;
  readonly events: readonly {
    readonly name: string;
    readonly atMs: number;
    readonly attributes: Attributes;
  }[];
}

/** By it the director finds the call that a trace belongs to. */
export const orderIdAttribute = "shop.order_id";

/** Sends to the director. Its end of the channel may be gone already: then nobody needs to know. */
export function report(message: Report, sent: () => void = () => {}): void {
  if (process.connected) process.send?.(message, undefined, {}, () => sent());
  else sent();
}
