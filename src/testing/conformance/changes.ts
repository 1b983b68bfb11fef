/** Lets a case wait for a condition on what it records. */
export class Changes {
  #waiting: { readonly met: () => boolean; readonly resolve: () => void }[] = [];

  /** Resolves as soon as `met` is true. It is called now and after each change. */
  when(met: () => boolean): Promise<void> {
    if (met()) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.push({ met, resolve });
    });
  }

  /** Something has changed: checks the conditions that are waited for. */
  notify(): void {
    this.#waiting = this.#waiting.filter(({ met, resolve }) => {
      if (!met()) return true;
      resolve();
      return false;
    });
  }
}
