import { performance } from "node:perf_hooks";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { credentials, Metadata, type ServiceError, status as Status } from "@grpc/grpc-js";
import type { Priority } from "grpc-weir";
import { EdgeServiceClient } from "../gen/demo/shop/v1/edge.js";
import type { Hop } from "./hop.js";
import { type CallResult, type End, report, type Tally } from "./messages.js";
import { deadlineMs, type PlannedCall } from "./script.js";

/** Calls that are late are sent so many at a time. */
const callsInOneGo = 8;

/** Priming calls at once. */
const primingLanes = 6;

/** Sends the checkouts of the plan at their times, whatever became of those before. */
export class Caller {
  readonly #hop: Hop;
  readonly #edge: EdgeServiceClient;
  readonly #counts = { sent: 0, ok: 0, shed: 0, failed: 0 };

  constructor(hop: Hop, target: string) {
    this.#hop = hop;
    this.#edge = new EdgeServiceClient(target, credentials.createInsecure(), hop.client());
  }

  /** Sends calls that are not counted, some at a time. */
  async prime(calls: number): Promise<void> {
    const lane = async (name: string, share: number) => {
      for (let done = 0; done < share; done += 1) {
        await this.#checkout(`${name}-${done}`, "normal");
      }
    };
    const lanes = Array.from({ length: primingLanes }, (_, index) => `prime-${index}`);
    await Promise.all(lanes.map((name) => lane(name, calls / primingLanes)));
  }

  async run(plan: readonly PlannedCall[]): Promise<readonly CallResult[]> {
    const ticker = setInterval(() => report({ type: "tally", ...this.tally }), 200);
    const beginMs = performance.now();
    const ends: Promise<CallResult>[] = [];
    for (const planned of plan) {
      const waitMs = beginMs + planned.atMs - performance.now();
      // Where it is late, too: sent in one go, many calls would keep the answers of all others from being read.
      if (waitMs > 0) await sleep(waitMs);
      else if (ends.length % callsInOneGo === 0) await nextTurn();
      ends.push(this.#send(planned));
    }
    const calls = await Promise.all(ends);
    clearInterval(ticker);
    return calls;
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
    const error = await this.#checkout(orderId, priority);
    const ms = performance.now() - startMs;
    const end = this.#endOf(error);
    this.#counts[end] += 1;
    const code = Status[error?.code ?? Status.OK];
    return { orderId, priority, phase, end, code, ms };
  }

  #endOf(error: ServiceError | null): End {
    if (error === null) return "ok";
    return this.#hop.wasShed(error) ? "shed" : "failed";
  }

  #checkout(orderId: string, priority: Priority): Promise<ServiceError | null> {
    const options = { deadline: Date.now() + deadlineMs };
    const metadata = new Metadata();
    metadata.set("x-request-priority", priority);
    const request = { orderId, sku: "boots", quantity: 1 };
    return new Promise((resolve) => {
      this.#edge.checkout(request, metadata, options, (error) => resolve(error));
    });
  }
}
