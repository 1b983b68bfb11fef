import assert from "node:assert/strict";

/** Errors that reached nobody but the process. */
export class Strays {
  readonly #errors: unknown[] = [];
  readonly #note = (error: unknown) => {
    this.#errors.push(error);
  };

  /** Listens until `stop`. Errors stay visible to whoever else listens. */
  constructor() {
    process.on("uncaughtException", this.#note);
    process.on("unhandledRejection", this.#note);
  }

  stop(): void {
    process.off("uncaughtException", this.#note);
    process.off("unhandledRejection", this.#note);
  }

  verify(): void {
    const [first] = this.#errors;
    if (this.#errors.length === 0) return;
    throw new assert.AssertionError({
      message: `an error reached nobody but the process: ${String(first)}`,
    });
  }
}
