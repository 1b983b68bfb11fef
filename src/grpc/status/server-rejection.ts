import type { Buffer } from "node:buffer";
import {
  Metadata,
  type MetadataValue,
  type status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import type { RefusalReason } from "../../core/decision.js";
import type { Refusal } from "../../core/permit.js";
import { type Priority, priorities, priorityRank } from "../../core/priority.js";
import { admissionKey, noteOwnAdmission, pushbackKey } from "../metadata.js";
import {
  encodeRejection,
  refusalText,
  standingText,
  statusDetailsKey,
  statusOf,
  wireMs,
} from "./rejection.js";

/** The pushback of a server that asks not to be retried (gRFC A6). */
const noRetry = "-1";

/** What is known of a refused call and of its server. */
interface Refused {
  readonly priority?: Priority | undefined;
  /** The level that the server publishes: the value of `x-weir-admission`. */
  readonly admission?: string | undefined;
}

/**
 * The status of a call that a server refuses before its handler runs. It carries `retryAfterMs` as pushback, which
 * every gRPC client knows, and as RetryInfo, and the subject of a quota as QuotaFailure.
 */
export function serverRejection(
  refusal: Refusal,
  { priority, admission }: Refused = {},
): StatusObject {
  const { reason, subject } = refusal;
  const code = statusOf(reason);
  const answer =
    (subject === undefined ? standingAnswer(code, refusal, priority) : undefined) ??
    encodeAnswer(refusalText(refusal), code, refusal, priority);
  const metadata = new RefusalMetadata(trailersOf(answer, admission), true);
  if (admission !== undefined) noteOwnAdmission(metadata);
  return { code, details: answer.details, metadata };
}

/** A refusal, encoded for the wire. Shared by all calls with the same answer. */
interface Answer {
  readonly details: string;
  readonly bytes: Buffer;
  readonly pushback: string | undefined;
  /** The trailers with the level that the server published last. */
  trailers: Trailers | undefined;
}

/** The trailers of an answer, as metadata and as headers. Shared, too: never written to. */
interface Trailers {
  readonly admission: string | undefined;
  readonly values: Map<string, MetadataValue[]>;
  readonly headers: Readonly<Record<string, string>>;
}

/** Answers that can be used again: by reason, then by a number made of priority and wait. */
const standing = new Map<RefusalReason, Map<number, Answer>>();
const maxStanding = 512;

/**
 * An answer that is encoded once for all calls with the same reason, priority and wait. Under overload a server refuses
 * most calls, and the CPU time for refusals is taken from the calls that it serves. Therefore these answers leave out
 * the numbers of the moment, such as the queue's length: those stand in the server's traces. HTTP/2 header compression
 * also sends an answer that is repeated as an index. `undefined` for reasons whose detail is the whole sentence.
 */
function standingAnswer(
  code: Status,
  refusal: Refusal,
  priority: Priority | undefined,
): Answer | undefined {
  const { reason } = refusal;
  const retryAfterMs = sentMs(refusal);
  // A number, because making a text would be a good part of the cost of a refusal.
  const rank = priority === undefined ? priorities.length : priorityRank[priority];
  const waitMs = retryAfterMs ?? -1;
  const key = waitMs * (priorities.length + 1) + rank;
  const known = standing.get(reason)?.get(key);
  if (known !== undefined) return known;
  const details = standingText(reason, retryAfterMs);
  if (details === undefined) return undefined;
  const answer = encodeAnswer(details, code, refusal, priority);
  const answers = standing.get(reason) ?? new Map<number, Answer>();
  if (answers.size >= maxStanding) answers.clear();
  standing.set(reason, answers.set(key, answer));
  return answer;
}

/** The wait, at most what a pushback can carry: an int32 (gRFC A6). RetryInfo has the same. */
function sentMs({ retryAfterMs }: Refusal): number | undefined {
  return retryAfterMs === undefined ? undefined : wireMs(retryAfterMs, 2 ** 31 - 1);
}

function encodeAnswer(
  details: string,
  code: Status,
  refusal: Refusal,
  priority: Priority | undefined,
): Answer {
  const { subject } = refusal;
  const retryAfterMs = sentMs(refusal);
  const sent = retryAfterMs === undefined ? refusal : { ...refusal, retryAfterMs };
  const info = priority === undefined ? { scope: "instance" } : { scope: "instance", priority };
  const bytes = encodeRejection(code, details, sent, info);
  const wait = retryAfterMs === undefined ? undefined : String(retryAfterMs);
  // Another try is of no use: nobody switches a method off for the time of a backoff.
  const never = subject !== undefined || refusal.reason === "KILLED";
  const pushback = wait ?? (never ? noRetry : undefined);
  return { details, bytes, pushback, trailers: undefined };
}

function trailersOf(answer: Answer, admission: string | undefined): Trailers {
  const { trailers: known, bytes, pushback } = answer;
  if (known !== undefined && known.admission === admission) return known;
  const values = new Map<string, MetadataValue[]>([[statusDetailsKey, [bytes]]]);
  const headers: Record<string, string> = { [statusDetailsKey]: bytes.toString("base64") };
  const set = (key: string, value: string | undefined) => {
    if (value === undefined) return;
    values.set(key, [value]);
    headers[key] = value;
  };
  set(pushbackKey, pushback);
  set(admissionKey, admission);
  answer.trailers = { admission, values, headers };
  return answer.trailers;
}

/**
 * The metadata of a call that a server policy refused. grpc-js copies the metadata of each status and encodes the bytes
 * in base64, which is a good part of the cost of a refusal. This class and its copies use the trailers of an encoded answer as
 * they are, until one is changed: that one gets values of its own.
 */
export class RefusalMetadata extends Metadata {
  /** `undefined` once the values are its own. */
  #trailers: Trailers | undefined;
  readonly #original: boolean;

  constructor(trailers: Trailers, original: boolean) {
    super();
    this.#trailers = trailers;
    this.#original = original;
    this.internalRepr = trailers.values;
  }

  /** Whether a policy of this server made the metadata for this call. A clone may belong to any other call. */
  static isOriginal(metadata: Metadata): boolean {
    return metadata instanceof RefusalMetadata && metadata.#original;
  }

  override set(key: string, value: MetadataValue): void {
    this.#change();
    super.set(key, value);
  }

  override add(key: string, value: MetadataValue): void {
    this.#change();
    super.add(key, value);
  }

  override remove(key: string): void {
    this.#change();
    super.remove(key);
  }

  override merge(other: Metadata): void {
    this.#change();
    super.merge(other);
  }

  override clone(): Metadata {
    if (this.#trailers === undefined) return super.clone();
    const copy = new RefusalMetadata(this.#trailers, false);
    copy.setOptions(this.getOptions());
    return copy;
  }

  override toHttp2Headers(): ReturnType<Metadata["toHttp2Headers"]> {
    return this.#trailers === undefined ? super.toHttp2Headers() : { ...this.#trailers.headers };
  }

  #change(): void {
    if (this.#trailers === undefined) return;
    this.internalRepr = new Map();
    for (const [key, values] of this.#trailers.values) this.internalRepr.set(key, [...values]);
    this.#trailers = undefined;
  }
}
