import type { Random } from "../../core/clock.js";
import { type ControlledPolicy, type Mode, PolicyControl } from "../../core/control.js";
import { durationMs, finiteNumber } from "../../core/options.js";
import { ask, type ReportError } from "../../core/user-code.js";
import { WeakList } from "../../core/weak-list.js";
import type { FaultEnd, FaultOptions, ResolvedFaultOptions } from "./options.js";

/** What is injected into one call: a delay, a way to end, or first the one and then the other. */
export interface Fault {
  readonly delayMs: number | undefined;
  readonly end: FaultEnd | undefined;
}

export type FaultKind = "latency" | FaultEnd["kind"];

/**
 * Numbers of one set of faults. `injected` and `spared` only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/faults.md
 */
export interface FaultsSnapshot {
  /** The environment of the process allows faults. Without that nothing is injected, whatever the mode. */
  readonly enabled: boolean;
  readonly scale: number;
  /** Calls that are delayed or left without an answer now. */
  readonly active: number;
  readonly injected: Readonly<Record<FaultKind, number>>;
  /** Calls that were drawn and went on without a fault, because `maxActive` others were held. */
  readonly spared: number;
}

/** Ends a held call when the process closes down. */
type EndHeld = () => void;

/**
 * Draws which faults calls get, and counts the calls that are held: delayed, or left without an answer. There are two
 * draws, as in gRFC A33: one for the delay, one for how the call ends. So a call may get either of them, or both.
 */
export class Faults implements ControlledPolicy<FaultsSnapshot> {
  mode: Mode;
  readonly enabled: boolean;
  #options: ResolvedFaultOptions;
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
    {
      mode = "enforce",
      enabled = true,
    }: { readonly mode?: Mode | undefined; readonly enabled?: boolean } = {},
  ) {
    this.#options = options;
    this.#random = random;
    this.#report = report;
    this.mode = mode;
    this.enabled = enabled;
  }

  reconfigure(fresh: Faults): void {
    this.#options = fresh.#options;
  }

  /** The factor of all rates, 0 to 1: it can lower the rates of the options, and not raise them. */
  get scale(): number {
    return this.#scale;
  }

  /** @throws InvalidOptionError unless it is a number from 0 to 1. */
  set scale(scale: number) {
    this.#scale = finiteNumber("faults.scale", scale, 0, 1);
  }

  /** Calls that are held now. */
  get active(): number {
    return this.#held.size;
  }

  /** Draws for one call. `undefined`: it gets no fault. */
  draw(): Fault | undefined {
    const { latency } = this.#options;
    const delayed = latency !== undefined && this.#random() < latency.rate * this.#scale;
    const end = this.#drawEnd();
    return this.admit(delayed ? this.#lengthOf(latency.ms) : undefined, end);
  }

  /** The fault that was drawn or asked for, unless `maxActive` calls are held. */
  admit(delayMs: number | undefined, end: FaultEnd | undefined): Fault | undefined {
    if ((delayMs === undefined && end === undefined) || this.#closed) return undefined;
    if (this.#held.size >= this.#options.maxActive) {
      this.#spared += 1;
      return undefined;
    }
    return { delayMs, end };
  }

  /** A call is held from now on. `end` identifies it, and is called if the faults are closed meanwhile. */
  hold(end: EndHeld): void {
    this.#held.add(end);
  }

  /** The call is not held, or no longer. */
  release(end: EndHeld): void {
    this.#held.delete(end);
  }

  /** Counts a fault that was injected. */
  countInjected(kind: FaultKind): void {
    this.#injected[kind] += 1;
  }

  /** Ends the calls that are held. After that nothing is injected. */
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

  /** One draw for all ways to end, because a call ends in one way: each has a part of the range from 0 to 1. */
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

  /** If the user's function throws or returns no duration, there is no delay. */
  #lengthOf(ms: (random: Random) => number): number | undefined {
    return ask(() => ms(this.#random), delay, undefined, this.#report, "faults.latency.ms");
  }
}

function delay(answer: unknown): number {
  return durationMs("faults.latency.ms()", answer);
}

/**
 * Controls all faults of a weir at run time: their mode, and a factor of their rates.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/faults.md
 */
export class FaultsControl extends PolicyControl<FaultsSnapshot, FaultOptions> {
  readonly #faults = new WeakList<Faults>();
  #scale = 1;

  constructor() {
    super("faults");
  }

  override add(policy: ControlledPolicy<FaultsSnapshot>, builtFor: string): void {
    super.add(policy, builtFor);
    if (!(policy instanceof Faults)) return;
    policy.scale = this.#scale;
    this.#faults.add(policy);
  }

  override remove(policy: ControlledPolicy<FaultsSnapshot>): void {
    super.remove(policy);
    if (policy instanceof Faults) this.#faults.delete(policy);
  }

  /**
   * The factor of all rates, 0 to 1. With 0 nothing is injected, with 1 the rates are those of the options. It holds for
   * clients and servers that are built later too. @defaultValue 1
   */
  get scale(): number {
    return this.#scale;
  }

  /** @throws InvalidOptionError unless it is a number from 0 to 1. */
  set scale(scale: number) {
    this.#scale = finiteNumber('policy("faults").scale', scale, 0, 1);
    for (const faults of this.#faults) faults.scale = this.#scale;
  }
}
