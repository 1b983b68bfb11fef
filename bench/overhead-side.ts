import type { Load } from "./overhead-load.js";
import type { Answer, Order, Variant } from "./overhead-peer.js";
import { Peer } from "./peer.js";

/** A client or a server of the overhead bench. */
export class Side {
  readonly #peer: Peer<Order, Answer>;
  #port = 0;

  constructor(variant: Variant) {
    this.#peer = new Peer("overhead-peer", `the ${variant} peer`, { args: [variant] });
  }

  /** Makes a server of it. */
  async listen(): Promise<void> {
    this.#port = (await this.#peer.ask({ do: "listen" })).port ?? 0;
  }

  /** CPU time since the process began, in microseconds. */
  async cpuUs(): Promise<number> {
    return (await this.#peer.ask({ do: "cpu" })).cpuUs ?? Number.NaN;
  }

  /** Has it make the calls to the server. */
  async load(
    server: Side,
    load: Load,
  ): Promise<{ cpuUs: number; elapsedMs: number; refused: number }> {
    const told = await this.#peer.ask({ do: "load", port: server.#port, load });
    const { cpuUs = Number.NaN, elapsedMs = Number.NaN, refused = 0 } = told;
    return { cpuUs, elapsedMs, refused };
  }

  stop(): void {
    this.#peer.stop();
  }
}
