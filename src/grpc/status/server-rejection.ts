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
import { pushbackKey } from "../metadata.js";
import {
  again,
  encodeRejection,
  refusalText,
  statusDetailsKey,
  statusOf,
  titleOf,
  wireMs,
} from "./rejection.js";

/** The pushback of a server that asks not to be retried (gRFC A6). */
const noRetry = "-1";

/**
 * The status of a call that a server refuses before its handler runs. It carries `retryAfterMs` as pushback, which
 * every gRPC client knows, and as RetryInfo, and the subject of a quota as QuotaFailure.
 */
export function serverRejection(
  refusal: Refusal,
  info: { readonly priority?: Priority } = {},
): StatusObject {
  const { reason, subject } = refusal;
  const code = statusOf(reason);
  const title = subject === undefined ? titleOf(reason) : undefined;
  const answer =
    title === undefined
      ? encodeAnswer(refusalText(refusal), code, refusal, info.priority)
      : standingAnswer(title, code, refusal, info.priority);
  const metadata = new RefusalMetadata(answer, answer.pushback);
  return { code, details: answer.details, metadata };
}

/** A refusal, encoded for the wire. */
interface Answer extends EncodedDetails {
  readonly details: string;
  readonly pushback: string | undefined;
}

/** Answers that can be used again: by reason, then by a number made of priority and wait. */
const standing = new Map<RefusalReason, Map<number, Answer>>();
const maxStanding = 512;

/**
 * An answer that is encoded once for all calls with the same reason, priority and wait. Under overload a server refuses
 * most calls, and the CPU time for refusals is taken from the calls that it serves. Therefore these answers leave out
 * the numbers of the moment, such as the queue's length: those stand in the server's traces. HTTP/2 header compression
 * also sends an answer that is repeated as an index.
 */
function standingAnswer(
  title: string,
  code: Status,
  refusal: Refusal,
  priority: Priority | undefined,
): Answer {
  const { reason } = refusal;
  const retryAfterMs = sentMs(refusal);
  // A number, because making a text would be a good part of the cost of a refusal.
  const rank = priority === undefined ? priorities.length : priorityRank[priority];
  const waitMs = retryAfterMs ?? -1;
  const key = waitMs * (priorities.length + 1) + rank;
  const known = standing.get(reason)?.get(key);
  if (known !== undefined) return known;
  const answer = encodeAnswer(`${title}${again(retryAfterMs)}`, code, refusal, priority);
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
  const pushback = wait ?? (subject === undefined ? undefined : noRetry);
  return { details, bytes, base64: bytes.toString("base64"), pushback };
}

/** Serialised details of a status. */
export interface EncodedDetails {
  /** Shared by all calls with the same answer: never written to. */
  readonly bytes: Buffer;
  readonly base64: string;
}

/**
 * The metadata of a call that a server policy refused. grpc-js copies the metadata of each status and encodes the bytes
 * in base64, which is a good part of the cost of a refusal. This class uses the bytes and the base64 text of an encoded
 * answer again.
 */
export class RefusalMetadata extends Metadata {
  readonly #details: EncodedDetails;
  #original = true;

  constructor(details: EncodedDetails, pushback: string | undefined) {
    super();
    this.#details = details;
    this.internalRepr.set(statusDetailsKey, [details.bytes]);
    if (pushback !== undefined) this.internalRepr.set(pushbackKey, [pushback]);
  }

  /** Whether a policy of this server made the metadata for this call. A clone may belong to any other call. */
  static isOriginal(metadata: Metadata): boolean {
    return metadata instanceof RefusalMetadata && metadata.#original;
  }

  override clone(): RefusalMetadata {
    const copy = new RefusalMetadata(this.#details, undefined);
    copy.#original = false;
    copy.setOptions(this.getOptions());
    copy.internalRepr.clear();
    for (const [key, values] of this.internalRepr) copy.internalRepr.set(key, [...values]);
    return copy;
  }

  override toHttp2Headers(): ReturnType<Metadata["toHttp2Headers"]> {
    const headers: ReturnType<Metadata["toHttp2Headers"]> = {};
    for (const [key, values] of this.internalRepr) {
      const [value] = values;
      headers[key] =
        values.length === 1 && value !== undefined
          ? this.#text(value)
          : values.map((each) => this.#text(each));
    }
    return headers;
  }

  #text(value: MetadataValue): string {
    if (typeof value === "string") return value;
    return value === this.#details.bytes ? this.#details.base64 : value.toString("base64");
  }
}
