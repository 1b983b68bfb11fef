import { AsyncLocalStorage } from "node:async_hooks";
import type { Clock, Random } from "../../core/clock.js";
import { durationMs, finiteNumber, InvalidOptionError } from "../../core/options.js";

/** Milliseconds one way: a number, or a function that draws one for each packet. */
export type Latency = number | ((random: Random) => number);

/** What happens to packets in one direction. */
export interface DirectionOptions {
  /** One-way delay of a packet, in milliseconds. @defaultValue 0 */
  readonly latencyMs?: Latency;
  /**
   * Chance, from 0 to 1, that a packet is lost. What its stream sends after it in the same direction is lost too, and
   * neither side notices: the call hangs until its deadline. @defaultValue 0
   */
  readonly loss?: number;
}

/**
 * A network between clients and servers. What one side of a stream writes at one moment is one packet. Packets of one
 * stream arrive in order. Packets of different streams may overtake each other if their latencies differ.
 */
export interface NetworkOptions extends DirectionOptions {
  /**
   * Chance, from 0 to 1, that a stream is reset with INTERNAL_ERROR, before its handler runs or when it answers.
   * @defaultValue 0
   */
  readonly reset?: number;
  /**
   * Chance, from 0 to 1, that the server refuses a stream without looking at it. grpc-js then retries it once by itself.
   * @defaultValue 0
   */
  readonly refusal?: number;
  /** Overrides `latencyMs` and `loss` for requests. */
  readonly toServer?: DirectionOptions;
  /** Overrides `latencyMs` and `loss` for responses. */
  readonly toClient?: DirectionOptions;
}

export type Direction = "toServer" | "toClient";
/** What happens to a new stream when it reaches the server. */
export type StreamFate = "served" | "refused" | "reset-before" | "reset-after";

function checked(options: NetworkOptions): NetworkOptions {
  for (const [path, part] of [
    ["network", options],
    ["network.toServer", options.toServer ?? {}],
    ["network.toClient", options.toClient ?? {}],
  ] as const) {
    const { latencyMs, loss } = part;
    if (latencyMs !== undefined && typeof latencyMs !== "function") {
      durationMs(`${path}.latencyMs`, latencyMs);
    }
    if (loss !== undefined) finiteNumber(`${path}.loss`, loss, 0, 1);
  }
  if (options.reset !== undefined) finiteNumber("network.reset", options.reset, 0, 1);
  if (options.refusal !== undefined) finiteNumber("network.refusal", options.refusal, 0, 1);
  return options;
}

/** The modelled network. A change of its options applies to packets that are sent later. */
export class InMemoryNetwork {
  readonly clock: Clock;
  readonly random: Random;
  #options: NetworkOptions;
  // Packets are delivered outside the async context of their sender: over a socket, a server does not see the
  // AsyncLocalStorage of its clients either.
  readonly #detached = AsyncLocalStorage.snapshot();

  constructor(clock: Clock, random: Random, options: NetworkOptions) {
    this.clock = clock;
    this.random = random;
    this.#options = checked(options);
  }

  /** Changes some options and leaves the others as they are. */
  set(options: NetworkOptions): void {
    this.#options = checked({ ...this.#options, ...options });
  }

  /** Draws how long a packet takes. */
  latencyMs(direction: Direction): number {
    const latency = this.#options[direction]?.latencyMs ?? this.#options.latencyMs ?? 0;
    if (typeof latency === "number") return latency;
    const drawn = latency(this.random);
    if (!(drawn >= 0)) throw new InvalidOptionError("network.latencyMs", "at least 0", drawn);
    return drawn;
  }

  /** Draws whether a packet is lost. */
  loses(direction: Direction): boolean {
    return this.#happens(this.#options[direction]?.loss ?? this.#options.loss);
  }

  /** Draws what happens to a new stream. */
  fate(): StreamFate {
    if (this.#happens(this.#options.refusal)) return "refused";
    if (this.#happens(this.#options.reset)) {
      return this.random() < 0.5 ? "reset-before" : "reset-after";
    }
    return "served";
  }

  /** Runs `task` after `ms`, outside of any call's async context. */
  after(ms: number, task: () => void, ref = true): () => void {
    return this.#detached(() => this.clock.schedule(ms, task, { ref }));
  }

  /** Does not draw for a chance of 0 or 1, so that these do not change the numbers that follow. */
  #happens(chance = 0): boolean {
    if (chance <= 0) return false;
    return chance >= 1 || this.random() < chance;
  }
}
