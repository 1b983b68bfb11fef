import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type CallOptions,
  credentials,
  Metadata,
  type ServiceError,
  status as Status,
} from "@grpc/grpc-js";
import { type Priority, priorityKey, type Reason, rejectionOf } from "grpc-weir";
import { EdgeServiceClient } from "../gen/demo/shop/v1/edge.js";
import type { Hop } from "./hop.js";
import { type CallResult, type End, report, type Tally } from "./messages.js";
import type { PlannedCall } from "./script.js";

/** Refused early and on purpose, by a policy here or in a service behind. */
const sheddingReasons: ReadonlySet<Reason> = new Set<Reason>([
  "LOAD_SHED",
  "CONCURRENCY_LIMIT",
  "QUEUE_TIMEOUT",
  "BULKHEAD_FULL",
  "BREAKER_OPEN",
  "BREAKER_PROBING",
]);

/** Priming calls at once. */
const primingLanes = 4;

/** Sends the checkouts of the plan at their times, whatever became of those before. */
export class Caller {
  readonly #edge: EdgeServiceClient;
  readonly #hop: Hop;
  readonly #counts = { sent: 0, ok: 0, shed: 0, failed: 0 };

  constructor(hop: Hop, target: string) {
    this.#hop = hop;
    this.#edge = new EdgeServiceClient(
      target,
      credentials.createInsecure(),
      hop.client({
        deadline: { defaultMs: hop.script.deadlineMs },
        retry: false,
        breaker: false,
      }),
    );
  }

  /** Opens the connections of all hops and lets their code get warm, before anything is counted. */
  async prime(calls: number): Promise<void> {
    const lane = async (name: string, share: number) => {
      for (let done = 0; done < share; done += 1) {
        await this.#checkout(`${name}-${done}`, "normal", { deadline: Date.now() + 10_000 });
      }
    };
    const lanes = Array.from({ length: primingLanes }, (_, index) => `prime-${index}`);
    await Promise.all(lanes.map((name) => lane(name, calls / primingLanes)));
  }

  async run(plan: readonly PlannedCall[]): Promise<CallResult[]> {
    const ticker = setInterval(() => report({ type: "tally", ...this.tally }), 200);
    const beginMs = performance.now();
    const ends: Promise<CallResult>[] = [];
    for (const planned of plan) {
      const waitMs = beginMs + planned.atMs - performance.now();
      if (waitMs > 0) await sleep(waitMs);
      ends.push(this.#send(planned));
    }
    const results = await Promise.all(ends);
    clearInterval(ticker);
    return results;
  }

  get tally(): Tally {
    return { ...this.#counts };
  }

  close(): void {
    this.#edge.close();
  }

  async #send({ orderId, priority, phase }: PlannedCall): Promise<CallResult> {
    this.#counts.sent += 1;
    const startMs = performance.now();
    const error = await this.#checkout(orderId, priority, this.#hop.call());
    const ms = performance.now() - startMs;
    const end = endOf(error);
    this.#counts[end] += 1;
    const code = Status[error?.code ?? Status.OK];
    return { orderId, priority, phase, end, code, ms };
  }

  #checkout(
    orderId: string,
    priority: Priority,
    options: CallOptions,
  ): Promise<ServiceError | null> {
    const metadata = new Metadata();
    metadata.set(priorityKey, priority);
    const request = { orderId, sku: "boots", quantity: 1 };
    return new Promise((resolve) => {
      this.#edge.checkout(request, metadata, options, (error) => resolve(error));
    });
  }
}

function endOf(error: ServiceError | null): End {
  if (error === null) return "ok";
  const reason = rejectionOf(error)?.reason;
  return reason !== undefined && sheddingReasons.has(reason) ? "shed" : "failed";
}
