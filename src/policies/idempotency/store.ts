/**
 * A value, or a promise of one.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export type Eventually<T> = T | PromiseLike<T>;

/**
 * What a call asks for when it wants to run under a key.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export interface KeyClaim {
  /** Names the request: another request under the same key has another one. */
  readonly fingerprint: string;
  /**
   * Names the call that claims, differently from all others in all processes. Where the answer to a claim was lost on its
   * way, the same claim made again gets the same token, and does not wait for itself.
   */
  readonly holder: string;
  /** How long the claim holds without being renewed, in milliseconds. */
  readonly leaseMs: number;
  /**
   * How long the key belongs to this request alone, in milliseconds: also where its holder dies, because what that has done
   * by then is not known. Until then another request is a `mismatch`.
   */
  readonly ttlMs: number;
}

/**
 * What a store answers to a claim:
 *
 * - `started`: nobody else runs under this key. The call runs, and renews, completes or releases with the token.
 * - `running`: another holder runs under it, for at most `leaseLeftMs` more unless it renews.
 * - `done`: the call has been answered, with these bytes.
 * - `mismatch`: the key belongs to another request, which runs, has been answered, or was left by a holder that died.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export type ClaimAnswer =
  | {
      readonly kind: "started";
      /**
       * The fencing token: a safe integer, larger than any that the store has given out for this key, also when the store
       * has lost its data in between and the clock has not gone back. So it is at least the last token plus one, and at least
       * the store's time in microseconds.
       */
      readonly token: number;
    }
  | { readonly kind: "running"; readonly leaseLeftMs: number }
  | { readonly kind: "done"; readonly answer: Uint8Array }
  | { readonly kind: "mismatch" };

/**
 * Keeps who runs under an idempotency key, and what it was answered: in this process, or in a store that several
 * processes share. Each method is one atomic step. A store that cannot answer rejects; its caller bounds the time.
 *
 * When a lease has run out, the next claim of the same request takes over. Until then its holder still has the key, so that
 * one that was held up for longer than its lease loses nothing that nobody else has wanted. The store remembers such a
 * holder for at least another `leaseMs`, and its request for `ttlMs` since the claim.
 *
 * The answers are opaque bytes, so that a store need not know calls.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export interface IdempotencyStore {
  /** Claims the key. */
  claim(key: string, claim: KeyClaim): Eventually<ClaimAnswer>;
  /** Extends the lease from now on. False when the token does not hold the key any more. */
  renew(key: string, token: number, leaseMs: number): Eventually<boolean>;
  /**
   * Keeps the answer for `ttlMs` and ends the lease. False, and nothing changes, when the token does not hold the key any
   * more: a holder that comes back late overwrites nothing. True, and nothing changes, when this token has completed it.
   */
  complete(key: string, token: number, answer: Uint8Array, ttlMs: number): Eventually<boolean>;
  /** Gives the key back without an answer, so that the next call with it runs. False when the token does not hold it. */
  release(key: string, token: number): Eventually<boolean>;
}
