import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Accident, Told } from "./messages.js";

const program = fileURLToPath(new URL("./server.js", import.meta.url));

/** A server in a process of its own. */
export class ServerProcess {
  readonly #child: ChildProcess;

  constructor(name: string, redisPort: number) {
    this.#child = fork(program, [name, `${redisPort}`]);
  }

  async target(): Promise<string> {
    const { target } = await this.next("listening");
    return target;
  }

  next<T extends Told["type"]>(type: T): Promise<Extract<Told, { type: T }>> {
    return new Promise((resolve, reject) => {
      this.#child.on("message", (told: Told) => {
        if (told.type === type) resolve(told as Extract<Told, { type: T }>);
      });
      this.#child.once("exit", (code, signal) => {
        reject(new Error(`the server ended before it was "${type}": ${signal ?? code}`));
      });
    });
  }

  expect(accident: Accident): void {
    this.#child.send(accident);
  }

  freeze(): void {
    this.#child.kill("SIGSTOP");
  }

  thaw(): void {
    this.#child.kill("SIGCONT");
  }

  stop(): void {
    this.#child.kill("SIGKILL");
  }
}
