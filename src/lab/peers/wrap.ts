import { status as Status, type StatusObject } from "@grpc/grpc-js";
import { bareStatus } from "../../testing/in-memory/status.js";
import type { ClientRequest, LabClient, RequestEnd } from "../client.js";
import { bareCosts } from "../costs.js";
import type { Caller } from "../load.js";
import type { LabProcess } from "../process.js";
import { bare } from "./bare.js";
import type { Peer } from "./peer.js";

/** The numbers of the examples in the readme of `cockatiel`, and its defaults for the backoff. */
const maxRetries = 3;
const initialDelayMs = 128;
const maxDelayMs = 30_000;
const consecutiveFailures = 5;
const halfOpenAfterMs = 10_000;

/**
 * `wrap(retry, circuitBreaker)` around each call, in the manner of `cockatiel`: all failures are retried, and five in a row
 * open the breaker for ten seconds.
 */
export const wrap: Peer = {
  name: "wrap",
  client: (process) => ({
    costs: bareCosts.client,
    around: (client) => new Wrap(process, client),
  }),
  server: bare.server,
};

class Wrap implements Caller {
  readonly #process: LabProcess;
  readonly #client: LabClient;
  #failures = 0;
  #openUntilMs: number | undefined;
  #probing = false;

  constructor(process: LabProcess, client: LabClient) {
    this.#process = process;
    this.#client = client;
  }

  request(call: ClientRequest, ended: RequestEnd): void {
    this.#attempt(call, 0, ended);
  }

  #attempt(call: ClientRequest, retries: number, ended: RequestEnd): void {
    this.#throughBreaker(call, (status, response) => {
      const process = this.#process;
      const leftMs = (call.deadline ?? Number.POSITIVE_INFINITY) - process.wallNow();
      const longestMs = Math.min(initialDelayMs * 2 ** retries, maxDelayMs);
      const delayMs = process.random() * longestMs;
      if (status.code === Status.OK || retries >= maxRetries || leftMs <= delayMs) {
        ended(status, response);
        return;
      }
      process.schedule(delayMs, () => this.#attempt(call, retries + 1, ended));
    });
  }

  #throughBreaker(call: ClientRequest, ended: RequestEnd): void {
    const nowMs = this.#process.now();
    const open = this.#openUntilMs;
    if (open !== undefined && (nowMs < open || this.#probing)) {
      ended(bareStatus(Status.RESOURCE_EXHAUSTED, "the circuit is open"), undefined);
      return;
    }
    const probe = open !== undefined;
    this.#probing = probe;
    this.#client.request(call, (status, response) => {
      this.#note(status, probe);
      ended(status, response);
    });
  }

  #note({ code }: StatusObject, probe: boolean): void {
    if (probe) this.#probing = false;
    // What began before the breaker opened says nothing about how things are now.
    else if (this.#openUntilMs !== undefined) return;
    if (code === Status.OK) {
      this.#failures = 0;
      this.#openUntilMs = undefined;
      return;
    }
    this.#failures += 1;
    if (!probe && this.#failures < consecutiveFailures) return;
    this.#openUntilMs = this.#process.now() + halfOpenAfterMs;
  }
}
