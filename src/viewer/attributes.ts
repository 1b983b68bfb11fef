import type { Attributes, AttributeValue } from "./api.js";

/** What is kept of one span, event or resource: the first so many attributes. */
const maxAttributes = 128;
/** Elements of an array. */
const maxElements = 64;
/** Characters of a text. */
const maxText = 4096;

/** Attributes as the viewer keeps them: what JSON cannot say becomes text, and what is too long is cut. */
export function keptAttributes(entries: Iterable<readonly [string, unknown]>): Attributes {
  const kept: [string, AttributeValue][] = [];
  for (const [key, value] of entries) {
    if (kept.length === maxAttributes) break;
    const read = keptValue(value);
    if (read !== undefined) kept.push([keptText(key), read]);
  }
  return Object.fromEntries(kept);
}

function keptValue(value: unknown): AttributeValue | undefined {
  if (Array.isArray(value)) return value.slice(0, maxElements).map(keptElement);
  return keptElement(value) ?? undefined;
}

function keptElement(value: unknown): string | number | boolean | null {
  if (typeof value === "string") return keptText(value);
  if (typeof value === "boolean") return value;
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  if (typeof value === "bigint") return keptInteger(value);
  if (typeof value !== "object" || value === null) return null;
  return keptText(JSON.stringify(value, shownInJson));
}

function shownInJson(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? keptInteger(value) : value;
}

/** A whole number of 64 bits; as text where a number would change it. */
function keptInteger(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}

/** A text, cut where it is too long. */
export function keptText(text: string, most = maxText): string {
  if (text.length <= most) return text;
  // Through bytes: a slice of a string keeps all of it in memory.
  return `${Buffer.from(text.slice(0, most)).toString()}…`;
}
