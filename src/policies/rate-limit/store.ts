import type { TokenRate } from "./token-bucket.js";

/**
 * The answer of a store to a call that asks for tokens.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/quota.md
 */
export type QuotaAnswer =
  | {
      readonly granted: true;
      /** As in {@link QuotaShort}. The tokens of such a call are never given back. */
      readonly alone?: true;
    }
  | QuotaShort;

/**
 * There are too few tokens.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/quota.md
 */
export interface QuotaShort {
  readonly granted: false;
  /**
   * Milliseconds until there are enough tokens, if no other call takes them; `Infinity` for never.
   * @defaultValue the time in which the rate adds as many tokens as the call costs
   */
  readonly retryAfterMs?: number;
  /**
   * The store cannot reach what processes share, and answers for this process alone. The call has a decision with the
   * reason `STORE_AWAY`, or is refused with a text that says so.
   */
  readonly alone?: true;
}

/**
 * Keeps the tokens of a rate limit: in this process, which is the default, or in a store that several processes share. A
 * store may answer with a promise; each call then waits for the answer.
 *
 * The rate is given with each question, so that a store needs no set-up. Rate limits that share a store need different keys.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/quota.md
 */
export interface QuotaStore {
  /**
   * Takes `cost` tokens of a key, all or none.
   *
   * @param nowMs Milliseconds on the monotonic clock of this process. It means nothing in another process.
   */
  take(
    key: string,
    cost: number,
    rate: TokenRate,
    nowMs: number,
  ): QuotaAnswer | PromiseLike<QuotaAnswer>;
  /**
   * Puts back tokens that a call took and did not use: a later policy refused it, or it was cancelled before it went on.
   * Without this method they stay spent.
   */
  giveBack?(key: string, cost: number, rate: TokenRate, nowMs: number): unknown;
}
