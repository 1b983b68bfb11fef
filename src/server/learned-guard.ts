import { Feasibility, type ResolvedFeasibilityOptions } from "../core/feasibility.js";
import type { Gate } from "../core/gates.js";
import type { Mode } from "../core/mode.js";
import { type Ending, OncePermit, type Outcome, type Permit } from "../core/permit.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import { type Refusal, refusal } from "../core/refusal.js";
import type { InboundCall } from "../grpc/inbound-call.js";
import type { Surroundings } from "../grpc/surroundings.js";
import { isExempt } from "./exempt.js";

/** What the guard asks of the server around it. */
export interface GuardedServer {
  /** The server refuses calls for load at present. */
  shedding(): boolean;
  /** For how long, on average, a call that is seen now has waited for the event loop, in milliseconds. */
  lostMs(): number;
}

/** Both numbers only grow. */
export interface LearnedGuardSnapshot {
  readonly infeasible: number;
  /** Hopeless calls that were let through, to find out. */
  readonly passed: number;
  /** The time that calls must have left, in milliseconds, by method. */
  readonly neededMs: Readonly<Record<string, number>>;
}

/**
 * Refuses calls that have less time left than their handlers need as a rule, with DEADLINE_EXCEEDED (reason
 * `DEADLINE_INFEASIBLE`), and hands admission what a call needs, for when its turn comes. The deadline that grpc-js
 * tells begins when it reads the call; what the call lost before that, in an event loop that was busy, is taken off.
 */
export class LearnedGuardPolicy implements ControlledPolicy, Gate<InboundCall> {
  readonly policy = "feasibility";
  mode: Mode;
  readonly #feasibility: Feasibility;
  readonly #server: GuardedServer;
  #infeasible = 0;
  #passed = 0;

  constructor(
    options: ResolvedFeasibilityOptions,
    server: GuardedServer,
    { clock, random }: Surroundings,
    mode: Mode,
  ) {
    this.mode = mode;
    this.#server = server;
    this.#feasibility = new Feasibility(options, clock, random);
  }

  modeFor({ method, kind }: InboundCall): Mode {
    // How long streams of responses last says nothing of whether another is worth opening.
    const measured = kind === "unary" || kind === "client-stream";
    return measured && !isExempt(method) ? this.mode : "off";
  }

  enter(inbound: InboundCall): Permit | Refusal {
    const { deadlineMs, method } = inbound;
    if (deadlineMs !== Number.POSITIVE_INFINITY) {
      const neededMs = this.#feasibility.neededMs(method);
      if (this.mode === "enforce") inbound.neededMs = neededMs;
      if (neededMs > 0) {
        const leftMs = deadlineMs - inbound.clock.now() - this.#server.lostMs();
        if (leftMs < neededMs) {
          if (!this.#feasibility.passes()) return this.#refuse(leftMs, neededMs);
          this.#passed += 1;
          inbound.neededMs = 0;
        }
      }
    }
    return new Lesson(this.#feasibility, this.#server, inbound);
  }

  snapshot(): LearnedGuardSnapshot {
    return {
      infeasible: this.#infeasible,
      passed: this.#passed,
      neededMs: this.#feasibility.snapshot(),
    };
  }

  #refuse(leftMs: number, neededMs: number): Refusal {
    this.#infeasible += 1;
    const left = Math.max(0, Math.floor(leftMs));
    const needed = Math.ceil(neededMs);
    const detail = `${left} ms are left, ${needed} ms are needed, judging by how long such calls took`;
    return refusal("DEADLINE_INFEASIBLE", detail);
  }
}

/** How long a late answer is waited for. */
const lateMs = 60_000;

/** What the end of a call teaches. */
class Lesson extends OncePermit {
  readonly #feasibility: Feasibility;
  readonly #server: GuardedServer;
  readonly #inbound: InboundCall;

  constructor(feasibility: Feasibility, server: GuardedServer, inbound: InboundCall) {
    super();
    this.#feasibility = feasibility;
    this.#server = server;
    this.#inbound = inbound;
  }

  protected onSettle(outcome: Outcome, ending: Ending | undefined): void {
    const inbound = this.#inbound;
    const startedMs = inbound.handlerStartedMs;
    if (startedMs === undefined || this.#server.shedding()) return;
    const learn = () => this.#feasibility.record(inbound.method, inbound.clock.now() - startedMs);
    // The caller has left; what its handler takes shows when that answers, and if it does not, nothing does.
    if (ending?.worksOn !== undefined) ending.worksOn(lateMs, (ended) => ended && learn());
    else if (outcome !== "ignored") learn();
  }
}
