import type { CancelTask, Clock, Random } from "./clock.js";
import { durationMs } from "./options.js";

/** While the values cannot be read they are asked for so often, in milliseconds. */
const awayPollMs = 1_000;
/** The part of an interval that is left to chance, so that processes do not all read at once. */
const jitter = 0.2;

/**
 * How a source of flags or policies reads them.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface PollingOptions {
  /**
   * How often they are read even if nobody told of a change, in milliseconds, from 100 ms to 24 days.
   * @defaultValue 15_000
   */
  readonly pollMs?: number;
  /** How long `ready` waits for the first values, in milliseconds, from 0 to 24 days. @defaultValue 2_000 */
  readonly firstValuesMs?: number;
}

/**
 * Reads the values of a source: when it is told to, once more where it is told so while a read is under way, which may have
 * been answered before; and at intervals.
 */
export class Polling {
  /** Resolves with true when the values have been read for the first time, with false when that has not come in time. */
  readonly ready: Promise<boolean>;
  readonly #read: () => Promise<boolean>;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #pollMs: number;
  #reading = false;
  #readAgain = false;
  #stopPoll: CancelTask | undefined;
  #known: (read: boolean) => void = () => {};
  #closed = false;

  /**
   * @param read Resolves with whether the values could be read. Does not reject.
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  constructor(
    read: () => Promise<boolean>,
    { pollMs = 15_000, firstValuesMs = 2_000 }: PollingOptions,
    { clock, random }: { readonly clock: Clock; readonly random: Random },
    prefix: string,
  ) {
    this.#read = read;
    this.#clock = clock;
    this.#random = random;
    this.#pollMs = durationMs(`${prefix}.pollMs`, pollMs, 100);
    durationMs(`${prefix}.firstValuesMs`, firstValuesMs);
    this.ready = new Promise((resolve) => {
      const stop = clock.schedule(firstValuesMs, () => resolve(false));
      this.#known = (known) => {
        stop();
        resolve(known);
      };
    });
  }

  now(): void {
    if (this.#closed) return;
    if (this.#reading) {
      this.#readAgain = true;
      return;
    }
    this.#reading = true;
    this.#stopPoll?.();
    void this.#read().then((read) => this.#ended(read));
  }

  close(): void {
    this.#closed = true;
    this.#known(false);
    this.#stopPoll?.();
  }

  #ended(read: boolean): void {
    this.#reading = false;
    const again = this.#readAgain;
    this.#readAgain = false;
    if (this.#closed) return;
    if (read) this.#known(true);
    if (read && again) {
      this.now();
      return;
    }
    const everyMs = read ? this.#pollMs : Math.min(awayPollMs, this.#pollMs);
    const inMs = everyMs * (1 - jitter * this.#random());
    this.#stopPoll = this.#clock.schedule(inMs, () => this.now(), { ref: false });
  }
}
