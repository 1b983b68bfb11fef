import type { TokenRate } from "./token-bucket.js";

/** What a store says to a call that asks for tokens. */
export type QuotaAnswer =
  | { readonly granted: true }
  | {
      readonly granted: false;
      /**
       * After how many milliseconds there will be enough, if nobody else takes them; `Infinity` for never.
       * Left out, it is the time in which the rate brings the cost.
       */
      readonly retryAfterMs?: number;
    };

/**
 * Where the tokens are: in this process, which is the default, or in a store that several processes share. Such a
 * store may answer with a promise; then each call waits for the answer.
 *
 * The rate comes with each question, so that a store needs no set-up of its own. Quotas that stand on one store need
 * keys that differ.
 */
export interface QuotaStore {
  /**
   * Takes `cost` tokens of a key, all or none.
   *
   * @param nowMs Monotonic milliseconds of this process, for stores that live in it.
   */
  take(
    key: string,
    cost: number,
    rate: TokenRate,
    nowMs: number,
  ): QuotaAnswer | PromiseLike<QuotaAnswer>;
  /**
   * Puts tokens back that a call took and did not use: a later policy refused it, or it left before it went on. Without
   * this method they stay spent.
   */
  giveBack?(key: string, cost: number, rate: TokenRate, nowMs: number): unknown;
}
