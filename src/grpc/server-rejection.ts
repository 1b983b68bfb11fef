import type { status as Status, StatusObject } from "@grpc/grpc-js";
import type { Priority } from "../core/priority.js";
import type { Refusal } from "../core/refusal.js";
import { type EncodedDetails, RefusalMetadata } from "./refusal-metadata.js";
import { again, encodeRejection, refusalText, statusOf, titleOf } from "./rejection.js";

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
  const { details, bytes, base64, pushback } =
    title === undefined
      ? encodeAnswer(refusalText(refusal), code, refusal, info.priority)
      : standingAnswer(title, code, refusal, info.priority);
  return { code, details, metadata: new RefusalMetadata({ bytes, base64 }, pushback) };
}

/** What a caller who is refused is told, ready for the wire. */
interface Answer extends EncodedDetails {
  readonly details: string;
  readonly pushback: string | undefined;
}

/** Answers that were given lately. */
const standing = new Map<string, Answer>();
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
  const { reason, retryAfterMs } = refusal;
  const key = `${reason} ${priority ?? ""} ${retryAfterMs === undefined ? "" : Math.ceil(retryAfterMs)}`;
  const known = standing.get(key);
  if (known !== undefined) return known;
  const answer = encodeAnswer(`${title}${again(retryAfterMs)}`, code, refusal, priority);
  if (standing.size >= maxStanding) standing.clear();
  standing.set(key, answer);
  return answer;
}

function encodeAnswer(
  details: string,
  code: Status,
  refusal: Refusal,
  priority: Priority | undefined,
): Answer {
  const { retryAfterMs, subject } = refusal;
  const info = priority === undefined ? { scope: "instance" } : { scope: "instance", priority };
  const bytes = encodeRejection(code, details, refusal, info);
  const wait = retryAfterMs === undefined ? undefined : String(Math.ceil(retryAfterMs));
  const pushback = wait ?? (subject === undefined ? undefined : noRetry);
  return { details, bytes, base64: bytes.toString("base64"), pushback };
}
