/** At this number of calls the counts of a peer are halved, so that the latest calls weigh most. */
const mostCalls = 64;

/** How many servers behind one target are kept, those used last. */
const mostPeers = 256;

/** One of the servers behind a target. */
class Peer {
  calls = 0;
  /** Failed or slow calls. */
  failures = 0;
  /** The last call failed or was slow. */
  failed = false;
  /** When the last call ended, in monotonic milliseconds. */
  atMs = 0;
}

/**
 * How the calls to each server behind one target have ended. A breaker decides before the balancer chooses a server, so it
 * may refuse calls only when no server is known to serve.
 */
export class Peers {
  readonly #peers = new Map<string, Peer>();
  #rememberMs: number;
  /** The peer of the last call: most calls go to the same one. */
  #lastName: string | undefined;
  #last: Peer | undefined;

  /** @param rememberMs A peer whose last call ended longer ago than this is taken for unknown. */
  constructor(rememberMs: number) {
    this.#rememberMs = rememberMs;
  }

  /** From now on a peer is remembered for so long, in milliseconds. */
  remember(ms: number): void {
    this.#rememberMs = ms;
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

  /** No server can be reached, so that what is known of each is out of date. */
  forget(): void {
    this.#peers.clear();
    this.#last = undefined;
  }

  /** Whether the last call to some peer succeeded. */
  someServed(nowMs: number): boolean {
    for (const peer of this.#peers.values()) {
      if (!peer.failed && this.#isRecent(peer, nowMs)) return true;
    }
    return false;
  }

  /** Whether the share of failed or slow calls is below `rate` for some peer. */
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
