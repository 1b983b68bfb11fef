import type { Clock, Random } from "../../core/clock.js";
import { type ControlledPolicy, type Mode, PolicyControl } from "../../core/control.js";
import type { Gauges } from "../../core/gauges.js";
import { JsonFields } from "../../core/json-fields.js";
import { Keyed } from "../../core/keyed.js";
import { InvalidOptionError, oneOf } from "../../core/options.js";
import { notify, type Observer, type ReportError } from "../../core/user-code.js";
import { WeakList } from "../../core/weak-list.js";
import { Breaker, type BreakerEvent } from "./breaker.js";
import type { BreakerOptions, ResolvedBreakerOptions } from "./options.js";
import { type BreakerSnapshot, readBreakerSnapshot } from "./snapshot.js";
import type { BreakerStateName } from "./states.js";

/**
 * What was set by hand:
 * - `none`: the breaker decides;
 * - `open`: it refuses all calls;
 * - `closed`: it admits all calls, and counts them;
 * - `disabled`: it admits all calls, and counts nothing;
 * - `observed`: it decides, and refuses no call.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/breaker.md
 */
export type BreakerOverride = "none" | "open" | "closed" | "disabled" | "observed";

const overrides = ["none", "open", "closed", "disabled", "observed"] as const;

/**
 * A change of state of the breaker for a key. Observers get it after the change.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/breaker.md
 */
export interface BreakerStateChange extends BreakerEvent {
  readonly key: string;
}

/** How far a breaker is from closed. */
const levels: Readonly<Record<BreakerStateName, number>> = {
  closed: 0,
  "forced-closed": 0,
  "half-open": 1,
  open: 2,
  "forced-open": 2,
};

/**
 * The breakers of one policy at one moment, as plain data.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/breaker.md
 */
export interface BreakersSnapshot {
  /** What was set by hand for all keys, `none` as a rule. */
  readonly override: BreakerOverride;
  /** What was set by hand for single keys. */
  readonly overrides: Readonly<Record<string, BreakerOverride>>;
  /** The most recently used key first. */
  readonly breakers: Readonly<Record<string, BreakerSnapshot>>;
}

interface BreakerSetParts {
  readonly mode: Mode;
  /** How many keys have a breaker at once. Those used longest ago are dropped. */
  readonly maxKeys: number;
  readonly clock: Pick<Clock, "now">;
  readonly random: Random;
  readonly report: ReportError;
  readonly onStateChange?: Observer<BreakerStateChange> | undefined;
}

/**
 * The breakers of one policy by key, and what was set for them by hand. What was set for one key goes before what was set
 * for all keys, until something is set for all keys again.
 */
export class BreakerSet implements ControlledPolicy<BreakersSnapshot> {
  mode: Mode;
  /** Called for changes of state. */
  readonly observers = new Set<Observer<BreakerStateChange>>();
  readonly #breakers: Keyed<Breaker>;
  #options: ResolvedBreakerOptions;
  #maxKeys: number;
  readonly #overrideOf = new Map<string, BreakerOverride>();
  #override: BreakerOverride = "none";

  constructor(options: ResolvedBreakerOptions, parts: BreakerSetParts) {
    const { clock, random, report, onStateChange } = parts;
    this.mode = parts.mode;
    this.#options = options;
    this.#maxKeys = parts.maxKeys;
    if (onStateChange !== undefined) this.observers.add(onStateChange);
    const make = (key: string) => {
      // A breaker that begins in the state that was set by hand has not changed its state.
      let made = false;
      const onEvent = (event: BreakerEvent) => {
        if (made) this.#notify({ ...event, key }, report);
      };
      const breaker = new Breaker(this.#options, clock, onEvent, report, random);
      breaker.force(forced(this.#overrideFor(key)));
      made = true;
      return breaker;
    };
    this.#breakers = new Keyed(make, parts.maxKeys);
  }

  reconfigure(fresh: BreakerSet): void {
    this.#options = fresh.#options;
    this.#maxKeys = fresh.#maxKeys;
    this.#breakers.resize(fresh.#maxKeys);
    for (const [, breaker] of this.#states()) breaker.reconfigure(fresh.#options);
  }

  for(key: string): Breaker {
    return this.#breakers.get(key);
  }

  /** Whether something is set by hand. */
  get overridden(): boolean {
    return this.#override !== "none" || this.#overrideOf.size > 0;
  }

  /** The mode for a key. What was set by hand changes it. */
  modeOf(key: string): Mode {
    if (this.mode === "off") return "off";
    const override = this.#overrideFor(key);
    return override === "disabled" ? "off" : override === "observed" ? "observe" : this.mode;
  }

  /** Sets by hand what holds for a key, or without a key for all keys, future ones included. */
  override(to: BreakerOverride, key?: string): void {
    if (key === undefined) {
      this.#overrideOf.clear();
      this.#override = to;
    } else this.#overrideKey(to, key);
    // A breaker that is made later begins in this state.
    for (const [its, breaker] of this.#states()) {
      if (key === undefined || its === key) breaker.force(forced(to));
    }
  }

  measure(gauges: Gauges): void {
    for (const [key, breaker] of this.#states()) {
      if (this.modeOf(key) !== "off") gauges.note("breaker", levels[breaker.state], { key });
    }
  }

  snapshot(): BreakersSnapshot {
    const breakers = this.#states().map(([key, breaker]) => [key, breaker.snapshot()] as const);
    return {
      override: this.#override,
      overrides: Object.fromEntries(this.#overrideOf),
      breakers: Object.fromEntries(breakers),
    };
  }

  /**
   * Checks a snapshot. The result takes it over: several sets are checked before any of them changes.
   *
   * @param path Where it stands, for error messages.
   * @throws InvalidOptionError naming the field, its rule and what stands there.
   */
  prepareRestore(path: string, value: unknown): () => void {
    const fields = new JsonFields(path, value);
    const override = oneOf(fields.at("override"), fields.get("override"), overrides);
    const byKey = entriesOf(fields, "overrides").map(
      ([key, to, at]) => [key, oneOf(at, to, overrides)] as const,
    );
    if (byKey.length > this.#maxKeys) throw this.#tooMany(fields.at("overrides"), byKey.length);
    const states = entriesOf(fields, "breakers").map(
      ([key, state, at]) => [key, readBreakerSnapshot(at, state)] as const,
    );
    return () => {
      this.#override = override;
      this.#overrideOf.clear();
      for (const [key, to] of byKey) this.#overrideOf.set(key, to);
      // Backwards, so that the most recently used key is used last.
      for (const [key, state] of states.toReversed()) this.for(key).restore(state);
      for (const [key, breaker] of this.#states()) breaker.force(forced(this.#overrideFor(key)));
    };
  }

  #notify(change: BreakerStateChange, report: ReportError): void {
    for (const observer of this.observers) {
      notify(observer, change, report, "breaker.onStateChange");
    }
  }

  #overrideFor(key: string): BreakerOverride {
    return this.#overrideOf.get(key) ?? this.#override;
  }

  #overrideKey(to: BreakerOverride, key: string): void {
    if (to === this.#override) this.#overrideOf.delete(key);
    else if (this.#overrideOf.has(key) || this.#overrideOf.size < this.#maxKeys) {
      this.#overrideOf.set(key, to);
    } else throw this.#tooMany("breaker.maxKeys", this.#maxKeys + 1);
  }

  #tooMany(where: string, count: number): InvalidOptionError {
    return new InvalidOptionError(
      where,
      `enough for all keys set by hand (${count})`,
      this.#maxKeys,
    );
  }

  /** A copy: an observer of a change may use keys meanwhile. */
  #states(): readonly [string, Breaker][] {
    return [...this.#breakers.entries()];
  }
}

function forced(override: BreakerOverride): "open" | "closed" | undefined {
  return override === "open" || override === "closed" ? override : undefined;
}

/** The entries of an object by key, each with its path. */
function entriesOf(fields: JsonFields, name: string): readonly [string, unknown, string][] {
  const found = new JsonFields(fields.at(name), fields.get(name));
  return found.names.map((key) => [key, found.get(key), `${found.path}[${JSON.stringify(key)}]`]);
}

/**
 * Controls the breakers of a weir at run time. `key` is the key of a breaker, as `snapshot` and events show it; the key may
 * be one that has not been used yet. Without a key, a setting holds for all keys, future ones included, and replaces
 * the settings of single keys.
 *
 * The mode goes before these settings: a breaker that is `off` or observes refuses no call, forced open or not.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/breaker.md
 */
export class BreakerControl extends PolicyControl<BreakersSnapshot, BreakerOptions> {
  readonly #sets = new WeakList<BreakerSet>();
  readonly #observers = new Set<Observer<BreakerStateChange>>();
  /** What was set by hand, by key, for breakers that are built later. */
  readonly #overrides = new Map<string | undefined, BreakerOverride>();

  constructor() {
    super("breaker");
  }

  override add(policy: ControlledPolicy<BreakersSnapshot>, builtFor: string): void {
    super.add(policy, builtFor);
    if (!(policy instanceof BreakerSet)) return;
    this.#sets.add(policy);
    for (const observer of this.#observers) policy.observers.add(observer);
    for (const [key, to] of this.#overrides) policy.override(to, key);
  }

  override remove(policy: ControlledPolicy<BreakersSnapshot>): void {
    super.remove(policy);
    if (policy instanceof BreakerSet) this.#sets.delete(policy);
  }

  /** Refuses every call until it is released, with BREAKER_OPEN and no time to retry after. */
  forceOpen(key?: string): void {
    this.#set("open", key);
  }

  /** Admits every call and goes on counting, until it is released. */
  forceClose(key?: string): void {
    this.#set("closed", key);
  }

  /** Admits every call and counts nothing, as with the mode `off`, until it is released. */
  disable(key?: string): void {
    this.#set("disabled", key);
  }

  /** Opens and closes as usual but refuses no call, as with the mode `observe`, until it is released. */
  observe(key?: string): void {
    this.#set("observed", key);
  }

  /**
   * Takes back what was set by hand. A breaker that was forced open goes on with probes; one that was forced closed
   * starts to count anew.
   */
  release(key?: string): void {
    this.#set("none", key);
  }

  /**
   * Calls the observer after each change of state of any client's breakers. What it throws is reported.
   *
   * @returns A function that removes the observer.
   * @throws InvalidOptionError if `observer` is not a function.
   */
  onStateChange(observer: Observer<BreakerStateChange>): () => void {
    if (typeof observer !== "function") {
      throw new InvalidOptionError('policy("breaker").onStateChange', "a function", observer);
    }
    // A new function, so that an observer that is added twice is called twice, and removed one at a time.
    const own = observer.bind(undefined);
    this.#observers.add(own);
    for (const set of this.#sets) set.observers.add(own);
    return () => {
      this.#observers.delete(own);
      for (const set of this.#sets) set.observers.delete(own);
    };
  }

  /**
   * Takes over a snapshot of this or another process, also one that has been through JSON. Build the clients first, in
   * the same order. Open periods go on for as long as they had left. Nothing changes if a part of the snapshot
   * is invalid.
   *
   * @throws InvalidOptionError naming the field, its rule and what stands there.
   */
  restore(snapshot: unknown): void {
    const path = 'policy("breaker").restore';
    const sets = [...this.#sets];
    const built = sets.length;
    if (!Array.isArray(snapshot) || snapshot.length !== built) {
      const rule = `an array with one entry for each set of breakers in use (${built})`;
      throw new InvalidOptionError(path, rule, snapshot);
    }
    const entries: readonly unknown[] = snapshot;
    const steps = sets.map((set, at) => set.prepareRestore(`${path}[${at}]`, entries[at]));
    for (const step of steps) step();
  }

  #set(to: BreakerOverride, key: string | undefined): void {
    if (key !== undefined && typeof key !== "string") {
      throw new InvalidOptionError('policy("breaker"): key', "a text, or absent for all", key);
    }
    for (const set of this.#sets) set.override(to, key);
    if (key === undefined) this.#overrides.clear();
    // What holds for all need not be kept of each: keys that come and go would pile up.
    if (to === (this.#overrides.get(undefined) ?? "none")) this.#overrides.delete(key);
    else this.#overrides.set(key, to);
  }
}
