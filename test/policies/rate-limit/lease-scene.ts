import {
  LeasedQuotaStore,
  type LeaseOptions,
  type TokenExchange,
  type TokenLedger,
  type TokensTaken,
} from "../../../src/policies/rate-limit/leases.js";
import type { QuotaAnswer } from "../../../src/policies/rate-limit/store.js";
import type { TokenRate } from "../../../src/policies/rate-limit/token-bucket.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";

/** What becomes of a question to the ledger. `lost`: it is carried out, and its answer does not arrive. */
export type LedgerFate = "answered" | "lost" | "refused" | "silent";

/** The bucket of all processes under a virtual clock, by the arithmetic of the script in Redis. */
class FakeLedger implements TokenLedger {
  /** How long an answer takes, in milliseconds. */
  latencyMs = 1;
  /** Decides about each question. */
  fate: () => LedgerFate = () => "answered";
  /** How long a silent ledger is asked before the question fails. */
  timeoutMs = 1_000;
  readonly asked: (TokenExchange & { readonly key: string })[] = [];
  readonly #clock: VirtualClock;
  readonly #buckets = new Map<string, { taken: number; atMs: number }>();

  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }

  async exchange(key: string, exchange: TokenExchange, rate: TokenRate): Promise<TokensTaken> {
    this.asked.push({ key, ...exchange });
    const fate = this.fate();
    if (fate === "silent") await this.#pass(this.timeoutMs);
    else await this.#pass(this.latencyMs / 2);
    if (fate === "refused" || fate === "silent") throw new Error("the ledger is away");
    const answer = this.#carryOut(key, exchange, rate);
    await this.#pass(fate === "lost" ? this.timeoutMs : this.latencyMs / 2);
    if (fate === "lost") throw new Error("the answer is lost");
    return answer;
  }

  /** It forgets all it knew. */
  forget(): void {
    this.#buckets.clear();
  }

  #carryOut(
    key: string,
    { back, need, want }: TokenExchange,
    { ratePerSecond, burst }: TokenRate,
  ): TokensTaken {
    const nowMs = this.#clock.now();
    const bucket = this.#buckets.get(key) ?? { taken: 0, atMs: nowMs };
    const added = ((nowMs - bucket.atMs) * ratePerSecond) / 1_000;
    const owed = Math.max(0, Math.max(0, bucket.taken - added) - back);
    const there = burst - owed;
    const enough = want > 0 && there + 1e-9 >= need;
    const taken = enough ? Math.max(need, Math.min(want, there)) : 0;
    this.#buckets.set(key, { taken: owed + taken, atMs: nowMs });
    return { taken, left: there - taken };
  }

  #pass(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#clock.schedule(ms, resolve, { ref: false });
    });
  }
}

const leaseDefaults: LeaseOptions = {
  share: 0.1,
  leaseMs: 200,
  idleMs: 1_000,
  callWaitMs: 40,
  retryMs: 1_000,
  localShare: 1,
  maxKeys: 100,
};

/** Some processes that share a ledger. */
export function leaseScene(
  options: Partial<LeaseOptions> = {},
  rate: TokenRate = { ratePerSecond: 1_000, burst: 1_000 },
  processes = 1,
) {
  const clock = new VirtualClock();
  const ledger = new FakeLedger(clock);
  const errors: unknown[] = [];
  const open = () =>
    new LeasedQuotaStore(
      ledger,
      { ...leaseDefaults, ...options },
      clock,
      (error) => errors.push(error),
      "store",
    );
  const stores = Array.from({ length: processes }, open);
  const [store = open()] = stores;
  /** Asks one store, and tells what it answers, at once or later. */
  const take = (cost = 1, by: LeasedQuotaStore = store, key = "k") => {
    const answer = by.take(key, cost, rate);
    const call: { atOnce: boolean; answer: QuotaAnswer | undefined; error: unknown } = {
      atOnce: !(answer instanceof Promise),
      answer: answer instanceof Promise ? undefined : answer,
      error: undefined,
    };
    if (answer instanceof Promise) {
      answer.then(
        (given) => {
          call.answer = given;
        },
        (error: unknown) => {
          call.error = error;
        },
      );
    }
    return call;
  };
  /** Calls at an even rate for a while. */
  const load = async (perSecond: number, forMs: number, by: LeasedQuotaStore = store) => {
    const calls: ReturnType<typeof take>[] = [];
    const gapMs = 1_000 / perSecond;
    for (let atMs = 0; atMs < forMs; atMs += gapMs) {
      calls.push(take(1, by));
      await clock.pass(gapMs);
    }
    return calls;
  };
  return { clock, ledger, errors, store, stores, take, load, rate };
}

export const isGranted = ({ answer }: { readonly answer: QuotaAnswer | undefined }) =>
  answer?.granted === true;
