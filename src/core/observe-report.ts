import type { PolicyName } from "./decision.js";
import { type Outcome, type Permit, permit } from "./permit.js";
import type { Reason } from "./reasons.js";

/** Calls that an observed policy would have refused for one reason, and how they ended all the same. They only grow. */
export interface ObservedRefusals {
  readonly refused: number;
  readonly success: number;
  readonly failure: number;
  /** Their caller left, or another policy refused them: how they would have ended is not known. */
  readonly ignored: number;
}

/** By policy and reason. What would have been refused and has not ended yet is in `refused` only. */
export type ObservedReport = Readonly<
  Partial<Record<PolicyName, Readonly<Partial<Record<Reason, ObservedRefusals>>>>>
>;

type Counts = { -readonly [K in keyof ObservedRefusals]: number };

/**
 * What policies that observe would have done, and what it would have cost: of the calls that they would have refused,
 * those that ended well would have been lost, and those that failed would have been spared.
 */
export class ObserveReport {
  readonly #counts = new Map<PolicyName, Map<Reason, Counts>>();

  refused(policy: PolicyName, reason: Reason): void {
    this.#of(policy, reason).refused += 1;
  }

  ended(policy: PolicyName, reason: Reason, outcome: Outcome): void {
    this.#of(policy, reason)[outcome] += 1;
  }

  /** Notes what would have been refused, and how it ends when that is settled: in place of the permit it did not get. */
  spared(policy: PolicyName, reason: Reason): Permit {
    this.refused(policy, reason);
    return permit((outcome) => this.ended(policy, reason, outcome));
  }

  snapshot(): ObservedReport {
    const report: Partial<Record<PolicyName, Partial<Record<Reason, ObservedRefusals>>>> = {};
    for (const [policy, reasons] of this.#counts) {
      const byReason: Partial<Record<Reason, ObservedRefusals>> = {};
      for (const [reason, counts] of reasons) byReason[reason] = { ...counts };
      report[policy] = byReason;
    }
    return report;
  }

  #of(policy: PolicyName, reason: Reason): Counts {
    let reasons = this.#counts.get(policy);
    if (reasons === undefined) {
      reasons = new Map();
      this.#counts.set(policy, reasons);
    }
    let counts = reasons.get(reason);
    if (counts === undefined) {
      counts = { refused: 0, success: 0, failure: 0, ignored: 0 };
      reasons.set(reason, counts);
    }
    return counts;
  }
}
