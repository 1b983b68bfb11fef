import type { Random } from "../../core/clock.js";
import { type ControlledPolicy, type Mode, PolicyControl } from "../../core/control.js";
import { durationMs, finiteNumber } from "../../core/options.js";
import { ask, type ReportError } from "../../core/user-code.js";
import { WeakList } from "../../core/weak-list.js";
import type { FaultEnd, ResolvedFaultOptions } from "./options.js";

/** What strikes one call: it is held back, then it goes wrong, or one of the two. */
export interface Fault {
  readonly delayMs: number | undefined;
  readonly end: FaultEnd | undefined;
}

export type FaultKind = "latency" | FaultEnd["kind"];

/** Numbers of one set of faults. `injected` and `spared` only grow. */
export interface FaultsSnapshot {
  /** Allowed by the environment. Without that nothing is injected, whatever the mode. */
  readonly enabled: boolean;
  readonly scale: number;
  /** Calls that are held back or left without an answer now. */
  readonly active: number;
  readonly injected: Readonly<Record<FaultKind, number>>;
  /** Calls that the dice had chosen, and that went on unharmed because `maxActive` were out. */
  readonly spared: number;
}

/** The end of a call that is held back, for a process that closes down. */
export type EndHeld = () => void;

/**
 * The dice of fault injection, and the count of the calls that are held. Two dice, as in gRFC A33: one for the
 * delay and one for how the call goes wrong, so that either comes with and without the other. A call
 * is active only while it is held back or left without an answer.
 */
export class Faults implements ControlledPolicy {
  mode: Mode;
  readonly enabled: boolean;
  readonly #options: ResolvedFaultOptions;
  readonly #random: Random;
  readonly #report: ReportError;
  readonly #held = new Set<EndHeld>();
  readonly #injected = { latency: 0, status: 0, drop: 0, reset: 0, midStream: 0 };
  #scale = 1;
  #spared = 0;
  #closed = false;

  constructor(
    options: ResolvedFaultOptions,
    random: Random,
    report: ReportError,
    { mode = "enforce", enabled = true }: { readonly mode?: Mode; readonly enabled?: boolean } = {},
  ) {
    this.#options = options;
    this.#random = random;
    this.#report = report;
    this.mode = mode;
    this.enabled = enabled;
  }

  /** Factor of all rates, 0 to 1: what the options say is the most there can be. */
  get scale(): number {
    return this.#scale;
  }

  /** @throws InvalidOptionError for anything but a number from 0 to 1. */
  set scale(scale: number) {
    this.#scale = finiteNumber("faults.scale", scale, 0, 1);
  }

  /** Calls that are held now. */
  get active(): number {
    return this.#held.size;
  }

  /** Throws the dice for one call. `undefined`: it goes on unharmed. */
  draw(): Fault | undefined {
    const { latency } = this.#options;
    const delayed = latency !== undefined && this.#random() < latency.rate * this.#scale;
    const end = this.#drawEnd();
    return this.admit(delayed ? this.#lengthOf(latency.ms) : undefined, end);
  }

  /** A fault that was asked for, or drawn: `undefined` while too many calls are held. */
  admit(delayMs: number | undefined, end: FaultEnd | undefined): Fault | undefined {
    if ((delayMs === undefined && end === undefined) || this.#closed) return undefined;
    if (this.#held.size >= this.#options.maxActive) {
      this.#spared += 1;
      return undefined;
    }
    return { delayMs, end };
  }

  /** A call is held from now on. `end` is its name here, and ends it when all of them have to end. */
  hold(end: EndHeld): void {
    this.#held.add(end);
  }

  /** It is held no longer, or never was. */
  release(end: EndHeld): void {
    this.#held.delete(end);
  }

  /** A fault has struck. */
  struck(kind: FaultKind): void {
    this.#injected[kind] += 1;
  }

  /** Ends the calls that are held. Nothing is injected any more. */
  close(): void {
    this.#closed = true;
    for (const end of this.#held) end();
    this.#held.clear();
  }

  snapshot(): FaultsSnapshot {
    return {
      enabled: this.enabled,
      scale: this.#scale,
      active: this.active,
      injected: { ...this.#injected },
      spared: this.#spared,
    };
  }

  /** One die for all of them, each with a stretch of it: a call goes wrong in one way. */
  #drawEnd(): FaultEnd | undefined {
    const { ends } = this.#options;
    if (ends.length === 0) return undefined;
    const drawn = this.#random();
    let upTo = 0;
    for (const { rate, end } of ends) {
      upTo += rate * this.#scale;
      if (drawn < upTo) return end;
    }
    return undefined;
  }

  /** The user's own function may throw, or answer nonsense: then there is no delay. */
  #lengthOf(ms: (random: Random) => number): number | undefined {
    return ask(() => ms(this.#random), delay, undefined, this.#report, "faults.latency.ms");
  }
}

function delay(answer: unknown): number {
  return durationMs("faults.latency.ms()", answer);
}

/** The hand on all faults of a weir: their mode, and how much of their rates holds. */
export class FaultsControl extends PolicyControl {
  readonly #faults = new WeakList<Faults>();
  #scale = 1;

  constructor() {
    super("faults");
  }

  override add(policy: ControlledPolicy): void {
    super.add(policy);
    if (!(policy instanceof Faults)) return;
    policy.scale = this.#scale;
    this.#faults.add(policy);
  }

  /**
   * Factor of all rates, 0 to 1. 0 stops injecting, 1 is what the options say. It holds for clients and servers that
   * are built later too. @defaultValue 1
   */
  get scale(): number {
    return this.#scale;
  }

  /** @throws InvalidOptionError for anything but a number from 0 to 1. */
  set scale(scale: number) {
    this.#scale = finiteNumber('policy("faults").scale', scale, 0, 1);
    for (const faults of this.#faults) faults.scale = this.#scale;
  }
}
