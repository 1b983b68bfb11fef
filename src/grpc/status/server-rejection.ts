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

/** Pushback by which a server asks not to be retried (gRFC A6). */
const noRetry = "-1";

/**
 * A status for a call that the server refuses before its handler runs. It asks the caller to come
 * back after `retryAfterMs`: as pushback, which every gRPC client knows, and as RetryInfo. Whose quota is used up
 * stands in QuotaFailure.
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

/** What a caller who is refused is told, ready for the wire. */
interface Answer extends EncodedDetails {
  readonly details: string;
  readonly pushback: string | undefined;
}

/** Answers that were given lately, by their reason and then by a number of priority and wait. */
const standing = new Map<RefusalReason, Map<number, Answer>>();
const maxStanding = 512;

/**
 * A server under load says the same few things over and over, and what it spends on saying no is not there for those it
 * serves. So they stand without the numbers of the moment, which are for the server's own traces: each is encoded once, and
 * the compression of headers knows it the second time.
 */
function standingAnswer(
  title: string,
  code: Status,
  refusal: Refusal,
  priority: Priority | undefined,
): Answer {
  const { reason } = refusal;
  const retryAfterMs = sentMs(refusal);
  // No text is put together for it: that would be a good part of what the answer costs.
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

/** The same in both places, and what a pushback can say: an int32 (gRFC A6). */
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

/** Details of a status, as they are kept and as they stand on the wire. */
export interface EncodedDetails {
  /** Shared by all who are told the same: nobody writes into them. */
  readonly bytes: Buffer;
  readonly base64: string;
}

/**
 * The metadata of a call that a server policy refused. grpc-js copies the metadata of each status, bytes too, and then
 * turns these into text; on a server that refuses most of its calls that is a good part of what a refusal costs. Here both
 * were done before.
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

  /** Made by a policy of this server for this call. A copy may have come from anywhere, as what a client was told does. */
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
