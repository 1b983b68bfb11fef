/** Lets a case wait until something that it can see has become true. */
export class Changes {
  #waiting: { readonly met: () => boolean; readonly resolve: () => void }[] = [];

  /** Resolves as soon as `met` holds; it is asked now and after each change. */
  when(met: () => boolean): Promise<void> {
    if (met()) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.push({ met, resolve });
    });
  }

  /** Says that something changed. */
  tell(): void {
    this.#waiting = this.#waiting.filter(({ met, resolve }) => {
      if (!met()) return true;
      resolve();
      return false;
    });
  }
}
