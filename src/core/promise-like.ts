/** Tells what is known at once from what is promised, whoever's promises they are. */
export function isPromiseLike<T>(given: T | PromiseLike<T>): given is PromiseLike<T> {
  return (
    typeof given === "object" &&
    given !== null &&
    "then" in given &&
    typeof given.then === "function"
  );
}
