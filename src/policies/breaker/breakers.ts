import type { Clock, Random } from "../../core/clock.js";
import { type ControlledPolicy, type Mode, PolicyControl } from "../../core/control.js";
import { JsonFields } from "../../core/json-fields.js";
import { Keyed } from "../../core/keyed.js";
import { InvalidOptionError, oneOf } from "../../core/options.js";
import { notify, type Observer, type ReportError } from "../../core/user-code.js";
import { WeakList } from "../../core/weak-list.js";
import { Breaker, type BreakerEvent } from "./breaker.js";
import type { ResolvedBreakerOptions } from "./options.js";
import { type BreakerSnapshot, readBreakerSnapshot } from "./snapshot.js";

/**
 * What was set by hand. `none`: the breaker decides. `open`: it lets nothing through. `closed`: it lets all
 * through, and counts. `disabled`: it lets all through, and counts nothing. `observed`: it decides, and
 * refuses nobody.
 */
export type BreakerOverride = "none" | "open" | "closed" | "disabled" | "observed";

const overrides = ["none", "open", "closed", "disabled", "observed"] as const;

/** Told after the breaker for a key has changed its state. */
export interface BreakerStateChange extends BreakerEvent {
  readonly key: string;
}

/** Breakers by key at one moment, as plain data. */
export interface BreakersSnapshot {
  /** What was set by hand for all keys, `none` as a rule. */
  readonly override: BreakerOverride;
  /** What was set by hand for single keys. */
  readonly overrides: Readonly<Record<string, BreakerOverride>>;
  /** The most recently used key first. */
  readonly breakers: Readonly<Record<string, BreakerSnapshot>>;
}

/** What a set of breakers works with. */
export interface BreakerSetParts {
  readonly mode: Mode;
  /** Of more keys than that, those used longest ago are forgotten. */
  readonly maxKeys: number;
  readonly clock: Pick<Clock, "now">;
  readonly random: Random;
  readonly report: ReportError;
  readonly onStateChange?: Observer<BreakerStateChange> | undefined;
}

/**
 * Breakers by key, and what was set for them by hand. A word about one key goes before a word about all, until
 * the next word about all.
 */
export class BreakerSet implements ControlledPolicy {
  mode: Mode;
  /** Told of changes of state, besides the observer that the set was made with. */
  readonly observers = new Set<Observer<BreakerStateChange>>();
  readonly #breakers: Keyed<Breaker>;
  readonly #maxKeys: number;
  readonly #overrideOf = new Map<string, BreakerOverride>();
  #override: BreakerOverride = "none";

  constructor(options: ResolvedBreakerOptions, parts: BreakerSetParts) {
    const { clock, random, report, onStateChange } = parts;
    this.mode = parts.mode;
    this.#maxKeys = parts.maxKeys;
    if (onStateChange !== undefined) this.observers.add(onStateChange);
    const make = (key: string) => {
      // A breaker that begins as it was set by hand has changed nothing yet.
      let born = false;
      const tell = (event: BreakerEvent) => {
        if (born) this.#tell({ ...event, key }, report);
      };
      const breaker = new Breaker(options, clock, tell, report, random);
      breaker.force(forced(this.#overrideFor(key)));
      born = true;
      return breaker;
    };
    this.#breakers = new Keyed(make, parts.maxKeys);
  }

  for(key: string): Breaker {
    return this.#breakers.get(key);
  }

  /** Something was set by hand. */
  get overridden(): boolean {
    return this.#override !== "none" || this.#overrideOf.size > 0;
  }

  /** The mode for a key, with what was set for it by hand. */
  modeOf(key: string): Mode {
    if (this.mode === "off") return "off";
    const override = this.#overrideFor(key);
    return override === "disabled" ? "off" : override === "observed" ? "observe" : this.mode;
  }

  /** Sets by hand what holds for a key, or without one for all, those to come included. */
  override(to: BreakerOverride, key?: string): void {
    if (key === undefined) {
      this.#overrideOf.clear();
      this.#override = to;
      for (const [, breaker] of this.#states()) breaker.force(forced(to));
      return;
    }
    this.#overrideKey(to, key);
    // One that is made later begins so.
    for (const [its, breaker] of this.#states()) if (its === key) breaker.force(forced(to));
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
   * Reads a snapshot, and answers with what takes it over, so that nothing is taken over unless all can be read.
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
      // From behind, so that the most recently used key is so again.
      for (const [key, state] of states.toReversed()) this.for(key).restore(state);
      for (const [key, breaker] of this.#states()) breaker.force(forced(this.#overrideFor(key)));
    };
  }

  #tell(change: BreakerStateChange, report: ReportError): void {
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

  /** A copy, because whoever is told of a change may use keys. */
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
 * The hand on the breakers of a weir. `key` is a breaker's own, as `snapshot` and events name it; it need not
 * have been used yet. Without one, a word holds for all keys, those to come included, and takes back what was
 * said of single ones.
 *
 * What is set by hand holds within the mode: breakers that are `off` refuse nothing, and those that observe
 * refuse nobody, forced open or not.
 */
export class BreakerControl extends PolicyControl {
  readonly #sets = new WeakList<BreakerSet>();
  readonly #observers = new Set<Observer<BreakerStateChange>>();
  /** What was said by hand, for breakers that are built later. */
  readonly #said = new Map<string | undefined, BreakerOverride>();

  constructor() {
    super("breaker");
  }

  override add(policy: ControlledPolicy): void {
    super.add(policy);
    if (!(policy instanceof BreakerSet)) return;
    this.#sets.add(policy);
    for (const observer of this.#observers) policy.observers.add(observer);
    for (const [key, to] of this.#said) policy.override(to, key);
  }

  /** Refuses every call, with BREAKER_OPEN and no word of when to come back, until it is released. */
  forceOpen(key?: string): void {
    this.#set("open", key);
  }

  /** Lets every call through, and goes on counting, until it is released. */
  forceClose(key?: string): void {
    this.#set("closed", key);
  }

  /** Lets every call through and counts nothing, as with the mode `off`, until it is released. */
  disable(key?: string): void {
    this.#set("disabled", key);
  }

  /** Opens and closes as ever, and refuses nobody, as with the mode `observe`, until it is released. */
  observe(key?: string): void {
    this.#set("observed", key);
  }

  /**
   * Back to normal. A breaker that was forced open begins with probes; one that was forced closed begins to
   * count anew.
   */
  release(key?: string): void {
    this.#set("none", key);
  }

  /**
   * Tells of each change of state, of whichever client, after it happened. What the observer throws is reported.
   *
   * @returns A function that ends it.
   * @throws InvalidOptionError for what is no function.
   */
  onStateChange(observer: Observer<BreakerStateChange>): () => void {
    if (typeof observer !== "function") {
      throw new InvalidOptionError('policy("breaker").onStateChange', "a function", observer);
    }
    // A function of its own, so that one that is handed in twice is told twice, and ends once.
    const own = observer.bind(undefined);
    this.#observers.add(own);
    for (const set of this.#sets) set.observers.add(own);
    return () => {
      this.#observers.delete(own);
      for (const set of this.#sets) set.observers.delete(own);
    };
  }

  /** One entry for each set of breakers that is in use, in the order of building. */
  override snapshot(): readonly BreakersSnapshot[] {
    return [...this.#sets].map((set) => set.snapshot());
  }

  /**
   * Takes over what `snapshot` told, here or in another process, as JSON or not. Build the clients first, in the
   * same order. Rests that were not over go on for as long as they had left. Nothing is taken over unless all
   * of it can be read.
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
    if (key === undefined) this.#said.clear();
    // What holds for all need not be kept of each: keys that come and go would pile up.
    if (to === (this.#said.get(undefined) ?? "none")) this.#said.delete(key);
    else this.#said.set(key, to);
  }
}
