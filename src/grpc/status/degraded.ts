import { Metadata, status as Status } from "@grpc/grpc-js";
import { shown } from "../../core/options.js";
import { processWide } from "../../core/process-wide.js";
import { degradationName } from "../../policies/fallback/chain.js";
import type { PartialStatus } from "../types.js";

/** Trailer, and header of an answer by a fallback: in which parts the answer is degraded. */
const degradedKey = "x-weir-degraded";

/**
 * One cause of a degraded answer.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export interface Degradation {
  /** A `fallback` answered for a service, or a `handler` left something out. */
  readonly source: "fallback" | "handler";
  /** The name of the fallback, or the name that the handler gave. */
  readonly name: string;
  /** `pkg.Service/Method` of the call that the fallback answered, or of the handler. */
  readonly method?: string;
  /** The age of a stored answer, in milliseconds. */
  readonly ageMs?: number;
}

const maxEntries = 16;
const maxEntryChars = 256;
/**
 * The longest value that is written. A value up to twice as long is read, because other senders may count otherwise.
 */
const maxValueChars = 2_048;

const methodName = /^[A-Za-z0-9_.]{1,128}\/[A-Za-z0-9_]{1,64}$/;
const parameter = /^([a-z][a-z-]{0,15})=([A-Za-z0-9._/-]{1,200})$/;

/**
 * A list of degradations with one entry for each cause: of equal ones, the one with the greatest age. It keeps the
 * first 16.
 */
export class Degradations {
  readonly #entries = new Map<string, Degradation>();
  #list: readonly Degradation[] | undefined;

  get list(): readonly Degradation[] {
    this.#list ??= [...this.#entries.values()];
    return this.#list;
  }

  add(degradation: Degradation): void {
    const { source, name, method = "" } = degradation;
    const key = `${source}=${name};${method}`;
    const present = this.#entries.get(key);
    if (present === undefined && this.#entries.size >= maxEntries) return;
    if (present !== undefined && (present.ageMs ?? -1) >= (degradation.ageMs ?? -1)) return;
    this.#entries.set(key, degradation);
    this.#list = undefined;
  }
}

/**
 * The value of {@link degradedKey}: `fallback=stale-cache;age-ms=4200;method=shop.v1.Shop/List, handler=…`.
 * Entries that would make it longer than 2,048 characters are left out.
 *
 * @internal Exported for its tests.
 */
export function formatDegradations(degradations: readonly Degradation[]): string {
  let text = "";
  for (const degradation of degradations.slice(0, maxEntries)) {
    const entry = formatEntry(degradation);
    const longer = text === "" ? entry : `${text}, ${entry}`;
    if (longer.length > maxValueChars) break;
    text = longer;
  }
  return text;
}

function formatEntry({ source, name, method, ageMs }: Degradation): string {
  const age = ageMs === undefined ? "" : `;age-ms=${Math.max(0, Math.round(ageMs))}`;
  const place = method !== undefined && methodName.test(method) ? `;method=${method}` : "";
  return `${source}=${name}${age}${place}`;
}

/**
 * The degradations in metadata. Malformed entries, and what is beyond 4,096 characters, are left out. Unknown
 * parameters of an entry are ignored.
 */
export function readDegradations(metadata: Metadata): readonly Degradation[] {
  const values = metadata.get(degradedKey);
  if (values.length === 0) return [];
  const found = new Degradations();
  let left = 2 * maxValueChars;
  for (const value of values) {
    if (typeof value !== "string") continue;
    left -= value.length;
    if (left < 0) break;
    for (const text of value.split(",", maxEntries)) {
      const entry = parseEntry(text.trim());
      if (entry !== undefined) found.add(entry);
    }
  }
  return found.list;
}

function parseEntry(text: string): Degradation | undefined {
  if (text.length > maxEntryChars) return undefined;
  const [head = "", ...rest] = text.split(";");
  const [source, name = "", ...more] = head.split("=");
  if (more.length > 0 || (source !== "fallback" && source !== "handler")) return undefined;
  if (!degradationName.test(name)) return undefined;
  let entry: Degradation = { source, name };
  for (const part of rest) {
    const [, key, value = ""] = parameter.exec(part) ?? [];
    if (key === undefined) return undefined;
    if (key === "age-ms") {
      if (!/^\d{1,12}$/.test(value)) return undefined;
      entry = { ...entry, ageMs: Number(value) };
    } else if (key === "method") {
      if (!methodName.test(value)) return undefined;
      entry = { ...entry, method: value };
    }
  }
  return entry;
}

/** The degradation of a call that a fallback answered. */
export function fallbackDegradation(
  name: string,
  path: string,
  ageMs: number | undefined,
): Degradation {
  const method = methodOf(path);
  const degradation: Degradation = { source: "fallback", name, method };
  return ageMs === undefined ? degradation : { ...degradation, ageMs: Math.round(ageMs) };
}

/**
 * The degradation that a handler reports. Characters that are not allowed in a name become `_`: a handler is not thrown
 * at.
 */
export function handlerDegradation(name: string, path: string): Degradation {
  const made = (typeof name === "string" ? name : shown(name))
    .slice(0, 64)
    .replace(/[^A-Za-z0-9._-]/g, "_")
    .replace(/^[^A-Za-z0-9]+/, "");
  return { source: "handler", name: made === "" ? "unnamed" : made, method: methodOf(path) };
}

/** `/pkg.Service/Method` → `pkg.Service/Method`. */
function methodOf(path: string): string {
  return path.startsWith("/") ? path.slice(1) : path;
}

/** Sets {@link degradedKey} in the metadata. */
export function mark(metadata: Metadata, degradations: readonly Degradation[]): void {
  const text = formatDegradations(degradations);
  if (text !== "") metadata.set(degradedKey, text);
}

/** The status of an answer that is degraded: with {@link degradedKey} in its trailers. */
export function markedStatus(
  status: PartialStatus,
  degradations: readonly Degradation[],
): PartialStatus {
  if (degradations.length === 0 || status.code !== Status.OK) return status;
  const metadata = status.metadata?.clone() ?? new Metadata();
  const all = new Degradations();
  // A handler may have passed on the trailers of a call of its own.
  for (const one of [...readDegradations(metadata), ...degradations]) all.add(one);
  mark(metadata, all.list);
  return { ...status, metadata };
}

/** Responses that a fallback of this process answered with. */
const responses = processWide(
  "degraded responses",
  () => new WeakMap<object, readonly Degradation[]>(),
);

/** Notes that a fallback answered with this response. */
export function noteResponse(response: unknown, degradations: readonly Degradation[]): void {
  if (typeof response === "object" && response !== null) responses.set(response, degradations);
}

/**
 * The causes for which an answer is degraded: a fallback of this process answered, or a service below reports a
 * degraded answer. Empty for a complete answer.
 *
 * @param answered A status (`call.on("status", …)`), metadata (`call.on("metadata", …)`, which have the fallbacks of
 *   this process only), or a response message of a fallback of this process.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/fallback.md
 */
export function degradationOf(answered: unknown): readonly Degradation[] {
  if (typeof answered !== "object" || answered === null) return [];
  const noted = responses.get(answered);
  if (noted !== undefined) return noted;
  const metadata: unknown = "metadata" in answered ? answered.metadata : answered;
  return metadata instanceof Metadata ? readDegradations(metadata) : [];
}
