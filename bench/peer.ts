import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";

/** What a process of the bench is told to do. */
interface Told {
  readonly do: string;
}

/** What it says when it has done it, or could not. */
interface Said {
  readonly error?: string;
}

/** A process of the bench as the coordinator sees it. One order at a time. */
export class Peer<Order extends Told, Answer extends Said> {
  readonly name: string;
  readonly #process: ChildProcess;
  readonly #patienceMs: number | undefined;
  #waiting: ((answer: Answer | { readonly error: string }) => void) | undefined;

  /**
   * @param program Its file in this folder, without the ending.
   * @param patienceMs How long it may take to answer. Without it, as long as it lives.
   * @param node The Node that runs it. Without it, the one that runs this process.
   */
  constructor(
    program: string,
    name: string,
    {
      args = [],
      patienceMs,
      node = process.execPath,
    }: {
      readonly args?: readonly string[];
      readonly patienceMs?: number;
      readonly node?: string;
    } = {},
  ) {
    this.name = name;
    this.#patienceMs = patienceMs;
    this.#process = fork(fileURLToPath(new URL(`./${program}.js`, import.meta.url)), args, {
      execPath: node,
    });
    this.#process.on("message", (answer: Answer) => this.#waiting?.(answer));
    this.#process.on("exit", (code, signal) =>
      this.#waiting?.({ error: `the process ended, ${code ?? signal}` }),
    );
  }

  /** Rejects when the process says so, ends, or takes too long to answer. */
  ask(order: Order): Promise<Answer> {
    const patienceMs = this.#patienceMs;
    return new Promise((resolve, reject) => {
      const answered = (answer: Answer | { readonly error: string }) => {
        this.#waiting = undefined;
        clearTimeout(timer);
        if (answer.error === undefined) resolve(answer as Answer);
        else reject(new Error(`${this.name}, asked to ${order.do}: ${answer.error}`));
      };
      const late = () => answered({ error: `no answer in ${patienceMs} ms` });
      const timer = patienceMs === undefined ? undefined : setTimeout(late, patienceMs);
      this.#waiting = answered;
      this.#process.send(order);
    });
  }

  stop(): void {
    // A process that has ended by itself is disconnected already.
    if (this.#process.connected) this.#process.disconnect();
  }

  /** At once, whatever it is at: a server without any guard may have seconds of work before it listens again. */
  kill(): void {
    this.#process.kill("SIGKILL");
  }
}

/** Makes the process that calls it a peer: it does what the coordinator says, until that is gone. */
export function obeyOrders<Order extends Told, Answer extends Said>(
  obey: (order: Order) => Promise<Answer>,
): void {
  process.on("message", (order: Order) => {
    obey(order).then(
      (answer) => process.send?.(answer),
      (error: unknown) => process.send?.({ error: String(error) } satisfies Said),
    );
  });
  // Nobody waits for what is measured here any more.
  process.on("disconnect", () => process.exit());
}
