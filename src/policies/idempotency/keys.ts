import type { Clock, Random } from "../../core/clock.js";
import { type Due, DueList } from "../../core/due-list.js";
import { pauseMs } from "../../core/pause.js";
import {
  type Ending,
  OncePermit,
  type Outcome,
  type Queued,
  type Refusal,
  refusal,
} from "../../core/permit.js";
import { type ReportError, reportSafely, whenKnown } from "../../core/user-code.js";
import type { ClaimAnswer, Eventually, IdempotencyStore, KeyClaim } from "./store.js";

/** What holds for the calls of one method. */
export interface KeyRules {
  /** How long a claim holds without being renewed, in milliseconds. Renewed each third of it. */
  readonly leaseMs: number;
  /** How long an answer is kept, in milliseconds. */
  readonly ttlMs: number;
  /** What becomes of a call while the store fails: it is refused, or runs without protection. */
  readonly onStoreError: "refuse" | "run";
}

/** A call that asks to run under a key. */
export interface KeyedCall {
  /** As the store knows it: of one caller and one method. Calls with the same key have the same rules. */
  readonly key: string;
  /** Names the request. */
  readonly fingerprint: string;
  readonly rules: KeyRules;
  /** On the monotonic clock; `Infinity` for none. */
  readonly deadlineMs: number;
  /** Called when a wait ends, unless the call has left before. */
  onGranted(result: KeyResult, waitedMs: number): void;
}

/** The answer to a call with a key: it runs and holds the key, or is answered like an earlier call, or is refused. */
export type KeyResult = KeyHolder | Replay | Refusal;

/** The key has been answered before. */
export interface Replay {
  readonly kind: "replay";
  readonly answer: Uint8Array;
  /** The store has the answer. False for one that this process has not been able to store. */
  readonly stored: boolean;
}

/** The answer of a call, as it is kept. */
export interface AnswerToKeep {
  /** What the store keeps. */
  readonly stored: Uint8Array;
  /** What calls of this process get that wait for it: the same, or more than the store may keep. */
  readonly shared: Uint8Array;
}

/**
 * What became of an answer:
 *
 * - `stored`: the store has it, and it may be sent.
 * - `released`: it was not to be stored, and may be sent.
 * - `unprotected`: the store has failed, and it may be sent all the same.
 * - a refusal, which is sent in its place.
 */
export type Kept = "stored" | "released" | "unprotected" | Refusal;

/**
 * Numbers of the keys of a server. All but `running` and `waiting` only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/idempotency.md
 */
export interface IdempotencyKeysSnapshot {
  /** Calls that run and hold their key. */
  readonly running: number;
  /** Calls that wait for the answer to an earlier call, or of the store. */
  readonly waiting: number;
  /** Calls that have run under their key. */
  readonly started: number;
  /** Calls that were answered like an earlier one. */
  readonly replayed: number;
  /** Calls that were refused because their key belongs to another request. */
  readonly reused: number;
  /** Calls that have run without protection, because the store failed. */
  readonly unprotected: number;
  /** Holders that have lost their key to another, because they did not renew their lease in time. */
  readonly lost: number;
  readonly storeFailures: number;
}

/** What the keys of a server are given beside their store. */
export interface IdempotencyEnvironment {
  readonly clock: Clock;
  readonly random: Random;
  readonly report: ReportError;
}

/** Bounds of {@link IdempotencyKeys}. */
export interface KeyBounds {
  /** How long the store may take to answer, in milliseconds. */
  readonly storeTimeoutMs: number;
  /** How many calls may wait for earlier calls with their keys. */
  readonly maxWaiting: number;
}

/** A call that waits is answered so long before its deadline, in milliseconds, that its caller may get the answer. */
const earlyMs = 50;
/** The same as a share of the time that the call had when it came. */
const earlyShare = 0.1;
/** When a call that was refused here should come back, in milliseconds, longer by up to as much again at random. */
const retryMs = 100;
/** Failures of the store are reported at most once in so many milliseconds, because a store that is down fails every call. */
const reportEveryMs = 1_000;
/** So often is a claim made whose answers come later than its lease ends. */
const mostTries = 3;
/** How many answers are kept here while the store does not take them. */
const maxUnkept = 1_000;
/** A handler whose caller has left may hold its key for so many leases. */
const leasesAlone = 10;

const expired = refusal("DEADLINE_EXPIRED", "the deadline had passed");
const drained = refusal("DRAINING", "the server began to drain");
const reused = refusal(
  "IDEMPOTENCY_KEY_REUSED",
  "the idempotency key belongs to another request of the same caller",
);

/**
 * The keys that calls of this process run under or wait for. For each key, at most one call of this process asks the store
 * or runs; the others wait in line, in the order in which they came. What becomes of a key:
 *
 * ```
 *             claim: started           answered, to be stored         completed: all who wait get the answer
 *  claiming ─────────────────► held ───────────────────────► keeping ──────────────────────────────────► gone
 *    │  ▲ ▲                     │ │                             │ the store fails: again, for as long as a lease
 *    │  │ └──── released ◄──────┘ └─ lease lost ─► claiming     └ lost to another ─► claiming
 *    │  └── the pause is over
 *    └─► paused: another process runs under it
 *
 *  claiming: done ─► all who wait get the answer · mismatch ─► those with that request are refused · nobody waits ─► gone
 * ```
 *
 * - A holder renews its lease each third of it, as long as its handler runs. One whose caller has left does so for ten
 *   leases at most; then the lease runs out, and the next call takes over.
 * - A holder that has lost its key to another is told, so that it can stop its handler.
 * - While the store fails, a call is refused, or runs without protection, by its rules. Calls with its key that come
 *   meanwhile share its answer all the same.
 */
export class IdempotencyKeys {
  readonly #store: IdempotencyStore;
  /** They may be replaced while calls run. */
  bounds: KeyBounds;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #report: ReportError;
  readonly #where: string;
  readonly #name: string;
  readonly #due: DueList;
  readonly #entries = new Map<string, KeyEntry>();
  /** Those whose answers the store has not taken, in the order in which it is asked again. */
  readonly #unkept = new Set<KeyEntry>();
  /** When the store is asked again to take an answer, and how often it was asked in vain. */
  readonly #retry = new Timer(Number.POSITIVE_INFINITY, () => this.#keepNext(1));
  #vainly = 0;
  #draining = false;
  #claims = 0;
  #running = 0;
  #waiting = 0;
  /** The calls among those that wait for an earlier call of this process. */
  #duplicates = 0;
  #started = 0;
  #replayed = 0;
  #reused = 0;
  #unprotected = 0;
  #lost = 0;
  #storeFailures = 0;
  #nextReportMs = Number.NEGATIVE_INFINITY;
  #storeAway = false;

  /**
   * @param name Names these keys, differently from all others that use the store.
   * @param where Names the store in reports of its errors.
   */
  constructor(
    store: IdempotencyStore,
    bounds: KeyBounds,
    { clock, random, report }: IdempotencyEnvironment,
    name: string,
    where: string,
  ) {
    this.#store = store;
    this.bounds = bounds;
    this.#clock = clock;
    this.#random = random;
    this.#report = report;
    this.#name = name;
    this.#where = where;
    this.#due = new DueList(clock);
  }

  /**
   * Asks to run under a key. Refuses with `IDEMPOTENCY_KEY_REUSED`, `IDEMPOTENCY_IN_PROGRESS`, `IDEMPOTENCY_STORE_FAILED`,
   * `DEADLINE_EXPIRED` or `DRAINING`.
   */
  enter(call: KeyedCall): KeyResult | Queued {
    const nowMs = this.#clock.now();
    if (call.deadlineMs <= nowMs) return expired;
    if (this.#draining) return drained;
    const present = this.#entries.get(call.key);
    if (present === undefined) {
      const entry = new KeyEntry(call.key, this.#wake);
      this.#entries.set(call.key, entry);
      const waiter = this.#join(entry, call, nowMs, false);
      this.#claim(entry);
      return this.#entered(waiter, nowMs);
    }
    if (present.fingerprint !== undefined && present.fingerprint !== call.fingerprint) {
      this.#reused += 1;
      return reused;
    }
    if (present.unstored !== undefined) return this.#replay(present.unstored, false);
    if (this.#duplicates >= this.bounds.maxWaiting) return this.#busy();
    return this.#entered(this.#join(present, call, nowMs, true), nowMs);
  }

  /** Refuses the calls that wait. Those that run keep their keys, and their answers are stored. */
  drain(): void {
    this.#draining = true;
    for (const entry of Array.from(this.#entries.values())) {
      for (const waiter of entry.all) waiter.settle(drained);
      this.#dropIdle(entry);
    }
    this.#due.close();
  }

  /** The store has failed the last time that it was asked. */
  get storeAway(): boolean {
    return this.#storeAway;
  }

  snapshot(): IdempotencyKeysSnapshot {
    return {
      running: this.#running,
      waiting: this.#waiting,
      started: this.#started,
      replayed: this.#replayed,
      reused: this.#reused,
      unprotected: this.#unprotected,
      lost: this.#lost,
      storeFailures: this.#storeFailures,
    };
  }

  // ---- For the calls that wait.

  /** The wait is over, or the call has left. */
  left(waiter: Waiter): void {
    this.#due.delete(waiter);
    waiter.entry.waiters.delete(waiter);
    this.#waiting -= 1;
    if (waiter.duplicate) this.#duplicates -= 1;
  }

  /** The call has left by itself. */
  leaves(waiter: Waiter): void {
    this.left(waiter);
    this.#dropIdle(waiter.entry);
  }

  /** The deadline of a call that waits comes near. */
  timeIsUp(waiter: Waiter): void {
    const { entry } = waiter;
    waiter.settle(entry.occupied ? this.#busy() : this.#storeFailed());
    this.#dropIdle(entry);
  }

  nowMs(): number {
    return this.#clock.now();
  }

  #join(entry: KeyEntry, call: KeyedCall, nowMs: number, duplicate: boolean): Waiter {
    const waiter = new Waiter(this, entry, call, nowMs, duplicate);
    entry.waiters.add(waiter);
    this.#waiting += 1;
    if (duplicate) this.#duplicates += 1;
    return waiter;
  }

  #entered(waiter: Waiter, nowMs: number): KeyResult | Queued {
    const entered = waiter.entered();
    if (entered === waiter && waiter.dueMs < Number.POSITIVE_INFINITY) this.#due.add(waiter, nowMs);
    return entered;
  }

  // ---- The store is asked who runs.

  #claim(entry: KeyEntry): void {
    const [first] = entry.waiters;
    if (first === undefined) {
      this.#drop(entry);
      return;
    }
    const { fingerprint, rules } = first.call;
    this.#claims += 1;
    const holder = `${this.#name}.${this.#claims}`;
    const { leaseMs, ttlMs } = rules;
    this.#claimFor(entry, { fingerprint, holder, leaseMs, ttlMs });
  }

  #claimFor(entry: KeyEntry, claim: KeyClaim, tries = 1): void {
    entry.state = "claiming";
    const askedMs = this.#clock.now();
    this.#ask(
      () => this.#store.claim(entry.key, claim),
      readClaim,
      (answer) => {
        const late = answer.kind === "started" && this.#clock.now() - askedMs >= claim.leaseMs;
        if (!late) this.#claimed(entry, claim.fingerprint, answer);
        // This process stood still, and another may have taken over. The same claim made again gets the same token if not.
        else if (tries < mostTries) this.#claimFor(entry, claim, tries + 1);
        else this.#claimFailed(entry);
      },
      () => this.#claimFailed(entry),
      // Nobody waits for the answer any more.
      (answer) => this.#giveBack(entry.key, answer),
    );
  }

  #claimed(entry: KeyEntry, fingerprint: string, answer: ClaimAnswer): void {
    if (entry.waiters.size === 0) {
      this.#drop(entry);
      this.#giveBack(entry.key, answer);
      return;
    }
    switch (answer.kind) {
      case "started":
        this.#grant(entry, fingerprint, answer.token);
        return;
      case "done":
        this.#drop(entry);
        this.#replayTo(entry, fingerprint, answer.answer, true);
        return;
      case "mismatch":
        for (const waiter of entry.all) {
          if (waiter.call.fingerprint === fingerprint) this.#refuseReused(waiter);
        }
        this.#claim(entry);
        return;
      case "running": {
        entry.state = "paused";
        entry.occupied = true;
        entry.polls += 1;
        const delayMs = Math.min(pauseMs(entry.polls, this.#random), answer.leaseLeftMs + 1);
        this.#wakeIn(entry, delayMs);
        return;
      }
      default:
        answer satisfies never;
    }
  }

  #claimFailed(entry: KeyEntry): void {
    const [first] = entry.waiters;
    if (first?.call.rules.onStoreError === "run") {
      this.#grant(entry, first.call.fingerprint, undefined);
      return;
    }
    // All of them: one after another, they would each wait for a store that does not answer.
    this.#drop(entry);
    for (const waiter of entry.all) waiter.settle(this.#storeFailed());
  }

  /** @param token `undefined` for a call that runs without protection. */
  #grant(entry: KeyEntry, fingerprint: string, token: number | undefined): void {
    let chosen: Waiter | undefined;
    const others: Waiter[] = [];
    for (const waiter of entry.waiters) {
      if (waiter.call.fingerprint !== fingerprint) others.push(waiter);
      else chosen ??= waiter;
    }
    if (chosen === undefined) {
      this.#release(entry, token);
      return;
    }
    const holder = new KeyHolder(this, entry, chosen.call, token);
    entry.state = "held";
    entry.holder = holder;
    entry.fingerprint = fingerprint;
    entry.occupied = true;
    this.#running += 1;
    if (token !== undefined) this.#wakeIn(entry, holder.rules.leaseMs / 3);
    for (const waiter of others) this.#refuseReused(waiter);
    // Last, because the call may give it back at once.
    if (chosen.settle(holder)) {
      this.#started += 1;
      if (token === undefined) this.#unprotected += 1;
    } else this.givenBack(holder);
  }

  #replayTo(entry: KeyEntry, fingerprint: string, answer: Uint8Array, stored: boolean): void {
    for (const waiter of entry.all) {
      if (waiter.call.fingerprint === fingerprint) waiter.settle(this.#replay(answer, stored));
      else this.#refuseReused(waiter);
    }
  }

  #replay(answer: Uint8Array, stored: boolean): Replay {
    this.#replayed += 1;
    return { kind: "replay", answer, stored };
  }

  #refuseReused(waiter: Waiter): void {
    this.#reused += 1;
    waiter.settle(reused);
  }

  // ---- For the call that holds a key.

  /** The call does not run, or its answer is not to be stored: the next one may run. */
  givenBack(holder: KeyHolder): void {
    const { entry, token } = holder;
    if (!this.#leaveHeld(holder)) return;
    this.#release(entry, token);
  }

  /** The caller has left. Its handler goes on where there is `worksOn`, and its answer is stored. */
  leftAlone(holder: KeyHolder, worksOn: Ending["worksOn"]): void {
    if (worksOn === undefined) {
      this.givenBack(holder);
      return;
    }
    worksOn(holder.rules.leaseMs * leasesAlone, (answered) => {
      if (answered) {
        // Where the policy only observes, the end of an answer is lost that nobody receives: there is nothing to keep.
        if (!holder.hasAnswered) this.givenBack(holder);
        // It is not released: the handler may still do what it does. The lease runs out by itself.
      } else if (this.#leaveHeld(holder)) this.#claim(holder.entry);
    });
  }

  /** The handler has answered. */
  keep(holder: KeyHolder, answer: AnswerToKeep | undefined, onKept: (kept: Kept) => void): void {
    const { entry, token } = holder;
    if (answer === undefined) {
      onKept("released");
      this.givenBack(holder);
      return;
    }
    if (token === undefined) {
      const held = this.#leaveHeld(holder);
      if (held) this.#drop(entry);
      onKept("unprotected");
      if (held) this.#replayTo(entry, holder.fingerprint, answer.shared, false);
      return;
    }
    if (!this.#leaveHeld(holder)) {
      // It has lost the key, as far as this process knows.
      const lost = () => onKept(this.#notStored());
      const done = (completed: boolean) => (completed ? onKept("stored") : lost());
      const { ttlMs } = holder.rules;
      this.#ask(
        () => this.#store.complete(holder.key, token, answer.stored, ttlMs),
        readYesOrNo,
        done,
        lost,
      );
      return;
    }
    entry.state = "keeping";
    entry.fingerprint = holder.fingerprint;
    const untilMs = this.#clock.now() + holder.rules.leaseMs;
    this.#complete(entry, { holder, token, answer, untilMs }, onKept);
  }

  #complete(entry: KeyEntry, keeping: Keeping, onKept?: (kept: Kept) => void): void {
    const { holder, token, answer, untilMs } = keeping;
    const { ttlMs, onStoreError } = holder.rules;
    this.#ask(
      () => this.#store.complete(entry.key, token, answer.stored, ttlMs),
      readYesOrNo,
      (completed) => {
        if (completed) {
          this.#drop(entry);
          onKept?.("stored");
          this.#replayTo(entry, holder.fingerprint, answer.shared, true);
          this.#vainly = 0;
          this.#keepNext(2);
          return;
        }
        this.#lost += 1;
        onKept?.(this.#notStored());
        this.#forgetAnswer(entry);
        this.#claim(entry);
      },
      () => {
        if (onStoreError === "run") {
          entry.unstored = answer.shared;
          onKept?.("unprotected");
          this.#replayTo(entry, holder.fingerprint, answer.shared, false);
        } else onKept?.(this.#notStored());
        // What this process knows is lost only when it cannot be stored for as long as the store knows the holder.
        const leftMs = untilMs - this.#clock.now();
        if (leftMs <= 0 || this.#unkept.size >= maxUnkept) {
          this.#giveUpAnswer(entry);
          return;
        }
        entry.keeping = keeping;
        this.#wakeIn(entry, leftMs);
        this.#unkept.add(entry);
        this.#retryLater();
      },
    );
  }

  /**
   * The store has not taken an answer. It is asked again about one at a time, whose turn it is, so that a store that suffers
   * is not asked more the more it refuses. When it takes one, it is asked about the next two.
   */
  #retryLater(): void {
    if (this.#retry.place >= 0) return;
    this.#vainly += 1;
    const nowMs = this.#clock.now();
    this.#retry.dueMs = nowMs + pauseMs(this.#vainly, this.#random);
    this.#due.add(this.#retry, nowMs);
  }

  #keepNext(count: number): void {
    for (const entry of [...this.#unkept].slice(0, count)) {
      this.#unkept.delete(entry);
      const { keeping } = entry;
      if (keeping !== undefined) this.#complete(entry, keeping);
    }
  }

  #giveUpAnswer(entry: KeyEntry): void {
    this.#unkept.delete(entry);
    this.#forgetAnswer(entry);
    this.#claim(entry);
  }

  #forgetAnswer(entry: KeyEntry): void {
    entry.fingerprint = undefined;
    entry.keeping = undefined;
    entry.unstored = undefined;
  }

  /** The holder does not hold the key any more, as far as this process is concerned. False when it did not. */
  #leaveHeld(holder: KeyHolder): boolean {
    const { entry } = holder;
    if (entry.holder !== holder) return false;
    this.#due.delete(entry);
    entry.holder = undefined;
    entry.fingerprint = undefined;
    this.#running -= 1;
    return true;
  }

  /** Gives the key back, then lets the next call claim it. */
  #release(entry: KeyEntry, token: number | undefined): void {
    entry.state = "releasing";
    entry.occupied = false;
    // Not at once: each of many calls that give the key back, one after another, would stand on the stack of the one before.
    const next = () => {
      if (entry.waiters.size === 0) this.#drop(entry);
      else queueMicrotask(() => this.#claim(entry));
    };
    if (token === undefined) next();
    else this.#ask(() => this.#store.release(entry.key, token), readYesOrNo, next, next);
  }

  #giveBack(key: string, answer: ClaimAnswer): void {
    if (answer.kind !== "started") return;
    const { token } = answer;
    // If it fails, the lease runs out.
    this.#ask(() => this.#store.release(key, token), readYesOrNo, nothing, nothing);
  }

  #renew(entry: KeyEntry, holder: KeyHolder, token: number): void {
    const { leaseMs } = holder.rules;
    this.#ask(
      () => this.#store.renew(entry.key, token, leaseMs),
      readYesOrNo,
      (renewed) => {
        if (entry.holder !== holder) return;
        if (renewed) {
          this.#wakeIn(entry, leaseMs / 3);
          return;
        }
        this.#leaveHeld(holder);
        this.#lost += 1;
        this.#claim(entry);
        holder.lost();
      },
      () => {
        // Nobody can take over while the store fails. Once it answers again, it tells.
        if (entry.holder === holder) this.#wakeIn(entry, leaseMs / 3);
      },
    );
  }

  // ---- Time.

  #wakeIn(entry: KeyEntry, delayMs: number): void {
    const nowMs = this.#clock.now();
    entry.dueMs = nowMs + delayMs;
    this.#due.add(entry, nowMs);
  }

  readonly #wake = (entry: KeyEntry): void => {
    const { state, holder, keeping } = entry;
    if (state === "paused") this.#claim(entry);
    else if (holder?.token !== undefined) this.#renew(entry, holder, holder.token);
    else if (keeping !== undefined && this.#unkept.has(entry)) this.#giveUpAnswer(entry);
  };

  /** Drops the entry of a key that another process runs under, when nobody waits for it here. */
  #dropIdle(entry: KeyEntry): void {
    if (entry.state === "paused" && entry.waiters.size === 0) this.#drop(entry);
  }

  #drop(entry: KeyEntry): void {
    this.#due.delete(entry);
    if (this.#entries.get(entry.key) === entry) this.#entries.delete(entry.key);
  }

  // ---- Refusals, and the store.

  #busy(): Refusal {
    const detail = "an earlier call with the same idempotency key still runs";
    return refusal("IDEMPOTENCY_IN_PROGRESS", detail, this.#soon());
  }

  #storeFailed(): Refusal {
    const detail = "the store of idempotency keys does not answer, and the call was not run";
    return refusal("IDEMPOTENCY_STORE_FAILED", detail, this.#soon());
  }

  #notStored(): Refusal {
    const detail = "the call has run, and its answer could not be stored";
    return refusal("IDEMPOTENCY_ANSWER_NOT_STORED", detail, this.#soon());
  }

  #soon(): number {
    return retryMs * (1 + this.#random());
  }

  /**
   * Asks the store, for at most `storeTimeoutMs`. Answers at once where the store does. One that throws, rejects or answers
   * nonsense has failed.
   *
   * @param onLate Gets an answer that comes when the time is over.
   */
  #ask<T>(
    question: () => Eventually<unknown>,
    read: (answer: unknown) => T,
    onAnswer: (answer: T) => void,
    onFailure: () => void,
    onLate: (answer: T) => void = nothing,
  ): void {
    let open = true;
    const failed = (error: unknown) => {
      this.#noteFailure(error);
      if (!open) return;
      open = false;
      this.#due.delete(timeout);
      onFailure();
    };
    const nowMs = this.#clock.now();
    const { storeTimeoutMs } = this.bounds;
    const timeout = new Timer(nowMs + storeTimeoutMs, () => {
      failed(new Error(`the store did not answer in ${storeTimeoutMs} ms`));
    });
    whenKnown(
      question,
      (given) => {
        let answer: T;
        try {
          answer = read(given);
        } catch (error) {
          failed(error);
          return;
        }
        if (!open) onLate(answer);
        else {
          this.#storeAway = false;
          open = false;
          this.#due.delete(timeout);
          onAnswer(answer);
        }
      },
      failed,
    );
    if (open) this.#due.add(timeout, nowMs);
  }

  #noteFailure(error: unknown): void {
    this.#storeAway = true;
    this.#storeFailures += 1;
    const nowMs = this.#clock.now();
    if (nowMs < this.#nextReportMs) return;
    this.#nextReportMs = nowMs + reportEveryMs;
    reportSafely(this.#report, error, this.#where);
  }
}

/** An answer that the store has not taken yet. */
interface Keeping {
  readonly holder: KeyHolder;
  readonly token: number;
  readonly answer: AnswerToKeep;
  /** Until when it is tried. */
  readonly untilMs: number;
}

/** A key that calls of this process run under or wait for. */
class KeyEntry implements Due {
  readonly key: string;
  /** In the order in which they came. */
  readonly waiters = new Set<Waiter>();
  state: "claiming" | "paused" | "held" | "releasing" | "keeping" = "claiming";
  holder: KeyHolder | undefined;
  keeping: Keeping | undefined;
  /** The answer of the call that has run, which the store has not taken: calls get it all the same. */
  unstored: Uint8Array | undefined;
  /** Of the call that holds the key here. */
  fingerprint: string | undefined;
  /** A call is known to run under the key, here or elsewhere, or to have done so. */
  occupied = false;
  /** How often the store was asked in vain. */
  polls = 0;
  dueMs = Number.POSITIVE_INFINITY;
  place = -1;
  readonly #wake: (entry: KeyEntry) => void;

  /** A copy, because those that are answered leave. */
  get all(): readonly Waiter[] {
    return Array.from(this.waiters);
  }

  constructor(key: string, wake: (entry: KeyEntry) => void) {
    this.key = key;
    this.#wake = wake;
  }

  due(): void {
    this.#wake(this);
  }
}

/** A call that waits for its key, or for the answer of the store. */
class Waiter implements Queued, Due {
  readonly kind = "queued";
  readonly entry: KeyEntry;
  readonly call: KeyedCall;
  readonly sinceMs: number;
  /** It came when another call of this process was there with its key. */
  readonly duplicate: boolean;
  readonly dueMs: number;
  place = -1;
  readonly #keys: IdempotencyKeys;
  #open = true;
  #entered = false;
  /** How the wait ended before `enter` has returned. */
  #result: KeyResult | undefined;

  constructor(
    keys: IdempotencyKeys,
    entry: KeyEntry,
    call: KeyedCall,
    nowMs: number,
    duplicate: boolean,
  ) {
    this.#keys = keys;
    this.entry = entry;
    this.call = call;
    this.sinceMs = nowMs;
    this.duplicate = duplicate;
    this.dueMs = call.deadlineMs - Math.min(earlyMs, (call.deadlineMs - nowMs) * earlyShare);
  }

  get detail(): string {
    return this.entry.occupied ? "behind a call with the same key" : "asked the store of keys";
  }

  /** For `enter` alone: the result, or the place in the queue. */
  entered(): KeyResult | Waiter {
    this.#entered = true;
    return this.#result ?? this;
  }

  /** False when the wait has ended before. */
  settle(result: KeyResult): boolean {
    if (!this.#open) return false;
    this.#open = false;
    this.#keys.left(this);
    if (this.#entered) this.call.onGranted(result, this.#keys.nowMs() - this.sinceMs);
    else this.#result = result;
    return true;
  }

  leave(): boolean {
    if (!this.#open) return false;
    this.#open = false;
    this.#keys.leaves(this);
    return true;
  }

  due(): void {
    this.#keys.timeIsUp(this);
  }
}

/**
 * The permit of the call that runs under a key. When the handler has answered, `keep` is called, once; otherwise the permit is
 * settled or abandoned, and the key is free for the next call.
 */
export class KeyHolder extends OncePermit {
  readonly key: string;
  readonly fingerprint: string;
  readonly rules: KeyRules;
  /** The fencing token. `undefined` for a call that runs without protection. */
  readonly token: number | undefined;
  /** @internal For {@link IdempotencyKeys}. */
  readonly entry: KeyEntry;
  /** Called when another call has taken over the key, while this one runs. */
  onLost: (() => void) | undefined;
  readonly #keys: IdempotencyKeys;
  #answered = false;

  constructor(
    keys: IdempotencyKeys,
    entry: KeyEntry,
    { fingerprint, rules }: KeyedCall,
    token: number | undefined,
  ) {
    super();
    this.#keys = keys;
    this.entry = entry;
    this.key = entry.key;
    this.fingerprint = fingerprint;
    this.rules = rules;
    this.token = token;
  }

  /** @internal For {@link IdempotencyKeys}. */
  get hasAnswered(): boolean {
    return this.#answered;
  }

  /** In the decision that the call goes on without the store. */
  get storeAway(): string | undefined {
    return this.token === undefined ? "it may run twice" : undefined;
  }

  /**
   * The handler has answered.
   *
   * @param answer `undefined` for one that is not to be stored: the key is given back.
   * @param onKept Called once, with what may be done with the answer.
   */
  keep(answer: AnswerToKeep | undefined, onKept: (kept: Kept) => void): void {
    if (this.#answered) return;
    this.#answered = true;
    this.#keys.keep(this, answer, onKept);
  }

  /** @internal For {@link IdempotencyKeys}. */
  lost(): void {
    if (!this.#answered) this.onLost?.();
  }

  protected onSettle(_outcome: Outcome, ending: Ending | undefined): void {
    if (!this.#answered) this.#keys.leftAlone(this, ending?.worksOn);
  }

  abandon(): void {
    if (this.over) return;
    this.over = true;
    this.#keys.givenBack(this);
  }
}

/** Something that happens at a time. */
class Timer implements Due {
  dueMs: number;
  place = -1;
  readonly due: () => void;

  constructor(dueMs: number, due: () => void) {
    this.dueMs = dueMs;
    this.due = due;
  }
}

function nothing(): void {}

/** @throws TypeError for what is no {@link ClaimAnswer}. */
function readClaim(given: unknown): ClaimAnswer {
  if (typeof given === "object" && given !== null && "kind" in given) {
    const { kind } = given;
    if (kind === "mismatch") return { kind };
    if (kind === "started" && "token" in given && isToken(given.token))
      return { kind, token: given.token };
    if (kind === "done" && "answer" in given && given.answer instanceof Uint8Array)
      return { kind, answer: given.answer };
    if (kind === "running" && "leaseLeftMs" in given && isTime(given.leaseLeftMs))
      return { kind, leaseLeftMs: given.leaseLeftMs };
  }
  throw new TypeError("the idempotency store gave no answer to a claim");
}

function isToken(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0;
}

function isTime(value: unknown): value is number {
  return typeof value === "number" && value >= 0;
}

/** @throws TypeError for anything but true and false. */
function readYesOrNo(given: unknown): boolean {
  if (typeof given === "boolean") return given;
  throw new TypeError("the idempotency store gave no answer");
}
