// Admissions of several kinds of servers.
import type { Limit, ServerPolicy } from "grpc-weir/server";

// #region adaptive
/** For a server that nobody has measured: the limit is learnt, from calls and from the process. */
export const learnt = {
  admission: {}, // { limit: "adaptive" } is the default
} satisfies ServerPolicy;
// #endregion

// #region elastic
/** The same, by somebody who knows what a call may take. */
export const withLatencyTarget = {
  admission: {
    limit: { algorithm: "elastic", min: 16, max: 400, ceilingMs: 150 },
    maxConcurrent: 500, // whatever is learnt, and for critical calls too
  },
} satisfies ServerPolicy;
// #endregion

// #region own
/** As many calls as the pool behind has places for, and half as many again: its size may change. */
export function limitOf(pool: { readonly size: number }): Limit {
  return {
    get current() {
      return Math.max(1, Math.floor(1.5 * pool.size));
    },
    record(_nowMs, _tookMs, _inFlight, _outcome) {
      // Nothing to learn: the pool knows.
    },
  };
}
// #endregion

// #region queue
/** Who waits, in which order, and who goes when there are too many. */
export const patient = {
  admission: {
    limit: 50,
    maxQueued: 200,
    maxWaitMs: 400,
    queue: { order: "adaptive-lifo", overflow: "evict-lowest", minShare: 0.05 },
  },
} satisfies ServerPolicy;
// #endregion

// #region streams
/** Subscriptions that last, among short calls: they have slots of their own, and move on after an hour. */
export const withStreams = {
  admission: {
    limit: 50,
    streams: { limit: 5_000, maxAgeMs: 3_600_000 },
  },
} satisfies ServerPolicy;
// #endregion

// #region pressure
/** Sheds by what the process and its pool say, the lowest priorities first. */
export function pressedBy(pool: { readonly waiting: number }): ServerPolicy {
  return {
    admission: {
      pressure: {
        memory: { from: 0.8, to: 0.92 }, // of the limit of the control group, or of the heap
        cpu: false,
        signals: { pool: () => pool.waiting / 100 },
        target: 0.5,
      },
    },
  };
}
// #endregion

// #region fairness
/** A tenant that asks for much waits for those that ask for little, of the same priority. */
export const fairToTenants = {
  admission: {
    // From the certificate, which callers cannot choose.
    fairness: {
      key: ({ authContext }) => String(authContext().sslPeerCertificate?.subject.O ?? "none"),
    },
  },
} satisfies ServerPolicy;
// #endregion
