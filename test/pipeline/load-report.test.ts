import { Metadata } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { isQueued, isRefusal, type WaitResult } from "../../src/core/permit.js";
import { LoadReport, type ReportedServer } from "../../src/pipeline/load-report.js";
import { Admission, type AdmissionCall } from "../../src/policies/admission/admission.js";
import { resolveAdmissionOptions } from "../../src/policies/admission/options.js";
import { seededRandom } from "../../src/testing/clock/seeded-random.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { createWeir } from "../../src/weir.js";
import { handlers, scene } from "../scene.js";

const limit = 8;

/** A server of 8 slots whose handlers only take their time, and what it reports. */
class Reporting implements ReportedServer {
  tookMs = 40;
  fails = false;
  came = 0;
  refused = 0;
  utilization = 0;
  callsPerSecond = 0;
  readonly #clock: VirtualClock;
  readonly #random: () => number;
  readonly #report: LoadReport;
  readonly #admission: Admission;
  #served = 0;

  constructor(clock: VirtualClock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
    this.#admission = new Admission(resolveAdmissionOptions({ limit }), clock, random);
    const recorder = {
      setApplicationUtilizationMetric: (value: number) => {
        this.utilization = value;
      },
      setQpsMetric: (value: number) => {
        this.callsPerSecond = value;
      },
    };
    this.#report = new LoadReport(recorder, [this], {}, clock, () => {});
  }

  get weight(): number {
    return this.callsPerSecond / this.utilization;
  }

  workAt(nowMs: number) {
    const { limit, taken: _taken, takenMs, shed } = this.#admission.workAt(nowMs);
    return { served: this.#served, shed, takenMs, limit, streams: 0 };
  }

  call(): void {
    this.came += 1;
    const call: AdmissionCall = {
      priority: "normal",
      cohort: 0,
      deadlineMs: this.#clock.now() + 2_000,
      neededMs: 0,
    };
    const run = (turn: WaitResult) => {
      if (isRefusal(turn)) {
        this.refused += 1;
        return;
      }
      this.#clock.schedule(this.tookMs * (0.5 + this.#random()), () => {
        if (!this.fails) this.#served += 1;
        turn.settle(this.fails ? "failure" : "success");
      });
    };
    const entry = this.#admission.enter(call, run);
    if (!isQueued(entry)) run(entry);
  }

  close(): void {
    this.#report.close();
  }
}

/** Three servers and a client that gives each its share by what it reported last, as gRFC A58 has it. */
class Fleet {
  readonly clock = new VirtualClock();
  readonly random: () => number;
  readonly servers: Reporting[];
  readonly #credits: number[] = [0, 0, 0];

  constructor(seed: number) {
    this.random = seededRandom(seed);
    this.servers = [0, 1, 2].map(() => new Reporting(this.clock, this.random));
  }

  restart(index: number): void {
    this.servers[index]?.close();
    this.servers[index] = new Reporting(this.clock, this.random);
  }

  /** So many calls a second come for a while. Answers with how many each server got. */
  async load(callsPerSecond: number, ms: number): Promise<number[]> {
    for (const server of this.servers) server.came = 0;
    const endMs = this.clock.now() + ms;
    for (;;) {
      const gapMs = (-Math.log(1 - this.random()) * 1000) / callsPerSecond;
      if (this.clock.now() + gapMs >= endMs) break;
      await this.clock.pass(gapMs);
      this.#pick().call();
    }
    await this.clock.pass(Math.max(0, endMs - this.clock.now()));
    return this.servers.map(({ came }) => came);
  }

  /** Whoever has the most credit, which each earns by its weight. */
  #pick(): Reporting {
    const weights = this.servers.map(({ weight }) => weight);
    const sum = weights.reduce((total, weight) => total + weight, 0);
    let best = 0;
    for (const [index, weight] of weights.entries()) {
      this.#credits[index] = (this.#credits[index] ?? 0) + weight / sum;
      if ((this.#credits[index] ?? 0) > (this.#credits[best] ?? 0)) best = index;
    }
    this.#credits[best] = (this.#credits[best] ?? 0) - 1;
    const picked = this.servers[best];
    if (picked === undefined) throw new Error("no server");
    return picked;
  }

  close(): void {
    for (const server of this.servers) server.close();
  }
}

const capacity = (3 * limit * 1000) / 40;

describe("a load report", () => {
  it.each([0.05, 0.5, 0.95].flatMap((load) => [1, 2, 3].map((seed) => [load, seed] as const)))(
    "keeps equal servers within 15 %% of each other at a load of %d (seed %d)",
    async (load, seed) => {
      const fleet = new Fleet(seed);
      await fleet.load(load * capacity, 10_000);
      const shares = await fleet.load(load * capacity, 30_000);
      expect(Math.max(...shares) / Math.min(...shares)).toBeLessThan(1.15);
      fleet.close();
    },
  );

  it.each([1, 2, 3])(
    "gives a restarted server its share within three reports, with nothing refused (seed %d)",
    async (seed) => {
      const fleet = new Fleet(seed);
      const callsPerSecond = 0.4 * capacity;
      await fleet.load(callsPerSecond, 10_000);
      for (const index of [0, 1, 2]) {
        fleet.restart(index);
        await fleet.load(callsPerSecond, 3_000);
        const shares = await fleet.load(callsPerSecond, 5_000);
        expect((shares[index] ?? 0) / (callsPerSecond * 5)).toBeGreaterThan(0.9 / 3);
      }
      expect(fleet.servers.map(({ refused }) => refused)).toEqual([0, 0, 0]);
      fleet.close();
    },
  );

  it("gives a server that takes three times as long for each call a third of what the others get", async () => {
    const fleet = new Fleet(4);
    const [slow] = fleet.servers;
    if (slow !== undefined) slow.tookMs = 120;
    await fleet.load(0.3 * capacity, 20_000);
    const [a = 0, b = 0, c = 0] = await fleet.load(0.3 * capacity, 20_000);
    expect(a / b).toBeCloseTo(1 / 3, 1);
    expect(c / b).toBeCloseTo(1, 1);
    fleet.close();
  });

  it("takes calls from a server that serves none, and gives them back when it is well", async () => {
    const fleet = new Fleet(5);
    await fleet.load(0.3 * capacity, 10_000);
    const [bad] = fleet.servers;
    if (bad !== undefined) bad.fails = true;
    await fleet.load(0.3 * capacity, 60_000);
    const [few = 0, many = 1] = await fleet.load(0.3 * capacity, 10_000);
    expect(few / many).toBeGreaterThan(0.02);
    expect(few / many).toBeLessThan(0.1);
    if (bad !== undefined) bad.fails = false;
    await fleet.load(0.3 * capacity, 20_000);
    const [again = 0, other = 1] = await fleet.load(0.3 * capacity, 10_000);
    expect(again / other).toBeGreaterThan(0.85);
    fleet.close();
  });

  it("says less of a server by the share of the calls that it sheds", async () => {
    const clock = new VirtualClock();
    const server = new Reporting(clock, seededRandom(6));
    const callsPerSecond = 2 * (capacity / 3);
    for (let at = 0; at < 20_000; at += 1000 / callsPerSecond) {
      server.call();
      await clock.pass(1000 / callsPerSecond);
    }
    // Half of what comes is refused: half of what it bears.
    expect(server.weight / (capacity / 3)).toBeCloseTo(0.5, 1);
    expect(server.utilization).toBeCloseTo(2, 0);
    server.close();
  });

  it("keeps the weight of a server that has no calls", async () => {
    const fleet = new Fleet(7);
    await fleet.load(0.5 * capacity, 10_000);
    const before = fleet.servers.map(({ weight }) => weight);
    await fleet.clock.pass(120_000);
    for (const [index, { weight, utilization }] of fleet.servers.entries()) {
      expect(weight / (before[index] ?? 1)).toBeCloseTo(1, 1);
      expect(utilization).toBe(0.01);
    }
    fleet.close();
  });

  it("tells how much of its slots a server uses, rising over some seconds, and stops with the weir", async () => {
    const made = await scene({
      client: { retry: false, breaker: false },
      server: { admission: { limit: 2, maxQueued: 0, thresholds: false } },
      handlers: handlers((_call, answer) => void made.clock.schedule(20_000, answer)),
    });
    const { weir, start, clock } = made;
    const values: number[] = [];
    weir.reportLoad({ setApplicationUtilizationMetric: (value) => void values.push(value) });
    await clock.pass(3_000);
    expect(Math.max(...values)).toBe(0.01);
    const calls = [start("unary", {}, new Metadata()), start("unary")];
    await clock.pass(30_000);
    expect(Math.max(...values)).toBeGreaterThan(0.8);
    expect(Math.max(...values)).toBeLessThanOrEqual(1);
    expect(values.filter((value) => value > 0.1 && value < 0.8).length).toBeGreaterThan(5);
    weir.close();
    const told = values.length;
    await clock.pass(5_000);
    expect(values).toHaveLength(told);
    for (const call of calls) call.cancel();
  });

  it("says nothing of what an admission that observes would have refused", async () => {
    const made = await scene({
      client: { retry: false, breaker: false },
      server: { admission: { mode: "observe", limit: 2, maxQueued: 0, thresholds: false } },
      handlers: handlers((_call, answer) => void made.clock.schedule(20_000, answer)),
    });
    const { weir, start, clock } = made;
    const values: number[] = [];
    weir.reportLoad({ setApplicationUtilizationMetric: (value) => void values.push(value) });
    const calls = Array.from({ length: 5 }, () => start("unary"));
    await clock.pass(12_000);
    expect(Math.max(...values)).toBe(0.01);
    for (const call of calls) call.cancel();
    weir.close();
  });

  it("outlives a recorder that throws", async () => {
    const clock = new VirtualClock();
    const errors: string[] = [];
    const weir = createWeir({ clock, onError: (_error, where) => errors.push(where) });
    const recorder = {
      setApplicationUtilizationMetric: () => {
        throw new Error("broken");
      },
    };
    weir.reportLoad(recorder, { intervalMs: 500 });
    await clock.pass(1_000);
    expect(errors).toEqual(Array(3).fill("reportLoad.recorder"));
    weir.close();
    expect(() => weir.reportLoad({} as typeof recorder)).toThrow("reportLoad.recorder");
    expect(() => weir.reportLoad(recorder, { intervalMs: 1 })).toThrow("reportLoad.intervalMs");
  });
});
