/**
 * Makes one value for each key, and keeps it for as long as somebody uses it: whoever asks with the same key shares it meanwhile.
 * Keys whose values were collected are forgotten when a new one is made.
 */
export class WeakMemo<T extends object> {
  readonly #values = new Map<string, WeakRef<T>>();

  of(key: string, make: () => T): T {
    const present = this.#values.get(key)?.deref();
    if (present !== undefined) return present;
    for (const [known, ref] of this.#values) {
      if (ref.deref() === undefined) this.#values.delete(known);
    }
    const made = make();
    this.#values.set(key, new WeakRef(made));
    return made;
  }

  /** Keys that are kept, some of them perhaps of values that nobody uses. */
  get size(): number {
    return this.#values.size;
  }
}
