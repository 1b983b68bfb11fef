import { Metadata } from "@grpc/grpc-js";
import type { AdmissionLevel } from "../core/admission-level.js";

/**
 * Trailer: from which place on the server refuses calls at present, and how long that holds, on every answer while
 * it does: `v=1;level=3;ttl-ms=1000`. See {@link AdmissionLevel} for what a level is. More fields may follow.
 */
export const admissionKey = "x-weir-admission";

/** Longer values are nobody's. */
const maxLength = 128;
/** No word of a server holds longer, in milliseconds. */
const maxTtlMs = 2_000;
const field = /^([a-z][a-z-]{0,15})=([\w.-]{1,32})$/;

export function formatAdmission({ level, ttlMs }: AdmissionLevel): string {
  return `v=1;level=${level};ttl-ms=${ttlMs}`;
}

/** What a server says of the calls it would refuse. What is malformed, repeated or too long reads as absent. */
export function readAdmission(metadata: Metadata): AdmissionLevel | undefined {
  const values = metadata.get(admissionKey);
  const [value] = values;
  if (values.length !== 1 || typeof value !== "string" || value.length > maxLength) {
    return undefined;
  }
  const fields = new Map<string, string>();
  for (const part of value.split(";")) {
    const [, name, said] = field.exec(part) ?? [];
    if (name === undefined || said === undefined || fields.has(name)) return undefined;
    fields.set(name, said);
  }
  if (fields.get("v") !== "1") return undefined;
  const level = fields.get("level") ?? "";
  const ttl = fields.get("ttl-ms") ?? "";
  // From the first rank that can be refused to the end of the last.
  if (!/^(?:[1-3](?:\.\d{1,4})?|4)$/.test(level) || !/^[1-9]\d{0,5}$/.test(ttl)) return undefined;
  return { level: Number(level), ttlMs: Math.min(Number(ttl), maxTtlMs) };
}

/** Metadata to which a policy of this process has put a level. What a service below said is not among it. */
const toldHere = new WeakSet<Metadata>();

export function tellAdmission(metadata: Metadata, admission: string): void {
  metadata.set(admissionKey, admission);
  toldHere.add(metadata);
}

/** A policy of this process has put the level there. */
export function isToldHere(metadata: Metadata): boolean {
  return toldHere.has(metadata);
}

/**
 * The trailers of a status as they leave this server: with its own level, if it has one to say, and without that of
 * a service below whose status a handler passes on. What the handler has given is left as it is.
 */
export function withAdmission(
  metadata: Metadata | undefined,
  admission: string | undefined,
): Metadata | undefined {
  const foreign =
    metadata !== undefined && metadata.get(admissionKey).length > 0 && !toldHere.has(metadata);
  if (admission === undefined && !foreign) return metadata;
  const own = metadata?.clone() ?? new Metadata();
  if (admission === undefined) own.remove(admissionKey);
  else tellAdmission(own, admission);
  return own;
}
