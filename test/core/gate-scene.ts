import { type Mode, ObserveReport } from "../../src/core/control.js";
import type { Decision, PolicyName } from "../../src/core/decision.js";
import { type Gate, GateRun } from "../../src/core/gate.js";
import {
  type GateAnswer,
  type OnGranted,
  type Outcome,
  type Permit,
  permit,
  type Refusal,
  refusal,
  type WaitResult,
} from "../../src/core/permit.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";

/** What a gate answers: `pass` a permit, `silent` nothing, or a refusal; `queue` a place in a queue. */
type Answer = "pass" | "silent" | "refuse" | "queue";

export class FakeGate implements Gate<string> {
  readonly policy: PolicyName;
  answer: Answer;
  mode: Mode;
  asked = 0;
  left = 0;
  readonly outcomes: Outcome[] = [];
  /** Set: it admits without the store that it shares. */
  storeAway: string | undefined;
  /** Of the queue in which calls wait. */
  detail: string | undefined;
  /** Run while the gate is being asked. */
  during: () => void = () => {};
  #onGranted: OnGranted | undefined;
  #queued = false;

  constructor(answer: Answer, mode: Mode = "enforce", policy: PolicyName = "bulkhead") {
    this.answer = answer;
    this.mode = mode;
    this.policy = policy;
  }

  modeFor(): Mode {
    return this.mode;
  }

  enter(_call: string, onGranted: OnGranted): GateAnswer | undefined {
    this.asked += 1;
    this.during();
    if (this.answer === "silent") return undefined;
    if (this.answer === "pass") return this.permit();
    if (this.answer === "refuse") return this.refusal();
    this.#onGranted = onGranted;
    this.#queued = true;
    return {
      kind: "queued",
      sinceMs: 0,
      detail: this.detail,
      leave: () => {
        const was = this.#queued;
        this.#queued = false;
        this.left += 1;
        return was;
      },
    };
  }

  permit(): Permit {
    const { storeAway } = this;
    const made = permit((outcome) => this.outcomes.push(outcome));
    return storeAway === undefined
      ? made
      : { storeAway, settle: (outcome, ending) => made.settle(outcome, ending) };
  }

  refusal(): Refusal {
    return refusal("BULKHEAD_FULL", "full");
  }

  /** Gives the waiting call its turn, even when it has left. */
  turn(turn: WaitResult, waitedMs = 5): void {
    this.#queued = false;
    this.#onGranted?.(turn, waitedMs);
  }
}

/** A gate that takes slots, and may refuse a call before it comes that far. */
export class SlotGate extends FakeGate {
  readonly takesSlot = true;
  refuses = false;

  refusesEarly(): Refusal | undefined {
    return this.refuses ? this.refusal() : undefined;
  }
}

/** A call on its way through gates, and all that its host is told. */
export function setup(...gates: FakeGate[]) {
  const told: string[] = [];
  const decisions: Decision[] = [];
  const clock = new VirtualClock();
  const hooks: { decided: () => void; silent: boolean } = { decided: () => {}, silent: false };
  const observed = new ObserveReport();
  const run = new GateRun<string>(gates, "call", {
    clock,
    ready: (waited) => told.push(waited ? "ready later" : "ready"),
    admitted: (waited) => told.push(waited ? "admitted later" : "admitted"),
    refused: ({ reason }, policy, waited) =>
      told.push(`${policy} refused ${reason}${waited ? " later" : ""}`),
    decide(decision) {
      decisions.push(decision);
      hooks.decided();
    },
    get silent() {
      return hooks.silent;
    },
    observed,
  });
  return { run, told, decisions, clock, hooks, observed };
}

export const outcomes = (...gates: FakeGate[]) => gates.map((gate) => gate.outcomes);
