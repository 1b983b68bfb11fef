import type { Clock } from "../../core/clock.js";
import { Keyed } from "../../core/keyed.js";

/** How long an answer is evidence, in milliseconds. The server that gave it may be replaced by one without the policy. */
const evidenceMs = 60_000;

/** What the answers of one target have said. */
interface Evidence {
  /** Until when an answer counts that said that the key is honoured. */
  honouredUntilMs: number;
  /** The same for an OK that did not say so. */
  unmarkedUntilMs: number;
}

/**
 * Which targets honour the keys of one method, by what their answers to calls with a key say. An answer counts for a minute,
 * so that what is known of a server that was rolled back, or of an address that now belongs to another, is forgotten soon. An
 * OK without the mark counts for more than one with it: where only some servers behind a name honour keys, none is relied on.
 */
export class HonouredKeys {
  readonly #clock: Clock;
  readonly #targets = new Keyed<Evidence>(() => ({ honouredUntilMs: 0, unmarkedUntilMs: 0 }));

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A call with a key was answered, with or without the mark. */
  note(target: string, honoured: boolean): void {
    const evidence = this.#targets.get(target);
    const untilMs = this.#clock.now() + evidenceMs;
    if (honoured) evidence.honouredUntilMs = untilMs;
    else evidence.unmarkedUntilMs = untilMs;
  }

  honours(target: string): boolean {
    const { honouredUntilMs, unmarkedUntilMs } = this.#targets.get(target);
    const nowMs = this.#clock.now();
    return honouredUntilMs > nowMs && unmarkedUntilMs <= nowMs;
  }
}
