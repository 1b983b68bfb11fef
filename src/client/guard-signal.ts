/**
 * The signal of work that nothing can call off. It is shared by all such work, so it keeps no listener: none would
 * ever be told, and those that nobody takes back would pile up.
 */
export const neverAborted: AbortSignal = Object.defineProperty(
  new AbortController().signal,
  "addEventListener",
  { value: () => {} },
);

/** What a function rejects with that was called off, or that calls itself off. It says nothing of what it calls. */
export function isAbort(error: unknown): boolean {
  try {
    // Not by its class: errors of another realm, such as a vm context or a test environment, have another one.
    if (typeof error !== "object" || error === null) return false;
    const { name }: { readonly name?: unknown } = error;
    return name === "AbortError";
  } catch {
    // A property that throws.
    return false;
  }
}
