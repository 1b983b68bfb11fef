import { describe, expect, it } from "vitest";
import { maxDurationMs } from "../../../src/core/options.js";
import type { QuotaAnswer, QuotaStore } from "../../../src/policies/rate-limit/store.js";
import { BusyClock } from "../../core/busy-clock.js";
import { permitOf, queuedOf, refusalOf } from "../../core/turns.js";
import { type Asking, ManualStore, rateScene, rateSceneUnder } from "./rate-scene.js";

const idle = { queued: 0, asking: 0 };
/** Lets promises be heard. */
const settled = async () => {
  for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
};
const granted: QuotaAnswer = { granted: true };
const short = (retryAfterMs: number): QuotaAnswer => ({ granted: false, retryAfterMs });

function storeScene(options: Parameters<typeof rateScene>[0] = {}) {
  const store = new ManualStore();
  return { store, ...rateScene({ store, burst: 10, ...options }) };
}

/** A store that has nothing and names no wait, and the times at which it is asked. */
function emptyStoreScene() {
  const askedAtMs: number[] = [];
  const store: QuotaStore = {
    take: (_key, _cost, _rate, nowMs) => {
      askedAtMs.push(nowMs);
      return short(0);
    },
  };
  const made = rateScene({ store, maxWaitMs: 1_000 });
  return { askedAtMs, startMs: made.clock.now(), ...made };
}

describe("a store that answers at once", () => {
  it("is asked with the key, the cost, the rate and the time, and answered for at once", () => {
    const asked: unknown[] = [];
    const store: QuotaStore = {
      take: (...question) => {
        asked.push(question);
        return granted;
      },
    };
    const { enter, clock } = rateScene({ store, burst: 5 });
    expect(enter({ key: "k", cost: 3 }).fate()).toBe("admitted");
    expect(asked).toEqual([["k", 3, { ratePerSecond: 10, burst: 5 }, clock.now()]]);
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("need not say when: then it is the time in which the rate brings the cost", () => {
    const store: QuotaStore = { take: () => ({ granted: false }) };
    const { enter } = rateScene({ store, burst: 5 });
    expect(refusalOf(enter({ cost: 3 }).entry).retryAfterMs).toBe(300);
  });

  it("that has nothing and says now is asked again later, and not for ever in one moment", () => {
    let questions = 0;
    const store: QuotaStore = {
      take: () => {
        questions += 1;
        return short(0);
      },
    };
    const { clock, enter } = rateScene({ store, maxWaitMs: 10 });
    const waiting = enter();
    clock.advance(10);
    expect(waiting.fate()).toBe("RATE_LIMIT_EXCEEDED");
    expect(questions).toBeLessThanOrEqual(12);
  });

  it.each([
    [0, 1],
    [-5, 1],
    [0.25, 0.25],
    [maxDurationMs, maxDurationMs],
    [maxDurationMs + 1, undefined],
    [Infinity, undefined],
  ])("that names %d ms has the call refused with %d ms", (retryAfterMs, told) => {
    const { enter } = rateScene({ store: { take: () => short(retryAfterMs) } });
    expect(refusalOf(enter().entry).retryAfterMs).toBe(told);
  });

  it("that has nothing and says now is asked after pauses that grow from 10 ms to 250 ms, and at last", () => {
    const { askedAtMs, startMs, clock, enter } = emptyStoreScene();
    enter();
    clock.advance(1_000);
    const after = askedAtMs.map((atMs) => atMs - startMs);
    expect(after).toEqual([0, 10, 30, 70, 150, 310, 560, 810, 1_000]);
  });

  it.each([
    ["anew for the next call", "first", 40],
    ["as before when one leaves that is not the first", "last", 150],
  ] as const)("is asked after pauses that grow %s", (_how, leaves, nextMs) => {
    const { askedAtMs, startMs, clock, enter } = emptyStoreScene();
    const calls = { first: enter(), second: enter(), last: enter() };
    clock.advance(30);
    const asked = askedAtMs.length;
    queuedOf(calls[leaves].entry).leave();
    // Only the next one is asked for at once.
    expect(askedAtMs.length - asked).toBe(leaves === "first" ? 1 : 0);
    clock.advance(nextMs - 31);
    const before = askedAtMs.length;
    clock.advance(1);
    expect(askedAtMs.length).toBe(before + 1);
    expect(askedAtMs.at(-1)).toBe(startMs + nextMs);
  });

  it.each([110, 150])(
    "is not asked for a call whose deadline of 110 ms has passed unseen, %i ms after it came",
    (busyMs) => {
      const asked: number[] = [];
      const answers = [granted, granted, short(100), granted];
      const store: QuotaStore = {
        take: (_key, cost) => {
          asked.push(cost);
          return answers.shift() ?? short(100);
        },
      };
      const options = { store, burst: 5, maxWaitMs: 1_000 };
      const { clock, enter } = rateSceneUnder(new BusyClock(), options);
      const unused = enter({ cost: 1 });
      enter({ cost: 2 });
      const [late, next] = [enter({ cost: 3, withinMs: 110 }), enter({ cost: 4 })];
      clock.busy(busyMs);
      unused.abandon();
      expect([late.fate(), next.fate()]).toEqual(["DEADLINE_EXPIRED", "admitted"]);
      expect(asked).toEqual([1, 2, 3, 4]);
    },
  );

  it("serves the next one when it is too late for the first", () => {
    const answers = [short(20), short(1_000), granted];
    const store: QuotaStore = { take: () => answers.shift() ?? granted };
    const { clock, enter } = rateScene({ store, ratePerSecond: 100, maxWaitMs: 50 });
    const calls = [enter(), enter()];
    clock.advance(20);
    expect(calls.map(({ fate }) => fate())).toEqual(["RATE_LIMIT_EXCEEDED", "admitted"]);
  });

  it("may drain the limit while it takes something back, and is given it back once", () => {
    const answers = [granted, granted, short(100)];
    const givenBack: number[] = [];
    const store: QuotaStore = {
      take: () => answers.shift() ?? short(100),
      giveBack: (_key, cost) => {
        givenBack.push(cost);
        limit.drain();
      },
    };
    const { enter, limit } = rateScene({ store, burst: 5, maxWaitMs: 1_000 });
    const [unused, refused, waiting] = [enter({ cost: 3 }), enter({ cost: 2 }), enter()];
    expect([unused, refused, waiting].map(({ fate }) => fate())).toEqual([
      "admitted",
      "admitted",
      "queued",
    ]);
    refused.abandon(true);
    expect(givenBack).toEqual([]);
    unused.abandon();
    expect(waiting.fate()).toBe("DRAINING");
    expect(givenBack).toEqual([3, 2]);
  });

  it("may make one call leave the queue and another join it while it takes something back", () => {
    const answers = [granted, short(100), short(200)];
    const joined: Asking[] = [];
    const store: QuotaStore = {
      take: () => answers.shift() ?? short(300),
      giveBack: () => {
        queuedOf(waiting.entry).leave();
        joined.push(enter());
      },
    };
    const { clock, enter, limit } = rateScene({ store, burst: 5, maxWaitMs: 1_000 });
    const [unused, waiting] = [enter(), enter()];
    unused.abandon();
    expect(joined.map(({ fate }) => fate())).toEqual(["queued"]);
    expect(limit.snapshot().queued).toBe(1);
    for (const { entry } of joined) queuedOf(entry).leave();
    expect(limit.snapshot().queued).toBe(0);
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("need not be able to take anything back", () => {
    const { enter, errors } = rateScene({ store: { take: () => granted } });
    enter().abandon();
    expect(errors).toEqual([]);
  });
});

describe("a store that answers later", () => {
  it("makes a call wait for its word", async () => {
    const { store, clock, limit, enter } = storeScene();
    const [first, second] = [enter(), enter()];
    expect(first.fate()).toBe("queued");
    expect(limit.snapshot()).toMatchObject({ asking: 2 });
    clock.advance(7);
    store.asked[0]?.answer(granted);
    store.asked[1]?.answer(short(30));
    await settled();
    expect([first.fate(), second.fate()]).toEqual(["admitted", "RATE_LIMIT_EXCEEDED"]);
    expect(refusalOf(second.turns[0]).retryAfterMs).toBe(30);
    expect(first.waits).toEqual([7]);
    expect(limit.snapshot()).toMatchObject({ ...idle, admitted: 1, refused: 1 });
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("is asked again for a call that may wait, when it said", async () => {
    const { store, clock, limit, enter } = storeScene({ maxWaitMs: 100 });
    const call = enter();
    store.asked[0]?.answer(short(40));
    await settled();
    clock.advance(39);
    expect(store.asked).toHaveLength(1);
    clock.advance(1);
    expect(store.asked).toHaveLength(2);
    store.asked[1]?.answer(granted);
    await settled();
    expect(call.fate()).toBe("admitted");
    expect(call.waits).toEqual([40]);
    expect(limit.snapshot()).toMatchObject(idle);
    expect(clock.pending.refs).toBe(0);
  });

  it("uses up the time that a call may wait", async () => {
    const { store, clock, enter } = storeScene({ maxWaitMs: 100, storeTimeoutMs: 1_000 });
    const [late, later] = [enter(), enter({ key: "b" })];
    clock.advance(60);
    store.asked[0]?.answer(short(40));
    store.asked[1]?.answer(short(41));
    await settled();
    expect([late.fate(), later.fate()]).toEqual(["queued", "RATE_LIMIT_EXCEEDED"]);
  });

  it("is asked by the first of those who wait, and by the next when that one has left", async () => {
    const { store, clock, limit, enter } = storeScene({ maxWaitMs: 1_000 });
    const [first, second] = [enter({ cost: 1 }), enter({ cost: 2 })];
    store.asked[0]?.answer(short(40));
    store.asked[1]?.answer(short(50));
    await settled();
    clock.advance(40);
    expect(store.asked.map(({ cost }) => cost)).toEqual([1, 2, 1]);
    queuedOf(first.entry).leave();
    expect(store.asked.map(({ cost }) => cost)).toEqual([1, 2, 1, 2]);
    // The word that nobody waits for any more.
    store.asked[2]?.answer(granted);
    store.asked[3]?.answer(granted);
    await settled();
    expect(store.givenBack).toEqual([{ key: "a", cost: 1 }]);
    expect(second.fate()).toBe("admitted");
    expect(limit.snapshot()).toMatchObject({ ...idle, admitted: 1, left: 1 });
    expect(clock.pending.refs).toBe(0);
  });

  it("goes on with a better call that came while it was asked for another", async () => {
    const { store, clock, limit, enter } = storeScene({ maxWaitMs: 1_000 });
    const low = enter({ rank: 3 });
    store.asked[0]?.answer(short(40));
    await settled();
    clock.advance(40);
    const high = enter({ rank: 1, cost: 2 });
    store.asked[2]?.answer(short(20));
    await settled();
    store.asked[1]?.answer(short(500));
    await settled();
    expect(store.asked.map(({ cost }) => cost)).toEqual([1, 1, 2, 2]);
    store.asked[3]?.answer(granted);
    await settled();
    expect([low.fate(), high.fate()]).toEqual(["queued", "admitted"]);
    expect(store.asked).toHaveLength(5);
    store.asked[4]?.answer(granted);
    await settled();
    expect(low.fate()).toBe("admitted");
    expect(limit.snapshot()).toMatchObject(idle);
    expect(clock.pending.refs).toBe(0);
  });

  it("is asked nothing anew when a better call leaves while it is asked for another", async () => {
    const { store, clock, enter } = storeScene({ maxWaitMs: 1_000 });
    const low = enter({ rank: 3 });
    store.asked[0]?.answer(short(40));
    await settled();
    clock.advance(40);
    const high = enter({ rank: 1, cost: 2 });
    store.asked[2]?.answer(short(20));
    await settled();
    queuedOf(high.entry).leave();
    expect(store.asked).toHaveLength(3);
    store.asked[1]?.answer(granted);
    await settled();
    expect(low.fate()).toBe("admitted");
    expect(store.givenBack).toEqual([]);
  });

  it("is asked for a better call when the one has left that it was asked for", async () => {
    const { store, clock, limit, enter } = storeScene({ maxWaitMs: 1_000 });
    const low = enter({ rank: 3 });
    store.asked[0]?.answer(short(40));
    await settled();
    clock.advance(40);
    const high = enter({ rank: 1, cost: 2 });
    store.asked[2]?.answer(short(10));
    await settled();
    // Its tokens are due while the store has yet to answer for the other.
    clock.advance(10);
    expect(store.asked).toHaveLength(3);
    queuedOf(low.entry).leave();
    expect(store.asked.map(({ cost }) => cost)).toEqual([1, 1, 2, 2]);
    store.asked[3]?.answer(granted);
    await settled();
    expect(high.fate()).toBe("admitted");
    expect(limit.snapshot()).toMatchObject(idle);
    expect(clock.pending.refs).toBe(0);
  });

  it.each([60, 70])(
    "that answers at or after the deadline, before any timer ran, gets its tokens back (%i ms)",
    async (answersAfterMs) => {
      const store = new ManualStore();
      const { clock, enter } = rateSceneUnder(new BusyClock(), { store });
      const call = enter({ withinMs: 60 });
      clock.busy(answersAfterMs);
      store.asked[0]?.answer(granted);
      await settled();
      expect(call.fate()).toBe("DEADLINE_EXPIRED");
      expect(store.givenBack).toEqual([{ key: "a", cost: 1 }]);
      expect(clock.pending).toBe(0);
    },
  );

  it("needs a timer of its own for a deadline only where that is before the store's timeout", () => {
    const timersFor = (withinMs: number) => {
      const { clock, enter } = rateSceneUnder(new BusyClock(), { store: new ManualStore() });
      enter({ withinMs });
      return clock.pending;
    };
    expect([49, 51].map(timersFor)).toEqual([2, 1]);
  });

  it("that answers so late gets its tokens back before those who wait have got theirs", async () => {
    const store = new ManualStore();
    const { clock, enter } = rateSceneUnder(new BusyClock(), { store, maxWaitMs: 1_000 });
    enter();
    store.asked[0]?.answer(short(500));
    await settled();
    enter({ rank: 1, withinMs: 60 });
    clock.busy(70);
    store.asked[1]?.answer(granted);
    await settled();
    expect(store.givenBack).toEqual([{ key: "a", cost: 1 }]);
    // Perhaps there are enough for the one that waits.
    expect(store.asked).toHaveLength(3);
  });

  it.each([40, 50])(
    "that answers at or after the deadline for a call that waits for its tokens gets them back as well (%i ms)",
    async (answersAfterMs) => {
      const store = new ManualStore();
      const options = { store, maxWaitMs: 100 };
      const { clock, enter, limit } = rateSceneUnder(new BusyClock(), options);
      const call = enter({ withinMs: 60 });
      store.asked[0]?.answer(short(20));
      await settled();
      clock.busy(20);
      clock.turn();
      clock.busy(answersAfterMs);
      store.asked[1]?.answer(granted);
      await settled();
      expect(call.fate()).toBe("DEADLINE_EXPIRED");
      expect(store.givenBack).toEqual([{ key: "a", cost: 1 }]);
      expect(limit.snapshot()).toMatchObject({ ...idle, admitted: 0, refused: 1 });
      expect(clock.pending).toBe(0);
    },
  );

  it("that answers so late is asked for the next call at once", async () => {
    const store = new ManualStore();
    const { clock, enter } = rateSceneUnder(new BusyClock(), { store, maxWaitMs: 500 });
    const [late, next] = [enter({ withinMs: 60 }), enter({ cost: 1 })];
    store.asked[0]?.answer(short(20));
    store.asked[1]?.answer(short(20));
    await settled();
    clock.busy(20);
    clock.turn();
    clock.busy(50);
    store.asked[2]?.answer(granted);
    await settled();
    expect(late.fate()).toBe("DEADLINE_EXPIRED");
    store.asked[3]?.answer(granted);
    await settled();
    expect(next.fate()).toBe("admitted");
  });

  it("gives back what it grants to a call that has left", async () => {
    const { store, clock, limit, enter } = storeScene();
    const call = enter({ cost: 2 });
    queuedOf(call.entry).leave();
    expect(limit.snapshot()).toMatchObject({ ...idle, left: 1 });
    expect(clock.pending.refs).toBe(0);
    store.asked[0]?.answer(granted);
    await settled();
    expect(call.turns).toEqual([]);
    expect(store.givenBack).toEqual([{ key: "a", cost: 2 }]);
  });

  it("gives nothing back when it grants nothing to a call that has left", async () => {
    const { store, enter, errors } = storeScene();
    for (const end of [short(10), "fail"] as const) {
      queuedOf(enter().entry).leave();
      const asked = store.asked.at(-1);
      if (end === "fail") asked?.fail(new Error("late"));
      else asked?.answer(end);
    }
    await settled();
    expect(store.givenBack).toEqual([]);
    expect(errors).toEqual([]);
  });

  it("is not waited for beyond the deadline of a call", async () => {
    const { store, clock, limit, enter } = storeScene();
    const call = enter({ withinMs: 20 });
    clock.advance(20);
    expect(call.fate()).toBe("DEADLINE_EXPIRED");
    store.asked[0]?.answer(granted);
    await settled();
    expect(store.givenBack).toHaveLength(1);
    expect(limit.snapshot()).toMatchObject({ ...idle, refused: 1, storeFailures: 0 });
    expect(clock.pending.refs).toBe(0);
  });

  it("leaves no timer behind of a call that then waits for its tokens, and leaves", async () => {
    const { store, clock, enter } = storeScene({ maxWaitMs: 30 });
    const call = enter({ withinMs: 45 });
    store.asked[0]?.answer(short(10));
    await settled();
    queuedOf(call.entry).leave();
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("is waited for no more when the rate is drained, and gets back what it grants then", async () => {
    const { store, clock, limit, enter } = storeScene({ maxWaitMs: 1_000 });
    const [waiting, asking] = [enter(), enter({ key: "b" })];
    store.asked[0]?.answer(short(40));
    await settled();
    clock.advance(40);
    limit.drain();
    expect([waiting.fate(), asking.fate()]).toEqual(["DRAINING", "DRAINING"]);
    expect([waiting.waits, asking.waits]).toEqual([[40], [40]]);
    expect(limit.snapshot()).toMatchObject({ ...idle, admitted: 0, refused: 2 });
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
    for (const { answer } of store.asked.slice(1)) answer(granted);
    await settled();
    expect(store.givenBack.map(({ key }) => key)).toEqual(["b", "a"]);
    expect([waiting.turns.length, asking.turns.length]).toEqual([1, 1]);
  });

  it("is waited for by nobody who comes to a drained rate, and gets back what it grants", async () => {
    const { store, clock, limit, enter } = storeScene({ maxWaitMs: 1_000 });
    limit.drain();
    expect(enter().fate()).toBe("DRAINING");
    expect(limit.snapshot()).toMatchObject({ ...idle, refused: 1 });
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
    store.asked[0]?.answer(granted);
    await settled();
    expect(store.givenBack).toEqual([{ key: "a", cost: 1 }]);
  });
});

describe("a call that leaves in the turn of another", () => {
  /** A store that says these things, one after the other. */
  const saying = (...answers: (QuotaAnswer | "later")[]): QuotaStore => ({
    take: () => {
      const said = answers.shift() ?? granted;
      return said === "later" ? new Promise(() => {}) : said;
    },
  });

  it("when its own wait is over has left, and was not refused", () => {
    const store = saying(short(20), "later", granted);
    const { clock, limit, enter } = rateScene({ store, ratePerSecond: 100, maxWaitMs: 50 });
    const first = enter();
    clock.advance(10);
    // Served as soon as the first is out, which is then about to be told that it waited too long.
    const second = enter({}, () => expect(queuedOf(first.entry).leave()).toBe(true));
    clock.advance(40);
    expect([first.turns, second.fate()]).toEqual([[], "admitted"]);
    expect(limit.snapshot()).toMatchObject({ ...idle, admitted: 1, refused: 0, left: 1 });
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("when the rate is drained has left, and was not refused", () => {
    const store = saying(short(20), "later", short(20));
    const { clock, limit, enter } = rateScene({ store, maxWaitMs: 1_000 });
    const low = enter({ rank: 3 });
    clock.advance(20);
    const high = enter({ rank: 1 }, () => expect(queuedOf(low.entry).leave()).toBe(true));
    limit.drain();
    expect([low.turns, high.fate()]).toEqual([[], "DRAINING"]);
    expect(limit.snapshot()).toMatchObject({ ...idle, refused: 1, left: 1 });
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("while both wait for a store, when the rate is drained, has left and was not refused", async () => {
    const { store, limit, enter } = storeScene();
    const calls: ReturnType<typeof enter>[] = [];
    const first = enter({}, () => {
      for (const { entry } of calls) queuedOf(entry).leave();
    });
    calls.push(enter({ key: "b" }), enter());
    limit.drain();
    expect(limit.snapshot()).toMatchObject({ ...idle, refused: 1, left: 2 });
    for (const { answer } of store.asked) answer(granted);
    await settled();
    expect([first.fate(), ...calls.flatMap(({ turns }) => turns)]).toEqual(["DRAINING"]);
    expect(store.givenBack).toHaveLength(3);
  });
});

describe("a store that fails", () => {
  const boom = new Error("connect ECONNREFUSED 10.0.0.5:6379");
  const ways: [string, QuotaStore][] = [
    [
      "throws",
      {
        take: () => {
          throw boom;
        },
      },
    ],
    ["rejects", { take: () => Promise.reject(boom) }],
    ["answers nonsense", { take: () => "yes" as never }],
    ["answers nonsense later", { take: async () => undefined as never }],
    ["names no time", { take: () => short(NaN) }],
    ["never answers", { take: () => new Promise(() => {}) }],
  ];

  it.each(ways)("and %s lets the call go on, and is reported", async (_way, store) => {
    const { clock, limit, enter, errors } = rateScene({ store, burst: 10 });
    const call = enter();
    await settled();
    clock.advance(50);
    expect(call.fate()).toBe("admitted");
    expect(errors).toMatchObject([{ where: "rate.store" }]);
    expect(limit.snapshot()).toMatchObject({ ...idle, admitted: 1, storeFailures: 1 });
    expect(clock.pending.refs).toBe(0);
  });

  it.each(ways)(
    "and %s refuses the call if it is to, without a word of why",
    async (_way, store) => {
      const options = { store, burst: 10, maxWaitMs: 5_000, onStoreError: "refuse" } as const;
      const { clock, limit, enter } = rateScene(options);
      const call = enter();
      await settled();
      clock.advance(50);
      const refused = refusalOf(call.turns[0] ?? call.entry);
      expect(refused).toMatchObject({
        reason: "RATE_LIMIT_EXCEEDED",
        detail: 'nothing is known of the tokens of "a"',
        retryAfterMs: 1_000,
      });
      expect(limit.snapshot()).toMatchObject({ ...idle, refused: 1, storeFailures: 1 });
      expect(clock.pending.refs).toBe(0);
    },
  );

  it("while a call waits for its tokens refuses that as well", async () => {
    const options = { maxWaitMs: 5_000, onStoreError: "refuse" } as const;
    const { store, clock, limit, enter } = storeScene(options);
    const call = enter();
    store.asked[0]?.answer(short(40));
    await settled();
    clock.advance(40);
    store.asked[1]?.fail(boom);
    await settled();
    expect(call.fate()).toBe("RATE_LIMIT_EXCEEDED");
    expect(call.waits).toEqual([40]);
    expect(limit.snapshot()).toMatchObject({ ...idle, storeFailures: 1 });
  });

  it("is waited for no longer than storeTimeoutMs", () => {
    const { clock, enter } = storeScene({ storeTimeoutMs: 30 });
    const call = enter();
    clock.advance(29);
    expect(call.fate()).toBe("queued");
    clock.advance(1);
    expect(call.fate()).toBe("admitted");
  });

  it.each([
    ["keeps what it grants late to a call that went on", "allow", 0],
    ["takes back what it grants late to a call that it refused", "refuse", 1],
  ] as const)("%s", async (_what, onStoreError, givenBack) => {
    const { store, clock, enter } = storeScene({ onStoreError });
    enter();
    clock.advance(50);
    store.asked[0]?.answer(granted);
    await settled();
    expect(store.givenBack).toHaveLength(givenBack);
  });

  it.each(ways)(
    "and %s is given nothing back by a call that went on without its word",
    async (_way, failing) => {
      let givenBack = 0;
      const { clock, enter } = rateScene({
        store: {
          take: (...question) => failing.take(...question),
          giveBack: () => {
            givenBack += 1;
          },
        },
        burst: 10,
      });
      const call = enter();
      await settled();
      clock.advance(50);
      call.abandon();
      expect(givenBack).toBe(0);
    },
  );

  it("for a call that waits, behind a deadline that has passed unseen, is given nothing back", async () => {
    const store = new ManualStore();
    const { clock, enter } = rateSceneUnder(new BusyClock(), { store, maxWaitMs: 100 });
    const call = enter({ withinMs: 60 });
    store.asked[0]?.answer(short(20));
    await settled();
    clock.busy(20);
    clock.turn();
    clock.busy(45);
    store.asked[1]?.fail(boom);
    await settled();
    expect(call.fate()).toBe("DEADLINE_EXPIRED");
    expect(store.givenBack).toEqual([]);
  });

  it("to answer before the deadline has passed unseen is given nothing back", async () => {
    const store = new ManualStore();
    const { clock, enter } = rateSceneUnder(new BusyClock(), { store });
    const call = enter({ withinMs: 60 });
    clock.busy(70);
    store.asked[0]?.fail(boom);
    await settled();
    expect(call.fate()).toBe("DEADLINE_EXPIRED");
    expect(store.givenBack).toEqual([]);
  });

  it("is reported once a second and not for every call", () => {
    const { clock, limit, enter, errors } = rateScene({
      store: {
        take: () => {
          throw boom;
        },
      },
    });
    for (let n = 0; n < 100; n += 1) enter();
    expect(errors).toHaveLength(1);
    clock.advance(999);
    enter();
    expect(errors).toHaveLength(1);
    clock.advance(1);
    enter();
    expect(errors).toHaveLength(2);
    expect(limit.snapshot().storeFailures).toBe(102);
  });

  it.each([
    [
      "throws",
      () => {
        throw boom;
      },
    ],
    ["rejects", () => Promise.reject(boom)],
  ])("to take back and %s is reported, and harms nobody", async (_way, giveBack) => {
    const { enter, errors } = rateScene({ store: { take: () => granted, giveBack } });
    enter().abandon();
    await settled();
    expect(errors).toMatchObject([{ error: boom, where: "rate.store" }]);
  });
});

describe("a store that answers for this process alone", () => {
  const alone = (granted: boolean): QuotaStore => ({
    take: () => (granted ? { granted, alone: true } : { granted, alone: true, retryAfterMs: 20 }),
  });

  it("has its calls marked, and their tokens do not come back", () => {
    const givenBack: number[] = [];
    const store = {
      ...alone(true),
      giveBack: (_key: string, cost: number) => givenBack.push(cost),
    };
    const { enter, limit } = rateScene({ store, burst: 10 });
    const call = enter({ cost: 3 });
    expect(permitOf(call.entry).storeAway).toBe(
      "the store is away, so the tokens are those of this process",
    );
    expect(limit.snapshot()).toMatchObject({ storeAway: true, storeFailures: 0 });
    call.abandon();
    expect(givenBack).toEqual([]);
  });

  it("gets nothing back for a call that has left when it answers", async () => {
    const store = new ManualStore();
    const { enter } = rateScene({ store, burst: 10 });
    const call = enter();
    queuedOf(call.entry).leave();
    store.asked[0]?.answer({ granted: true, alone: true });
    await settled();
    expect(store.givenBack).toEqual([]);
  });

  it("has calls refused with a text that says so", () => {
    const { enter } = rateScene({ store: alone(false) });
    expect(refusalOf(enter().entry)).toMatchObject({
      reason: "RATE_LIMIT_EXCEEDED",
      detail: '"a" has used up what this process has of 10 per second while the store is away',
      retryAfterMs: 20,
    });
  });

  it("is not away any more as soon as it answers for all", () => {
    let away = true;
    const store: QuotaStore = {
      take: () => (away ? { granted: true, alone: true } : { granted: false, retryAfterMs: 5 }),
    };
    const { enter, limit } = rateScene({ store });
    enter();
    away = false;
    expect(refusalOf(enter().entry).detail).toBe('"a" has used up 10 per second, burst 1');
    expect(limit.snapshot().storeAway).toBe(false);
  });

  it("leaves no mark on a call that got its tokens from all", () => {
    const { enter, limit } = rateScene({ store: { take: () => granted } });
    expect(permitOf(enter().entry).storeAway).toBeUndefined();
    expect(limit.snapshot().storeAway).toBe(false);
  });

  it("is away, too, when it fails and the call goes on without tokens", async () => {
    const { enter, limit } = rateScene({ store: { take: () => Promise.reject(new Error()) } });
    const call = enter();
    await settled();
    expect(permitOf(call.turns[0] ?? call.entry).storeAway).toBe(
      "the store did not answer, so the call goes on without tokens",
    );
    expect(limit.snapshot().storeAway).toBe(true);
  });

  it("is said nothing of where the tokens are in this process", () => {
    expect(rateScene().limit.snapshot()).not.toHaveProperty("storeAway");
  });
});
