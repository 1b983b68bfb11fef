import type { Decision } from "../core/decision.js";
import type { Permit } from "../core/permit.js";
import { type Priority, priorityRank } from "../core/priority.js";
import { isRefusal, type Refusal } from "../core/refusal.js";
import { isQueued, type Queued } from "../core/turn.js";
import { GuardLife } from "./guard-life.js";
import { GuardTurn, ShadowPlace } from "./guard-turn.js";

/** Something that a run waits for. */
interface Place {
  /** Gives the wait up. */
  leave(): unknown;
}

/** How an attempt gets its place in the bulkhead and its permit of the breaker, and waits for them. */
export abstract class GuardAdmission<T> extends GuardLife<T> {
  /** The place in the bulkhead, for the attempt that begins. */
  protected held: Permit | undefined = undefined;
  #place: Place | undefined = undefined;
  #closed: (() => void) | undefined = undefined;

  /** The attempt begins. */
  protected abstract launch(): void;

  /** The attempt may not begin. */
  protected abstract refused(policy: Decision["policy"], refused: Refusal): false;

  protected override released(): void {
    const place = this.#place;
    if (place === undefined) return;
    this.waited();
    place.leave();
  }

  /** True when the attempt may begin now; else the run waits, or has ended. */
  protected enter(): boolean {
    const { plan, asked } = this;
    const { bulkhead, breaker } = plan;
    if (bulkhead === undefined || bulkhead.mode === "off") return this.#pass();
    const place = bulkhead.of(asked?.key);
    const rank = priorityRank[this.#priority];
    const { byMs } = this;
    if (bulkhead.mode === "observe") {
      this.held = new ShadowPlace(place, [rank, byMs, asked?.weight ?? 1], {
        queued: (waitMs) => this.decide("bulkhead", "queue", false, { waitMs }),
        refused: (would) => this.#spared("bulkhead", would),
      });
      return this.#pass();
    }
    if (breaker !== undefined && breaker.modeFor(asked?.key) === "enforce") {
      // Who would be refused behind the queue need not stand in it.
      const refused = breaker.check(asked?.key);
      if (refused !== undefined) return this.refused("breaker", refused);
      // Whoever was told that the breaker lets probes through may have ended the run.
      if (this.over) return false;
    }
    const turn = plan.nextTurn;
    const entry = place.enter(rank, byMs, turn.onTurn, asked?.weight ?? 1);
    if (isQueued(entry)) return this.queue(entry, turn);
    if (isRefusal(entry)) return this.refused("bulkhead", entry);
    this.held = entry;
    return this.#pass();
  }

  get #priority(): Priority {
    return this.asked?.priority ?? this.inbound?.priority ?? "normal";
  }

  /** The run stands in the queue, and `turn` is the one that it will be told. */
  protected queue(entry: Queued, turn: GuardTurn): false {
    const { plan } = this;
    plan.nextTurn = new GuardTurn();
    this.waitFor(entry);
    // Nothing in it throws or rejects.
    void turn.wait().then((waited) => this.#turned(waited));
    return false;
  }

  #turned({ turn, waitedMs }: GuardTurn): void {
    if (turn === undefined) return;
    if (this.over) {
      if (!isRefusal(turn)) turn.settle("ignored");
      return;
    }
    this.waited();
    this.decide("bulkhead", "queue", true, { waitMs: waitedMs });
    if (this.over) {
      if (!isRefusal(turn)) turn.settle("ignored");
      return;
    }
    if (isRefusal(turn)) {
      const { time, plan } = this;
      // The queue has a timer of its own, and may be the first to find that the time of the run is up.
      if (turn.reason !== "DEADLINE_EXPIRED" || time === undefined) this.refused("bulkhead", turn);
      else if (plan.timer !== undefined) {
        plan.timer.stop(time);
        this.expire(plan.timer, 0);
      }
      return;
    }
    this.held = turn;
    if (this.#pass()) this.launch();
  }

  /** Waits for something, until that comes, the run ends, or the weir is closed. */
  protected waitFor(place: Place): void {
    this.#place = place;
    this.#closed = () => this.close();
    this.plan.room.enter(this.#closed);
  }

  /** What the run waited for has come. */
  protected waited(): void {
    this.#place = undefined;
    if (this.#closed !== undefined) this.plan.room.leave(this.#closed);
  }

  #spared(policy: Decision["policy"], would: Refusal): Permit {
    this.decide(policy, "reject", false, would);
    return this.plan.observed.spared(policy, would.reason);
  }

  /** Behind the queue, so that waiting there is neither slowness nor an expired probe. */
  #pass(): boolean {
    const { breaker } = this.plan;
    const mode = breaker?.modeFor(this.asked?.key) ?? "off";
    if (breaker === undefined || mode === "off") return true;
    const entry = breaker.acquire(this.asked?.key, this.#priority === "critical");
    if (!isRefusal(entry)) {
      this.permit = entry;
      return true;
    }
    if (mode === "observe") {
      this.permit = this.#spared("breaker", entry);
      return true;
    }
    this.held?.settle("ignored");
    this.held = undefined;
    return this.refused("breaker", entry);
  }
}
