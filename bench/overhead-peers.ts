import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Load } from "./overhead-load.js";
import type { Answer, Order, Variant } from "./overhead-peer.js";

const peerFile = fileURLToPath(new URL("./overhead-peer.js", import.meta.url));

/** A client or a server in a process of its own, as the coordinator sees it. One order at a time. */
export class Peer {
  readonly variant: Variant;
  readonly #process: ChildProcess;
  #port = 0;
  #waiting: ((answer: Answer) => void) | undefined;

  constructor(variant: Variant) {
    this.variant = variant;
    this.#process = fork(peerFile, [variant]);
    this.#process.on("message", (answer: Answer) => this.#waiting?.(answer));
    this.#process.on("exit", () => this.#waiting?.({ error: "the process ended" }));
  }

  /** Makes a server of it. */
  async listen(): Promise<void> {
    this.#port = (await this.#order({ do: "listen" })).port ?? 0;
  }

  /** CPU time since the process began, in microseconds. */
  async cpuUs(): Promise<number> {
    return (await this.#order({ do: "cpu" })).cpuUs ?? Number.NaN;
  }

  /** Has it make the calls to the server. */
  async load(server: Peer, load: Load): Promise<{ cpuUs: number; elapsedMs: number }> {
    const { cpuUs, elapsedMs } = await this.#order({ do: "load", port: server.#port, load });
    return { cpuUs: cpuUs ?? Number.NaN, elapsedMs: elapsedMs ?? Number.NaN };
  }

  stop(): void {
    this.#process.disconnect();
  }

  #order(order: Order): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#waiting = (answer) => {
        this.#waiting = undefined;
        if (answer.error === undefined) resolve(answer);
        else reject(new Error(`the ${this.variant} peer, asked to ${order.do}: ${answer.error}`));
      };
      this.#process.send(order);
    });
  }
}
