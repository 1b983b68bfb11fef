import type { Ending, Outcome } from "../../../src/core/permit.js";
import type { ResolvedBreakerOptions } from "../../../src/policies/breaker/options.js";

/** One admitted call, as the model sees it. */
export interface Ticket {
  readonly era: number;
  readonly admittedMs: number;
  readonly timed: boolean;
  /** How many events had been counted. */
  readonly known: number;
}

type Kind = "closed" | "open" | "half-open" | "forced-open" | "forced-closed";

/** A call that has counted. */
interface Counted {
  readonly atMs: number;
  readonly failed: boolean;
  readonly slow: boolean;
  readonly shed: boolean;
  /** The call began when all before it that failed or were slow were known. */
  readonly news: boolean;
}

/** What has become known of some server, or of the way to all of them. */
type Told = { readonly peer: string; readonly failed: boolean; readonly atMs: number } | "lost";

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
  /** Names of events since the last call that was served. */
  #heard: { readonly name: string; readonly untilMs: number; readonly forMs: number }[] = [];
  #told: Told[] = [];
  /** Failed probes that wait for those that are out. */
  #held: { readonly ending: Ending | undefined; readonly notBeforeMs: number }[] = [];
  #unconnected = false;

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
    this.#held = [];
    this.#ramps = false;
    this.#unconnected = false;
  }

  #open(nowMs: number, ending?: Ending) {
    const { openMs, openFactor, maxOpenMs, openJitter } = this.#o;
    let restMs = openMs;
    for (let n = 0; n < this.#opened; n += 1) restMs = Math.min(restMs * openFactor, maxOpenMs);
    restMs += restMs * openJitter * (this.#chance() * 2 - 1);
    const askedMs = Math.max(...this.#hints, nowMs) - nowMs;
    this.#untilMs = nowMs + Math.max(restMs, askedMs * (1 + this.#chance() * openJitter));
    this.#opened += 1;
    this.#become("open", nowMs);
    this.#unconnected = ending?.event !== undefined || ending?.connectionLost === true;
  }

  connectivity(connected: boolean, nowMs: number) {
    if (this.kind(nowMs) !== "open") return;
    if (connected && this.#unconnected) this.#become("half-open", nowMs);
    else if (!connected) this.#unconnected = true;
  }

  /** What is known of each server: all that it ended with since there was no way to any. */
  #peers(): Map<string, { readonly failed: boolean; readonly atMs: number }[]> {
    const since = this.#told.slice(this.#told.lastIndexOf("lost") + 1);
    const peers = new Map<string, { readonly failed: boolean; readonly atMs: number }[]>();
    for (const told of since) {
      if (told !== "lost") peers.set(told.peer, [...(peers.get(told.peer) ?? []), told]);
    }
    return peers;
  }

  /** Some server, heard of in time, is one of those. */
  #any(is: (ends: readonly { readonly failed: boolean }[]) => boolean, nowMs: number): boolean {
    const peers = [...this.#peers().values()];
    return peers.some((ends) => nowMs - (ends.at(-1)?.atMs ?? 0) < this.#o.windowMs && is(ends));
  }

  /** The same, of several. */
  #some(is: (ends: readonly { readonly failed: boolean }[]) => boolean, nowMs: number): boolean {
    return this.#peers().size > 1 && this.#any(is, nowMs);
  }

  #someServed(nowMs: number): boolean {
    return this.#some((ends) => ends.at(-1)?.failed === false, nowMs);
  }

  #someBelow(rate: number, nowMs: number): boolean {
    return this.#some(
      (ends) => ends.filter((end) => end.failed).length / ends.length < rate,
      nowMs,
    );
  }

  #isKnown(ending: Ending | undefined, nowMs: number): boolean {
    const name = ending?.event;
    if (name === undefined) return false;
    const last = this.#heard.findLast((heard) => heard.name === name);
    if (last !== undefined && nowMs < last.untilMs) return true;
    const firstMs = name === "connecting" ? Number.POSITIVE_INFINITY : 1_200;
    const forMs = last === undefined ? firstMs : Math.min(last.forMs * 1.6, 144_000);
    const others = this.#heard.filter((heard) => heard.name !== "connecting");
    this.#heard = [...others, { name, untilMs: nowMs + forMs, forMs }];
    return false;
  }

  #verdict(nowMs: number) {
    if (this.#held.length === 0 || this.#tickets.length > 0) return;
    const latest = this.#held.reduce((one, two) => (one.notBeforeMs > two.notBeforeMs ? one : two));
    this.#held = [];
    // There were several when the probe failed. Of those that are known now, one may be left, and serve.
    if (this.#any((ends) => ends.at(-1)?.failed === false, nowMs)) return;
    this.#hints.push(latest.notBeforeMs);
    this.#open(nowMs, latest.ending);
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
      if (overdue && Number(inFlightMs) < probeLeaseMs) {
        this.#open(nowMs);
        return this.#kind;
      }
      this.#tickets = this.#tickets.filter((t) => nowMs - t.admittedMs < probeLeaseMs);
      this.#verdict(nowMs);
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
    const taken = this.#tickets.length + this.#held.length;
    if (kind === "half-open" && taken >= this.#o.probes) return "BREAKER_PROBING";
    if (this.#ramps && !critical && running(this.#era) >= this.#o.probes) {
      const passed = nowMs - this.#eraMs;
      const share = 0.25 + (0.75 * passed) / Number(this.#o.rampMs);
      if (this.#chance() >= share) return "BREAKER_RAMPING";
    }
    const ticket = { era: this.#era, admittedMs: nowMs, timed, known: this.#events() };
    this.#tickets.push(ticket);
    return ticket;
  }

  settle(
    ticket: Ticket,
    outcome: Outcome,
    ending: Ending | undefined,
    peer: string | undefined,
    nowMs: number,
  ) {
    const failed = outcome === "failure";
    if (outcome !== "ignored" && peer !== undefined) {
      this.#told.push({ peer, failed: failed || this.#isSlow(ticket, nowMs), atMs: nowMs });
    } else if (outcome !== "ignored" && ending?.event !== undefined) this.#told.push("lost");
    this.kind(nowMs);
    if (ticket.era !== this.#era || !this.#tickets.includes(ticket)) return;
    if (this.#kind !== "half-open") {
      if (outcome === "ignored") this.#tickets = this.#tickets.filter((t) => t !== ticket);
      else this.#count(ticket, outcome, ending, nowMs);
    } else {
      this.#tickets = this.#tickets.filter((t) => t !== ticket);
      const slow = this.#isSlow(ticket, nowMs);
      if (outcome === "ignored" || (failed && this.#isKnown(ending, nowMs))) this.#verdict(nowMs);
      else if (failed || slow) {
        if (this.#peers().size > 1) {
          const askedMs = failed ? ending?.retryAfterMs : undefined;
          const notBeforeMs =
            askedMs === undefined
              ? Number.NEGATIVE_INFINITY
              : nowMs + Math.min(askedMs, this.#o.maxOpenMs);
          this.#held.push({ ending: failed ? ending : undefined, notBeforeMs });
          this.#verdict(nowMs);
          return;
        }
        if (failed) this.#hint(ending, nowMs);
        this.#open(nowMs, failed ? ending : undefined);
      } else {
        this.#heard = [];
        this.#counted.push({ atMs: nowMs, failed, slow, shed: false, news: true });
        if (this.#counted.length < this.#o.successesToClose) {
          this.#verdict(nowMs);
          return;
        }
        this.#become("closed", nowMs);
        this.#opened = 0;
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
    const news = ticket.known === this.#events();
    if (failed && (this.#isKnown(ending, nowMs) || (ending?.connectionLost === true && !news)))
      return;
    if (!failed) this.#heard = [];
    this.#counted.push({ atMs: nowMs, failed, slow, shed: ending?.unserved === "shed", news });
    if (failed) this.#hint(ending, nowMs);
    if (this.#kind === "closed" && this.#mustOpen(failed, slow, nowMs)) this.#open(nowMs, ending);
  }

  #events(): number {
    return this.#counted.filter((c) => c.news && (c.failed || c.slow)).length;
  }

  #mustOpen(failed: boolean, slow: boolean, nowMs: number): boolean {
    const { consecutiveFailures, failureRate, minCalls, slowMs, slowRate } = this.#o;
    const since = this.#counted.slice(this.#counted.findLastIndex((c) => !c.failed) + 1);
    const inARow = since.filter((c) => !c.shed && c.news).length;
    // The first rule that is broken decides, and is held against its own words on the servers.
    if (failed && consecutiveFailures !== false && inARow >= consecutiveFailures) {
      return !this.#someServed(nowMs);
    }
    const recent = this.#recent(nowMs);
    if (recent.length < minCalls) return false;
    const { windowCalls, windowMs } = this.#o;
    const inTime =
      windowCalls === false
        ? this.#counted.filter((c) => nowMs - c.atMs < windowMs)
        : this.#counted.slice(-windowCalls);
    const events = inTime.filter((c) => c.news && (c.failed || c.slow)).length;
    const breaks = (rate: number, of: (c: Counted) => boolean) => {
      const bad = recent.filter(of).length;
      return bad / recent.length >= rate && events >= Math.min(3, bad);
    };
    if (failed && failureRate !== false && breaks(failureRate, (c) => c.failed)) {
      return !this.#someBelow(failureRate, nowMs);
    }
    return (
      slow &&
      slowMs !== false &&
      breaks(slowRate, (c) => c.slow) &&
      !this.#someBelow(slowRate, nowMs)
    );
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
