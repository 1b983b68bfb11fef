import type { Attributes } from "@opentelemetry/api";
import type { Priority } from "grpc-weir";
import type { PlannedCall, Script } from "./script.js";

/** The processes of the incident, beside the one that directs them. */
export type Role = "caller" | "edge" | "orders" | "inventory";

/** How inventory is, until the next message of this kind. */
export interface Conditions {
  readonly serviceMs: number;
  readonly failing: number;
}

/** What the director tells a process. */
export type Order =
  | {
      readonly type: "listen";
      readonly script: Script;
      readonly port: number;
      /** Address of the service behind; empty for inventory, which has none. */
      readonly next: string;
    }
  | ({ readonly type: "conditions" } & Conditions)
  | {
      readonly type: "prime";
      readonly script: Script;
      readonly target: string;
      readonly calls: number;
    }
  | { readonly type: "begin"; readonly calls: readonly PlannedCall[] }
  | { readonly type: "stop" };

/** What a process tells the director. */
export type Report =
  | { readonly type: "ready" }
  | { readonly type: "listening"; readonly port: number }
  | { readonly type: "primed" }
  | ({ readonly type: "tally" } & Tally)
  | { readonly type: "results"; readonly calls: readonly CallResult[] }
  | { readonly type: "spans"; readonly spans: readonly SpanRecord[] }
  | { readonly type: "stopped" };

/** How a call ended for its caller. `shed`: a policy refused it early, on purpose. */
export type End = "ok" | "shed" | "failed";

export type Tally = Readonly<Record<End | "sent", number>>;

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
  readonly service: Role;
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
