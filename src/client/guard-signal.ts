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
    return error instanceof Error && error.name === "AbortError";
  } catch {
    // A property that throws.
    return false;
  }
}
