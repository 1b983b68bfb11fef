import { performance } from "node:perf_hooks";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { credentials, Metadata, type ServiceError, status as Status } from "@grpc/grpc-js";
import type { Priority } from "grpc-weir";
import { EdgeServiceClient } from "../gen/demo/shop/v1/edge.js";
import type { Hop } from "./hop.js";
import { type CallResult, type End, report, type Tally } from "./messages.js";
import { deadlineMs, type PlannedCall, priorities, seededRandom } from "./script.js";

/** Calls that are late are sent so many at a time. */
const callsInOneGo = 8;

/** How often calls of a flow are sent. */
const flowEveryMs = 25;

/** Priming calls at once. */
const primingLanes = 6;

/** Sends the checkouts of the plan at their times, whatever became of those before. */
export class Caller {
  readonly #hop: Hop;
  readonly #edge: EdgeServiceClient;
  readonly #counts = { sent: 0, ok: 0, shed: 0, failed: 0, endedCritical: 0, okCritical: 0 };
  #servedMs: number[] = [];
  #flow: NodeJS.Timeout | undefined;
  #flowed = 0;
  readonly #nextPriority = priorities(seededRandom(1));

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
    const ticker = setInterval(() => this.#tell(), 200);
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
    this.#tell();
    return calls;
  }

  /** Sends calls without an end, so many a second, until it is called again. */
  flow(callsPerSecond: number): void {
    clearInterval(this.#flow);
    if (callsPerSecond === 0) {
      this.#flow = undefined;
      return;
    }
    let due = 0;
    let beforeMs = performance.now();
    this.#flow = setInterval(() => {
      const nowMs = performance.now();
      // Where it is late, it sends what is due, and not what a pause of seconds has piled up.
      due = Math.min(due + ((nowMs - beforeMs) / 1_000) * callsPerSecond, callsPerSecond);
      beforeMs = nowMs;
      for (; due >= 1; due -= 1) {
        this.#flowed += 1;
        const priority = this.#nextPriority();
        void this.#send({ orderId: `flow-${this.#flowed}`, priority, phase: "", atMs: 0 });
      }
      this.#tell();
    }, flowEveryMs);
  }

  close(): void {
    this.flow(0);
    this.#edge.close();
  }

  #tell(): void {
    const tally: Tally = { ...this.#counts, servedMs: this.#servedMs };
    this.#servedMs = [];
    report({ type: "tally", ...tally });
  }

  async #send({ orderId, priority, phase }: PlannedCall): Promise<CallResult> {
    this.#counts.sent += 1;
    const startMs = performance.now();
    const error = await this.#checkout(orderId, priority);
    const ms = performance.now() - startMs;
    const end = this.#endOf(error);
    const critical = priority === "critical" ? 1 : 0;
    this.#counts[end] += 1;
    this.#counts.endedCritical += critical;
    if (end === "ok") {
      this.#counts.okCritical += critical;
      this.#servedMs.push(ms);
    }
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
