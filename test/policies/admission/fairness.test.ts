import { Metadata } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { isQueued, isRefusal, type Permit, type WaitResult } from "../../../src/core/permit.js";
import type { Priority } from "../../../src/core/priority.js";
import { Admission, type AdmissionCall } from "../../../src/policies/admission/admission.js";
import {
  type AdmissionOptions,
  resolveAdmissionOptions,
} from "../../../src/policies/admission/options.js";
import type { FairnessOptions } from "../../../src/policies/admission/server.js";
import { LoadThresholds } from "../../../src/policies/admission/shedders.js";
import { UsageByCaller } from "../../../src/policies/admission/usage.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { fateOf } from "../../core/turns.js";
import { handlers, scene } from "../../scene.js";
import { callOf } from "./scene.js";

interface TenantCall extends AdmissionCall {
  readonly tenant: string;
}

/** An admission that tells tenants apart, and how often it has asked who one is. */
function tenantScene(options: AdmissionOptions, fair = true) {
  const clock = new VirtualClock();
  const resolved = resolveAdmissionOptions(options);
  const asked: string[] = [];
  const callerOf = ({ tenant }: TenantCall) => {
    asked.push(tenant);
    return tenant;
  };
  const { thresholds } = resolved;
  const admission = new Admission<TenantCall>(resolved, clock, () => 0, {
    shedders: thresholds === false ? [] : [new LoadThresholds(thresholds)],
    ...(fair ? { fairness: { callerOf, halfLifeMs: 1_000, maxKeys: 1_000 } } : {}),
  });
  const enter = (tenant: string, priority: Priority = "normal") => {
    const turns: WaitResult[] = [];
    const entry = admission.enter({ ...callOf(priority), tenant }, (turn) => turns.push(turn));
    return {
      tenant,
      get fate() {
        return fateOf(turns[0] ?? entry);
      },
      get permit(): Permit | undefined {
        const turn = turns[0] ?? entry;
        return isQueued(turn) || isRefusal(turn) ? undefined : turn;
      },
      get why() {
        const turn = turns[0] ?? entry;
        return isRefusal(turn) ? turn.detail : undefined;
      },
    };
  };
  return { clock, admission, asked, enter };
}

const one = { limit: 1, maxQueued: 4, maxWaitMs: 10_000, thresholds: false } as const;

describe("inside a priority", () => {
  it("the caller that has used least is next, whoever came first", () => {
    const { clock, enter } = tenantScene(one);
    const running = enter("a");
    const waiting = ["a", "a", "b", "c"].map((tenant) => enter(tenant));
    const order: string[] = [];
    let held = running.permit;
    for (let round = 0; round < 4; round += 1) {
      clock.advance(10);
      held?.settle("success");
      const next = waiting.find(({ permit }) => permit !== undefined && permit !== held);
      if (next === undefined) throw new Error("nobody is next");
      waiting.splice(waiting.indexOf(next), 1);
      order.push(next.tenant);
      held = next.permit;
    }
    // Nobody is charged for the first, which took nothing from anybody.
    expect(order).toEqual(["a", "b", "c", "a"]);
  });

  it("what counts is the time for which slots were held, not the number of calls", () => {
    const { clock, enter } = tenantScene(one);
    const first = enter("x");
    const [long, ...short] = ["long", "short", "short"].map((tenant) => enter(tenant));
    first.permit?.settle("success");
    clock.advance(100);
    long?.permit?.settle("success");
    const again = enter("long");
    clock.advance(1);
    short[0]?.permit?.settle("success");
    expect([again.fate, short[1]?.fate]).toEqual(["queued", "admitted"]);
  });

  it("a full queue gives up the newest call of the caller that has used most", () => {
    const { clock, enter } = tenantScene(one);
    const running = enter("heavy");
    const charged = enter("heavy");
    running.permit?.settle("success");
    clock.advance(50);
    const waiting = ["heavy", "light", "heavy", "light"].map((tenant) => enter(tenant));
    const newcomer = enter("light");
    expect(newcomer.fate).toBe("queued");
    expect(waiting.map(({ fate }) => fate)).toEqual(["queued", "queued", "LOAD_SHED", "queued"]);
    expect(waiting[2]?.why).toBe("gave its place to a normal call of a caller that has used less");
    // And one of the heavy caller gets no place of a lighter one.
    expect(enter("heavy").fate).toBe("CONCURRENCY_LIMIT");
    expect(charged.fate).toBe("admitted");
  });

  it("a lower priority still goes first, and a critical call is never evicted", () => {
    const { enter } = tenantScene({ ...one, criticalHeadroom: 0 });
    const running = enter("heavy");
    const charged = enter("heavy");
    running.permit?.settle("success");
    const waiting = [
      enter("light", "low"),
      enter("heavy", "high"),
      enter("heavy", "critical"),
      enter("heavy", "critical"),
    ];
    expect(enter("other", "high").fate).toBe("queued");
    expect(waiting[0]?.fate).toBe("LOAD_SHED");
    expect(enter("other", "critical").fate).toBe("queued");
    expect(enter("other", "critical").fate).toBe("queued");
    expect(enter("other", "critical").fate).toBe("CONCURRENCY_LIMIT");
    expect(waiting.slice(2).map(({ fate }) => fate)).toEqual(["queued", "queued"]);
    expect(charged.fate).toBe("admitted");
  });

  it("thresholds refuse the callers that have used most, while a call of one of them waits", () => {
    const { clock, enter } = tenantScene({ ...one, thresholds: { low: 0.4, normal: 0.4 } });
    const running = enter("heavy");
    const charged = enter("heavy");
    running.permit?.settle("success");
    clock.advance(50);
    const waiting = enter("heavy");
    const another = enter("heavy");
    expect([waiting.fate, another.fate]).toEqual(["queued", "LOAD_SHED"]);
    expect(enter("light").fate).toBe("queued");
    expect(enter("heavy").why).toMatch(/^load has reached 0.4 for normal/);
    expect(charged.fate).toBe("admitted");
  });

  it.each(["reject-new", "drop-oldest", "drop-newest", "age-out"] as const)(
    "%s refuses whom it names, whatever they have used",
    (overflow) => {
      const fates = [true, false].map((fair) => {
        const { clock, enter } = tenantScene({ ...one, queue: { overflow } }, fair);
        const running = enter("heavy");
        enter("heavy");
        running.permit?.settle("success");
        const calls = ["heavy", "light", "heavy", "light"].map((tenant) => enter(tenant));
        clock.advance(60);
        return [...calls, enter("light")].map(({ fate }) => fate);
      });
      expect(fates[0]).toEqual(fates[1]);
    },
  );
});

it("nobody is asked for, and nothing is kept, while no call waits", () => {
  const { clock, admission, asked, enter } = tenantScene({ ...one, limit: 2 });
  for (let index = 0; index < 100; index += 1) {
    const call = enter(`tenant-${index}`);
    clock.advance(1);
    call.permit?.settle("success");
  }
  expect(asked).toEqual([]);
  expect(admission.usedAt(clock.now())).toEqual([]);
});

describe("ten tenants at a pool of ten that can do 500 calls a second", () => {
  /** The share of calls that are served within 500 ms: of the first tenant, and of the nine others. */
  function served(fair: boolean, timesOfFirst: number, seed: number) {
    const { clock, admission } = tenantScene({ limit: 40 }, fair);
    const random = seededRandom(seed);
    const untilMs = clock.now() + 3_000;
    const tally = { first: { sent: 0, good: 0 }, others: { sent: 0, good: 0 } };
    // The pool behind the slots.
    let busy = 0;
    const waiting: (() => void)[] = [];
    const work = (done: () => void) => {
      if (busy === 10) {
        waiting.push(() => work(done));
        return;
      }
      busy += 1;
      clock.schedule(20, () => {
        busy -= 1;
        done();
        waiting.shift()?.();
      });
    };
    const call = (tenant: number) => {
      const counts = tenant === 0 ? tally.first : tally.others;
      counts.sent += 1;
      const dueMs = clock.now();
      const granted = (turn: WaitResult) => {
        if (isRefusal(turn)) return;
        work(() => {
          turn.settle("success");
          if (clock.now() - dueMs <= 500) counts.good += 1;
        });
      };
      const asks = { ...callOf("normal", dueMs + 500), tenant: `tenant-${tenant}` };
      const entry = admission.enter(asks, granted);
      if (!isQueued(entry)) granted(entry);
    };
    // Each tenant asks for 8 % of what the pool can do; the first one for some times as much.
    const plan = (tenant: number, perSecond: number) => {
      const everyMs = () => (-Math.log(1 - random()) * 1_000) / perSecond;
      const next = () => {
        if (clock.now() >= untilMs) return;
        call(tenant);
        clock.schedule(everyMs(), next);
      };
      clock.schedule(everyMs(), next);
    };
    for (let tenant = 0; tenant < 10; tenant += 1)
      plan(tenant, tenant === 0 ? 40 * timesOfFirst : 40);
    clock.advance(4_000);
    const share = ({ sent, good }: { sent: number; good: number }) => good / sent;
    return { first: share(tally.first), others: share(tally.others) };
  }

  it("are all served when each asks for its share", () => {
    expect(served(true, 1, 1)).toEqual({
      first: expect.closeTo(1, 1),
      others: expect.closeTo(1, 1),
    });
  });

  it.each([1, 2])(
    "with seed %d, one that asks for ten times its share costs the others less than a fiftieth of their calls",
    (seed) => {
      const { first, others } = served(true, 10, seed);
      expect(others).toBeGreaterThan(0.98);
      // It has what the others leave: 28 of the 80 % that it asks for.
      expect(first).toBeGreaterThan(0.25);
    },
  );

  it("lose a third of their calls to it where callers are not told apart", () => {
    expect(served(false, 10, 1).others).toBeLessThan(0.75);
  });
});

describe("accounts", () => {
  it("count for half after each half-life, and for nothing in the end", () => {
    const usage = new UsageByCaller({ halfLifeMs: 100, maxKeys: 10 });
    usage.charge(usage.of("a"), 80, 0);
    usage.charge(usage.of("b"), 40, 100);
    expect(new Map(usage.at(100))).toEqual(
      new Map([
        ["a", 40],
        ["b", 40],
      ]),
    );
    expect(new Map(usage.at(300))).toEqual(
      new Map([
        ["a", 10],
        ["b", 10],
      ]),
    );
    expect(new Map(usage.at(1e9))).toEqual(
      new Map([
        ["a", 0],
        ["b", 0],
      ]),
    );
  });

  it("never fall below nothing", () => {
    const usage = new UsageByCaller({ halfLifeMs: 100, maxKeys: 10 });
    usage.charge(usage.of("a"), 10, 0);
    usage.charge(usage.of("a"), -50, 0);
    expect(usage.at(0)).toEqual([["a", 0]]);
  });

  it("are kept of so many callers, and of those whose calls wait", () => {
    const usage = new UsageByCaller({ halfLifeMs: 100, maxKeys: 3 });
    const waits = usage.of("waits");
    waits.waiting = 1;
    usage.charge(waits, 5, 0);
    for (let index = 0; index < 100; index += 1) usage.charge(usage.of(`caller-${index}`), 1, 0);
    expect(usage.at(0)).toHaveLength(4);
    expect(usage.of("waits")).toBe(waits);
    waits.waiting = 0;
    for (let index = 0; index < 10; index += 1) usage.of(`later-${index}`);
    expect(usage.at(0)).toHaveLength(3);
  });
});

describe("a server", () => {
  const bare = { retry: false, breaker: false } as const;
  const of = (tenant: string) => {
    const metadata = new Metadata();
    metadata.set("x-tenant", tenant);
    return metadata;
  };

  async function orderBy(fairness?: FairnessOptions | false) {
    const served: string[] = [];
    const { start, link, clock } = await scene({
      client: bare,
      server: {
        admission: {
          ...one,
          maxQueued: 10,
          ...(fairness === undefined ? {} : { fairness }),
        },
      },
      handlers: handlers(({ metadata }, answer) => {
        served.push(String(metadata.get("x-tenant")[0]));
        clock.schedule(50, answer);
      }),
    });
    const calls = ["a", "a", "a", "b"].map((tenant) => start("unary", {}, of(tenant)));
    await link.until(Promise.all(calls.map(({ ended }) => ended)));
    return served;
  }

  const tenant = ({ metadata }: { metadata: Pick<Metadata, "get"> }) =>
    String(metadata.get("x-tenant")[0]);

  it("tells callers apart by what a function says", async () => {
    expect(await orderBy({ key: tenant })).toEqual(["a", "a", "b", "a"]);
  });

  it("tells them apart by their address, where nothing else is said", async () => {
    // All of these come from one.
    expect(await orderBy()).toEqual(["a", "a", "a", "b"]);
    expect(await orderBy({})).toEqual(["a", "a", "a", "b"]);
  });

  it("serves in the order of arrival without", async () => {
    expect(await orderBy(false)).toEqual(["a", "a", "a", "b"]);
  });
});
