/**
 * The version of this package.
 *
 * @internal Exported for its test, which compares it with `package.json`.
 */
export const packageVersion = "0.1.0";

/**
 * What all copies of this version of the package have together. A process has two of them where a loader takes `require` and
 * `import` to different files, or where the package is bundled into one part of a program and installed for another. Without
 * this, `currentCall()` of one copy would not see the call that the other serves. Other versions have their own: what is kept
 * may be of another shape there.
 *
 * @param name Of what is shared, one for each call of this function.
 */
export function processWide<T extends object>(name: string, make: () => T): T {
  const key = Symbol.for(`grpc-weir/${packageVersion}/${name}`);
  // The name stands for the type, in this version.
  const held = Reflect.get(globalThis, key) as T | undefined;
  if (held !== undefined) return held;
  const made = make();
  Object.defineProperty(globalThis, key, { value: made });
  return made;
}
