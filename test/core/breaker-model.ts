import type { ResolvedBreakerOptions } from "../../src/core/breaker-options.js";
import type { Outcome } from "../../src/core/permit.js";

/** One admitted call, as the model sees it. */
export interface Ticket {
  readonly era: number;
  readonly admittedMs: number;
}

/**
 * A second breaker to compare with: it keeps lists of all that happened and works everything out from them
 * each time.
 */
export class Model {
  readonly #o: ResolvedBreakerOptions;
  #era = 0;
  #kind: "closed" | "open" | "half-open" = "closed";
  #eraMs = 0;
  #outcomes: { atMs: number; failed: boolean }[] = [];
  #tickets: Ticket[] = [];

  constructor(o: ResolvedBreakerOptions) {
    this.#o = o;
  }

  #become(kind: "closed" | "open" | "half-open", nowMs: number) {
    this.#kind = kind;
    this.#era += 1;
    this.#eraMs = nowMs;
    this.#outcomes = [];
    this.#tickets = [];
  }

  kind(nowMs: number) {
    if (this.#kind === "open" && nowMs - this.#eraMs >= this.#o.openMs) {
      this.#become("half-open", nowMs);
    }
    return this.#kind;
  }

  #probesOut(nowMs: number): Ticket[] {
    return this.#tickets.filter((t) => nowMs - t.admittedMs < this.#o.probeLeaseMs);
  }

  acquire(nowMs: number): Ticket | "BREAKER_OPEN" | "BREAKER_PROBING" {
    const kind = this.kind(nowMs);
    if (kind === "open") return "BREAKER_OPEN";
    if (kind === "half-open" && this.#probesOut(nowMs).length >= this.#o.probes) {
      return "BREAKER_PROBING";
    }
    const ticket = { era: this.#era, admittedMs: nowMs };
    this.#tickets.push(ticket);
    return ticket;
  }

  settle(ticket: Ticket, outcome: Outcome, nowMs: number) {
    const live = this.#kind === "half-open" ? this.#probesOut(nowMs) : this.#tickets;
    if (ticket.era !== this.#era || !live.includes(ticket)) return;
    this.#tickets = this.#tickets.filter((t) => t !== ticket);
    if (outcome === "ignored") return;
    const failed = outcome === "failure";
    this.#outcomes.push({ atMs: nowMs, failed });
    if (this.#kind === "half-open") {
      if (failed) this.#become("open", nowMs);
      else if (this.#outcomes.length === this.#o.probes) this.#become("closed", nowMs);
    } else if (failed && this.#mustOpen(nowMs)) {
      this.#become("open", nowMs);
    }
  }

  #mustOpen(nowMs: number): boolean {
    const { consecutiveFailures, failureRate, minCalls, windowMs } = this.#o;
    const inARow = this.#outcomes.length - 1 - this.#outcomes.findLastIndex((o) => !o.failed);
    if (consecutiveFailures !== false && inARow >= consecutiveFailures) return true;
    const slice = (ms: number) => Math.floor(ms / (windowMs / 10));
    const recent = this.#outcomes.filter((o) => slice(nowMs) - slice(o.atMs) < 10);
    const failures = recent.filter((o) => o.failed).length;
    return (
      failureRate !== false && recent.length >= minCalls && failures >= failureRate * recent.length
    );
  }
}
