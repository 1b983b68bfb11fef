import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";

/** A process of the bench as the coordinator sees it. One order at a time. */
export class Peer<
  Order extends { readonly do: string },
  Answer extends { readonly error?: string },
> {
  readonly #name: string;
  readonly #process: ChildProcess;
  #waiting: ((answer: Answer | { readonly error: string }) => void) | undefined;

  constructor(name: string) {
    this.#name = name;
    this.#process = fork(fileURLToPath(new URL(`./overload-${name}.js`, import.meta.url)));
    this.#process.on("message", (answer: Answer) => this.#waiting?.(answer));
    this.#process.on("exit", (code, signal) =>
      this.#waiting?.({ error: `the process ended, ${code ?? signal}` }),
    );
  }

  /** Rejects when the process says so, ends, or does not answer within `patienceMs`. */
  ask(order: Order, patienceMs = 60_000): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const fail = (problem: string) => {
        this.#waiting = undefined;
        clearTimeout(timer);
        reject(new Error(`the ${this.#name}, asked to ${order.do}: ${problem}`));
      };
      const timer = setTimeout(() => fail(`no answer in ${patienceMs} ms`), patienceMs);
      this.#waiting = (answer) => {
        if (answer.error !== undefined) return fail(answer.error);
        this.#waiting = undefined;
        clearTimeout(timer);
        resolve(answer as Answer);
      };
      this.#process.send(order);
    });
  }

  /** At once, whatever it is at: a server without any guard may have seconds of work before it listens again. */
  stop(): void {
    this.#process.kill("SIGKILL");
  }
}
