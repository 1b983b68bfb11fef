import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Answer, Order } from "./retries-peer.js";

const peerFile = fileURLToPath(new URL("./retries-peer.js", import.meta.url));

/** A process of the bench as the coordinator sees it. One order at a time. */
export class Peer {
  readonly name: string;
  readonly #process: ChildProcess;
  #waiting: ((answer: Answer) => void) | undefined;

  constructor(name: string) {
    this.name = name;
    this.#process = fork(peerFile);
    this.#process.on("message", (answer: Answer) => this.#waiting?.(answer));
    this.#process.on("exit", () => this.#waiting?.({ error: "the process ended" }));
  }

  ask(order: Order): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#waiting = (answer) => {
        this.#waiting = undefined;
        if (answer.error === undefined) resolve(answer);
        else reject(new Error(`${this.name}, asked to ${order.do}: ${answer.error}`));
      };
      this.#process.send(order);
    });
  }

  stop(): void {
    // A process that has ended by itself is disconnected already.
    if (this.#process.connected) this.#process.disconnect();
  }
}
