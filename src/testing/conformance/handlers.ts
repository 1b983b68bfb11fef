import { Changes } from "./changes.js";
import type { Peer, Script } from "./peer.js";

/** Runs the script of the case for each call that reaches the server. */
export class Handlers {
  readonly peers: Peer[] = [];
  script: Script = () => {};
  readonly #changes = new Changes();
  readonly #failed: Promise<never>;
  #fail: (reason: unknown) => void = () => {};

  constructor() {
    this.#failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.#failed.catch(() => {}); // told to those who wait with `orFail`
  }

  /** What the script throws at once is grpc-js's to handle; what it throws later is ours. */
  run(peer: Peer): void {
    this.peers.push(peer);
    this.#changes.tell();
    this.script(peer)?.catch(this.#fail);
  }

  /** The handler's side of the call that reached the server as number `index`. */
  async peer(index: number): Promise<Peer> {
    await this.#changes.when(() => this.peers.length > index);
    const peer = this.peers[index];
    if (peer === undefined) throw new RangeError(`no call ${index}`);
    return peer;
  }

  /** The promise, unless a script has failed before. */
  orFail<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.#failed]);
  }
}
