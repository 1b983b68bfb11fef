import { InvalidOptionError } from "./options.js";

/** Seconds that a `google.protobuf.Duration` may have: about ten thousand years. */
const maxSeconds = 315_576_000_000;

/**
 * Milliseconds of a `google.protobuf.Duration` in JSON: text such as `"1.5s"`, with up to nine decimals, or an object
 * `{ seconds, nanos }`. Negative durations are refused, since nothing here lasts less than no time.
 *
 * @param option Where it stands, for the error.
 * @throws InvalidOptionError when it is no duration.
 */
export function protoDurationMs(option: string, value: unknown): number {
  const parts = typeof value === "string" ? ofText(value) : ofObject(value);
  if (parts === undefined || parts.seconds > maxSeconds) {
    throw new InvalidOptionError(option, 'a duration such as "1.5s", not below zero', value);
  }
  return parts.seconds * 1_000 + parts.nanos / 1_000_000;
}

interface Parts {
  readonly seconds: number;
  readonly nanos: number;
}

function ofText(value: string): Parts | undefined {
  const [matched, seconds, decimals = ""] = /^(\d{1,12})(?:\.(\d{1,9}))?s$/.exec(value) ?? [];
  if (matched === undefined) return undefined;
  // The decimals are a fraction: ".05" is 50 ms, not 5 ns.
  return { seconds: Number(seconds), nanos: Number(decimals.padEnd(9, "0")) };
}

function ofObject(value: unknown): Parts | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const { seconds = 0, nanos = 0 } = value as Readonly<Record<keyof Parts, unknown>>;
  // An int64 is text in JSON, and a number in configs that people write.
  const whole =
    typeof seconds === "string" && /^\d{1,12}$/.test(seconds) ? Number(seconds) : seconds;
  if (typeof whole !== "number" || !Number.isInteger(whole) || whole < 0) return undefined;
  if (typeof nanos !== "number" || !Number.isInteger(nanos)) return undefined;
  return nanos < 0 || nanos > 999_999_999 ? undefined : { seconds: whole, nanos };
}
