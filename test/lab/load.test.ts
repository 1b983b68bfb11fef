import { Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { ClientRequest, RequestEnd } from "../../src/lab/client.js";
import { type LoadOptions, type LoadPhase, Users } from "../../src/lab/load.js";
import { LabProcess } from "../../src/lab/process.js";
import { Tally } from "../../src/lab/tally.js";
import { World } from "../../src/lab/world.js";

const ok: StatusObject = { code: status.OK, details: "", metadata: new Metadata() };
const broken: StatusObject = { code: status.INTERNAL, details: "", metadata: new Metadata() };

async function callsOf(
  options: Partial<LoadOptions>,
  phases: readonly LoadPhase[],
  answer: StatusObject | undefined = ok,
) {
  const world = new World(7);
  const process = new LabProcess(world, "client");
  const made: { readonly call: ClientRequest; readonly atMs: number }[] = [];
  const request = (call: ClientRequest, ended: RequestEnd) => {
    made.push({ call, atMs: process.now() });
    if (answer !== undefined) process.schedule(10, () => ended(answer, undefined));
  };
  const tally = new Tally(phases.map(({ ms }, index) => ({ name: `phase ${index}`, ms })));
  const load = { perSecond: 1_000, deadlineMs: 100, ...options };
  const caller = { request };
  new Users({ world, options: load, clients: 1, process, caller, tally, phases }).start();
  await world.run(60_000);
  return { made, phases: tally.report() };
}

describe("users", () => {
  it("make as many calls as they are said to, in each phase", async () => {
    const { made, phases } = await callsOf({}, [
      { ms: 10_000, load: 1 },
      { ms: 5_000, load: 3 },
    ]);
    const early = made.filter(({ atMs }) => atMs < 10_000).length;
    expect(Math.abs(early - 10_000)).toBeLessThan(400);
    expect(Math.abs(made.length - early - 15_000)).toBeLessThan(500);
    expect(phases.map(({ sent, good }) => [sent, good])).toEqual([
      [early, early],
      [made.length - early, made.length - early],
    ]);
  });

  it("do not wait for an answer before the next call", async () => {
    const { made } = await callsOf({}, [{ ms: 1_000, load: 1 }], undefined);
    expect(made.length).toBeGreaterThan(900);
  });

  it("have priorities and methods by their shares, and a deadline", async () => {
    const { made } = await callsOf({ methods: ["lab.Service/A", "lab.Service/B"] }, [
      { ms: 10_000, load: 1 },
    ]);
    const share = (test: (call: ClientRequest) => boolean) =>
      made.filter(({ call }) => test(call)).length / made.length;
    const priority = ({ metadata }: ClientRequest) => metadata?.get("x-request-priority")[0];
    expect(share((call) => priority(call) === "critical")).toBeCloseTo(0.1, 1);
    expect(share((call) => priority(call) === "low")).toBeCloseTo(0.2, 1);
    expect(share(({ method }) => method === "lab.Service/A")).toBeCloseTo(0.5, 1);
    const [first] = made;
    expect((first?.call.deadline ?? 0) - 1_750_000_000_000 - (first?.atMs ?? 0)).toBeCloseTo(100);
  });

  it("press reload when a call has failed, as often as they are said to", async () => {
    const reload = { share: 0.5, afterMs: 100, times: 2 };
    const phases = [{ ms: 10_000, load: 1 }];
    const failing = await callsOf({ reload }, phases, broken);
    const calm = await callsOf({ reload }, phases);
    expect(Math.abs(calm.made.length - 10_000)).toBeLessThan(400);
    expect(failing.made.length / calm.made.length).toBeCloseTo(2, 1);
  });
});
