/** The counts of a peer are halved when there are so many, so that the latest weigh most. */
const mostCalls = 64;

/** So many servers behind one target are told apart, those heard of last. */
const mostPeers = 256;

/** One of the servers behind a target. */
class Peer {
  calls = 0;
  /** Failed or slow. */
  failures = 0;
  /** Its last call failed, or was slow. */
  failed = false;
  /** When it was heard of last. */
  atMs = 0;
}

/**
 * How the servers behind one target do, each for itself. A breaker stands before the balancer chooses one, so it may
 * refuse calls only when none of them is known to serve.
 */
export class Peers {
  readonly #peers = new Map<string, Peer>();
  readonly #rememberMs: number;
  /** Most calls go to the peer of the call before. */
  #lastName: string | undefined;
  #last: Peer | undefined;

  /** @param rememberMs What was heard of a peer longer ago than this says nothing of it. */
  constructor(rememberMs: number) {
    this.#rememberMs = rememberMs;
  }

  /** Calls have gone to more than one. */
  get several(): boolean {
    return this.#peers.size > 1;
  }

  note(name: string, failed: boolean, nowMs: number): void {
    const peer = this.#of(name);
    if (peer.calls >= mostCalls) {
      peer.calls /= 2;
      peer.failures /= 2;
    }
    peer.calls += 1;
    if (failed) peer.failures += 1;
    peer.failed = failed;
    peer.atMs = nowMs;
  }

  /** No server can be reached: what was known of each is over. */
  forget(): void {
    this.#peers.clear();
    this.#lastName = undefined;
    this.#last = undefined;
  }

  /** The last call of some peer went well. */
  someServed(nowMs: number): boolean {
    for (const peer of this.#peers.values()) {
      if (!peer.failed && this.#isRecent(peer, nowMs)) return true;
    }
    return false;
  }

  /** Of the calls to some peer, a smaller share than this went wrong. */
  someBelow(rate: number, nowMs: number): boolean {
    for (const peer of this.#peers.values()) {
      if (peer.failures / peer.calls < rate && this.#isRecent(peer, nowMs)) return true;
    }
    return false;
  }

  #isRecent({ atMs }: Peer, nowMs: number): boolean {
    return nowMs - atMs < this.#rememberMs;
  }

  #of(name: string): Peer {
    if (this.#last !== undefined && this.#lastName === name) return this.#last;
    let peer = this.#peers.get(name);
    if (peer === undefined) {
      if (this.#peers.size >= mostPeers) this.#dropOldest();
      peer = new Peer();
      this.#peers.set(name, peer);
    }
    this.#lastName = name;
    this.#last = peer;
    return peer;
  }

  #dropOldest(): void {
    let oldest: string | undefined;
    let atMs = Number.POSITIVE_INFINITY;
    for (const [name, peer] of this.#peers) {
      if (peer.atMs < atMs) {
        oldest = name;
        ({ atMs } = peer);
      }
    }
    if (oldest !== undefined) this.#peers.delete(oldest);
  }
}
