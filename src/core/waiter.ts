/** Something that waits for a permit. */
export interface Candidate {
  /**
   * The permit is the candidate's now, and has to be released. Runs inside the call that freed it.
   * An error thrown here keeps nobody else waiting: it is thrown on after the others were served,
   * and the permit still counts as taken.
   */
  grant(): void;
}

/** A candidate's place in the queue. */
export interface Waiter<C extends Candidate> {
  readonly candidate: C;
  readonly rank: number;
  /** Leaves the queue. False when it has left already: by a grant, an eviction, or a cancel. */
  cancel(): boolean;
}
