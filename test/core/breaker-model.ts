import type { ResolvedBreakerOptions } from "../../src/core/breaker-options.js";
import type { Ending, Outcome } from "../../src/core/permit.js";

/** One admitted call, as the model sees it. */
export interface Ticket {
  readonly era: number;
  readonly admittedMs: number;
  readonly timed: boolean;
}

type Kind = "closed" | "open" | "half-open" | "forced-open" | "forced-closed";

/** A call that has counted. */
interface Counted {
  readonly atMs: number;
  readonly failed: boolean;
  readonly slow: boolean;
  readonly shed: boolean;
}

/**
 * A second breaker to compare with: it keeps lists of all that happened and works everything out from them
 * each time. Chance is a number that the test sets for both.
 */
export class Model {
  readonly #o: ResolvedBreakerOptions;
  readonly #chance: () => number;
  #era = 0;
  #kind: Kind = "closed";
  #eraMs: number;
  /** The open time ends, or the ramp does. */
  #untilMs = 0;
  #ramps = false;
  #opened = 0;
  #counted: Counted[] = [];
  #hints: number[] = [];
  #tickets: Ticket[] = [];

  constructor(o: ResolvedBreakerOptions, nowMs: number, chance: () => number) {
    this.#o = o;
    this.#eraMs = nowMs;
    this.#chance = chance;
  }

  #become(kind: Kind, nowMs: number) {
    this.#kind = kind;
    this.#era += 1;
    this.#eraMs = nowMs;
    this.#counted = [];
    this.#hints = [];
    this.#tickets = [];
    this.#ramps = false;
  }

  #open(nowMs: number) {
    const { openMs, openFactor, maxOpenMs, openJitter } = this.#o;
    if (this.#kind === "closed" && nowMs - this.#eraMs >= maxOpenMs) this.#opened = 0;
    let restMs = openMs;
    for (let n = 0; n < this.#opened; n += 1) restMs = Math.min(restMs * openFactor, maxOpenMs);
    restMs += restMs * openJitter * (this.#chance() * 2 - 1);
    const askedMs = Math.max(...this.#hints, nowMs) - nowMs;
    this.#untilMs = nowMs + Math.max(restMs, askedMs * (1 + this.#chance() * openJitter));
    this.#opened += 1;
    this.#become("open", nowMs);
  }

  #isSlow(ticket: Ticket, nowMs: number): boolean {
    const { slowMs } = this.#o;
    return slowMs !== false && ticket.timed && nowMs > ticket.admittedMs + slowMs;
  }

  #isOverdue(ticket: Ticket, nowMs: number): boolean {
    const { inFlightMs } = this.#o;
    return inFlightMs !== false && ticket.timed && nowMs >= ticket.admittedMs + inFlightMs;
  }

  kind(nowMs: number): Kind {
    if (this.#kind === "open" && nowMs >= this.#untilMs) this.#become("half-open", nowMs);
    if (this.#kind === "half-open") {
      const { inFlightMs, probeLeaseMs } = this.#o;
      const overdue = this.#tickets.some((ticket) => this.#isOverdue(ticket, nowMs));
      if (overdue && Number(inFlightMs) < probeLeaseMs) this.#open(nowMs);
      this.#tickets = this.#tickets.filter((t) => nowMs - t.admittedMs < probeLeaseMs);
    } else if (this.#kind !== "open") {
      if (this.#ramps && nowMs >= this.#untilMs) this.#ramps = false;
      for (const ticket of this.#tickets.filter((one) => this.#isOverdue(one, nowMs))) {
        if (!this.#tickets.includes(ticket)) break;
        this.#count(ticket, "failure", undefined, nowMs);
      }
    }
    return this.#kind;
  }

  /** @param running How many calls of an era have not been settled, as the test counts them. */
  acquire(
    nowMs: number,
    timed: boolean,
    critical: boolean,
    running: (era: number) => number,
  ): Ticket | string {
    const kind = this.kind(nowMs);
    if (kind === "open" || kind === "forced-open") return "BREAKER_OPEN";
    if (kind === "half-open" && this.#tickets.length >= this.#o.probes) return "BREAKER_PROBING";
    if (this.#ramps && !critical && running(this.#era) >= this.#o.probes) {
      const passed = nowMs - this.#eraMs;
      const share = 0.25 + (0.75 * passed) / Number(this.#o.rampMs);
      if (this.#chance() >= share) return "BREAKER_RAMPING";
    }
    const ticket = { era: this.#era, admittedMs: nowMs, timed };
    this.#tickets.push(ticket);
    return ticket;
  }

  settle(ticket: Ticket, outcome: Outcome, ending: Ending | undefined, nowMs: number) {
    this.kind(nowMs);
    if (ticket.era !== this.#era || !this.#tickets.includes(ticket)) return;
    if (outcome === "ignored") this.#tickets = this.#tickets.filter((t) => t !== ticket);
    else if (this.#kind !== "half-open") this.#count(ticket, outcome, ending, nowMs);
    else {
      this.#tickets = this.#tickets.filter((t) => t !== ticket);
      const slow = this.#isSlow(ticket, nowMs);
      const failed = outcome === "failure";
      this.#counted.push({ atMs: nowMs, failed, slow, shed: false });
      if (failed) this.#hint(ending, nowMs);
      if (failed || slow) this.#open(nowMs);
      else if (this.#counted.length === this.#o.successesToClose) {
        this.#become("closed", nowMs);
        this.#ramps = this.#o.rampMs !== false;
        this.#untilMs = nowMs + Number(this.#o.rampMs);
      }
    }
  }

  force(to: "open" | "closed" | undefined, nowMs: number) {
    const kind = this.kind(nowMs);
    if (to !== undefined && kind !== `forced-${to}`) this.#become(`forced-${to}`, nowMs);
    else if (to === undefined && kind === "forced-open") this.#become("half-open", nowMs);
    else if (to === undefined && kind === "forced-closed") this.#become("closed", nowMs);
    else return;
    this.#opened = 0;
  }

  #hint(ending: Ending | undefined, nowMs: number) {
    const { retryAfterMs } = ending ?? {};
    if (retryAfterMs !== undefined) {
      this.#hints.push(nowMs + Math.min(retryAfterMs, this.#o.maxOpenMs));
    }
  }

  #count(ticket: Ticket, outcome: Outcome, ending: Ending | undefined, nowMs: number) {
    this.#tickets = this.#tickets.filter((t) => t !== ticket);
    const failed = outcome === "failure";
    const slow = this.#isSlow(ticket, nowMs);
    this.#counted.push({ atMs: nowMs, failed, slow, shed: ending?.unserved === "shed" });
    if (failed) this.#hint(ending, nowMs);
    if (this.#kind === "closed" && this.#mustOpen(failed, slow, nowMs)) this.#open(nowMs);
  }

  #mustOpen(failed: boolean, slow: boolean, nowMs: number): boolean {
    const { consecutiveFailures, failureRate, minCalls, slowMs, slowRate } = this.#o;
    const since = this.#counted.slice(this.#counted.findLastIndex((c) => !c.failed) + 1);
    const inARow = since.filter((c) => !c.shed).length;
    if (failed && consecutiveFailures !== false && inARow >= consecutiveFailures) return true;
    const recent = this.#recent(nowMs);
    if (recent.length < minCalls) return false;
    const share = (of: (c: Counted) => boolean) => recent.filter(of).length / recent.length;
    if (failed && failureRate !== false && share((c) => c.failed) >= failureRate) return true;
    return slow && slowMs !== false && share((c) => c.slow) >= slowRate;
  }

  #recent(nowMs: number): Counted[] {
    const { windowCalls, windowMs } = this.#o;
    if (windowCalls !== false) return this.#counted.slice(-windowCalls);
    const slice = (ms: number) => Math.floor(ms / (windowMs / 10));
    return this.#counted.filter((c) => slice(nowMs) - slice(c.atMs) < 10);
  }

  /** What a snapshot tells, as far as the model knows it. */
  seen(nowMs: number): Readonly<Record<string, unknown>> {
    const state = this.kind(nowMs);
    const common = { state, forMs: nowMs - this.#eraMs, openedInARow: this.#opened };
    if (state === "open") return { ...common, retryAfterMs: this.#untilMs - nowMs };
    if (state === "half-open") {
      const succeeded = this.#counted.length;
      return { ...common, probesOut: this.#tickets.length, succeeded };
    }
    if (state === "forced-open") return common;
    const recent = this.#recent(nowMs);
    return {
      ...common,
      calls: recent.length,
      failures: recent.filter((c) => c.failed).length,
      slow: recent.filter((c) => c.slow).length,
      ...(state === "closed" ? { rampLeftMs: this.#ramps ? this.#untilMs - nowMs : 0 } : {}),
    };
  }
}
