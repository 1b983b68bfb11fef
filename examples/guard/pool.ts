/** A database pool of a few connections, whose database may hang. Its driver does not heed signals. */
export class Pool {
  readonly #connections: number;
  readonly #waiting: (() => void)[] = [];
  #busy = 0;
  #thawed: Promise<void> = Promise.resolve();

  constructor(connections: number) {
    this.#connections = connections;
  }

  get busy(): number {
    return this.#busy;
  }

  /** From now on queries hang, until the result is called. */
  hang(): () => void {
    let thaw: () => void = () => {};
    this.#thawed = new Promise((resolve) => {
      thaw = resolve;
    });
    return thaw;
  }

  async query<T>(rows: T): Promise<T> {
    if (this.#busy === this.#connections) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else this.#busy += 1;
    try {
      await new Promise((resolve) => setTimeout(resolve, 5));
      await this.#thawed;
      return rows;
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#busy -= 1;
      else next();
    }
  }
}
