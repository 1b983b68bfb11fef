import { AsyncLocalStorage } from "node:async_hooks";
import { nextTick } from "node:process";
import { describe, expect, it } from "vitest";
import { Network } from "../../src/lab/network.js";
import { LabProcess, LabProcessReader } from "../../src/lab/process.js";
import { World } from "../../src/lab/world.js";

function scene() {
  const world = new World();
  const process = new LabProcess(world, "one");
  const told: string[] = [];
  const tell = (what: string) => told.push(`${what} at ${process.now()}`);
  return { world, process, told, tell };
}

describe("a process of the lab", () => {
  it("runs timers when they are due, those of the same time in the order in which they were set", async () => {
    const { world, process, told, tell } = scene();
    process.schedule(20, () => tell("second"));
    process.schedule(10, () => tell("first"));
    process.schedule(20, () => tell("third"));
    process.schedule(15, () => tell("cancelled"))();
    await world.run(100);
    expect(told).toEqual(["first at 10", "second at 20", "third at 20"]);
  });

  it("counts timers in whole milliseconds, and at least one, as Node does", async () => {
    const { world, process, told, tell } = scene();
    process.deliver(0.7, () => {
      process.schedule(0, () => tell("none"));
      process.schedule(2.9, () => tell("two"));
    });
    await world.run(100);
    expect(told).toEqual(["none at 1", "two at 2"]);
  });

  it("fires timers late and reads input late while it is busy", async () => {
    const { world, process, told, tell } = scene();
    process.deliver(10, () => {
      tell("work begins");
      process.spend(50);
    });
    process.schedule(20, () => tell("timer"));
    process.deliver(30, () => tell("input"));
    await world.run(100);
    expect(told).toEqual(["work begins at 10", "timer at 60", "input at 60"]);
  });

  it("stops when its quota of CPU is used up, until the next period", async () => {
    const { world, process, told, tell } = scene();
    process.quota = { periodMs: 100, cpuMs: 30 };
    process.deliver(10, () => {
      process.spend(50);
      tell("first");
    });
    process.deliver(20, () => {
      process.spend(10);
      tell("second");
    });
    process.deliver(350, () => {
      process.spend(5);
      tell("third");
    });
    await world.run(500);
    // 30 ms from 10 on, 20 ms from 100 on, and the last 10 ms of that period, whose end it waits for.
    expect(told).toEqual(["first at 120", "second at 200", "third at 355"]);
    expect(process.cpuMs).toBe(65);
  });

  it("pays more for everything while its code is not compiled", async () => {
    const { world, process, told, tell } = scene();
    process.costFactor = 3;
    process.deliver(10, () => {
      process.spend(5);
      tell("cold");
      process.costFactor = 1;
      process.spend(5);
      tell("warm");
    });
    await world.run(100);
    expect(told).toEqual(["cold at 25", "warm at 30"]);
    expect(process.cpuMs).toBe(20);
  });

  it("pays more for its first calls where its code is not compiled, and less with each of them", async () => {
    const world = new World();
    const process = new LabProcess(world, "server", { coldCalls: { calls: 4, extraMs: 8 } });
    const costs: number[] = [];
    process.deliver(10, () => {
      for (let call = 0; call < 6; call += 1) {
        const beforeMs = process.cpuMs;
        process.beginCall();
        costs.push(process.cpuMs - beforeMs);
      }
    });
    await world.run(100);
    expect(costs).toEqual([8, 6, 4, 2, 0, 0]);
  });

  it("measures time by a clock that nobody sets, and dates by one that somebody does", () => {
    const { process } = scene();
    const before = process.wallNow();
    process.stepClock(-5_000);
    expect([process.now(), process.wallNow() - before]).toEqual([0, -5_000]);
  });

  it("adds the costs of the pieces of its work", async () => {
    const { world, process, told, tell } = scene();
    for (const name of ["a", "b", "c"]) {
      process.deliver(10, () => {
        tell(name);
        process.spend(2);
        process.spend(3);
      });
    }
    await world.run(100);
    expect(told).toEqual(["a at 10", "b at 15", "c at 20"]);
    expect(process.busyMs).toBe(15);
  });

  it("runs due timers before it reads input, when it was busy with the check phase", async () => {
    const { world, process, told, tell } = scene();
    process.afterPoll(() => process.spend(50));
    process.deliver(20, () => tell("input"));
    process.schedule(30, () => tell("timer"));
    await world.run(100);
    expect(told).toEqual(["timer at 50", "input at 50"]);
  });

  it("reads what arrives while it reads in the next turn, after timers that became due", async () => {
    const { world, process, told, tell } = scene();
    process.deliver(10, () => {
      tell("first");
      process.spend(20);
    });
    process.deliver(15, () => tell("later input"));
    process.schedule(12, () => tell("timer"));
    await world.run(100);
    expect(told).toEqual(["first at 10", "timer at 30", "later input at 30"]);
  });

  it("runs what is queued after the poll only when the input that has arrived was read", async () => {
    const { world, process, told, tell } = scene();
    process.schedule(10, () => {
      process.spend(20);
      process.afterPoll(() => tell("after the poll"));
    });
    process.deliver(25, () => tell("input"));
    await world.run(100);
    expect(told).toEqual(["input at 30", "after the poll at 30"]);
  });

  it("runs a task that is queued in the check phase after another poll", async () => {
    const { world, process, told, tell } = scene();
    process.afterPoll(() => {
      process.spend(10);
      process.afterPoll(() => tell("second"));
      process.afterPoll(() => tell("cancelled"))();
    });
    process.deliver(5, () => tell("input"));
    await world.run(100);
    expect(told).toEqual(["input at 10", "second at 10"]);
  });

  it("sends all of a turn together, when the input that has arrived was read", async () => {
    const { world, process, told, tell } = scene();
    for (const name of ["first", "second"]) {
      process.deliver(10, () => {
        process.send(() => tell(`${name} answer`));
        process.spend(20);
      });
    }
    process.deliver(15, () => {
      process.send(() => tell("third answer"));
      process.spend(5);
    });
    await world.run(100);
    expect(told).toEqual(["first answer at 50", "second answer at 50", "third answer at 55"]);
  });

  it("counts what a piece of work queues with nextTick and promises as its own", async () => {
    const { world, process, told, tell } = scene();
    process.deliver(10, () => {
      process.spend(1);
      nextTick(() => {
        process.spend(2);
        void Promise.resolve().then(() => {
          tell("promise");
          process.spend(3);
        });
      });
    });
    process.deliver(10, () => tell("next"));
    await world.run(100);
    expect(told).toEqual(["promise at 13", "next at 16"]);
  });

  it("is late with everything after a garbage collection", async () => {
    const { world, process, told, tell } = scene();
    world.at(10, () => process.block(200));
    process.schedule(50, () => tell("timer"));
    process.deliver(60, () => tell("input"));
    await world.run(1_000);
    expect(told).toEqual(["timer at 210", "input at 210"]);
  });

  it("collects garbage after the piece of work that runs", async () => {
    const { world, process, told, tell } = scene();
    process.deliver(10, () => process.spend(20));
    world.at(15, () => process.block(100));
    process.deliver(20, () => tell("input"));
    await world.run(1_000);
    expect(told).toEqual(["input at 130"]);
  });

  it("takes longer for its work while others use the CPU", async () => {
    const { world, process } = scene();
    process.cpuShare = 0.5;
    process.deliver(10, () => process.spend(10));
    await world.run(100);
    expect([process.busyMs, process.cpuMs]).toEqual([20, 10]);
  });

  it("loses timers, input and work when it is killed", async () => {
    const { world, process, told, tell } = scene();
    process.schedule(50, () => tell("timer"));
    process.deliver(50, () => tell("input"));
    world.at(20, () => {
      process.afterPoll(() => tell("immediate"));
      process.kill();
      process.schedule(1, () => tell("timer of a dead process"));
      process.deliver(30, () => tell("input of a dead process"));
    });
    await world.run(100);
    expect(told).toEqual([]);
    expect(process.alive).toBe(false);
  });

  it("runs timers in the async context in which they were set", async () => {
    const { world, process } = scene();
    const storage = new AsyncLocalStorage<string>();
    const seen: (string | undefined)[] = [];
    storage.run("call", () => {
      process.schedule(10, () => seen.push(storage.getStore()));
      process.afterPoll(() => seen.push(storage.getStore()));
    });
    process.deliver(20, () => seen.push(storage.getStore()));
    await world.run(100);
    expect(seen).toEqual(["call", "call", undefined]);
  });

  it("has a wall clock that goes with its own time", () => {
    const process = new LabProcess(new World(), "one", { wallStartMs: 1_000 });
    process.spend(5);
    expect([process.now(), process.wallNow()]).toEqual([5, 1_005]);
  });
});

describe("the reader of a process", () => {
  it("reads how busy the event loop was since the reading before, and how late its timers were", async () => {
    const { world, process } = scene();
    const reader = new LabProcessReader(process);
    const readings: unknown[] = [];
    process.schedule(100, () => readings.push(reader.read()));
    process.deliver(150, () => process.spend(50));
    process.schedule(300, () => readings.push(reader.read()));
    await world.run(1_000);
    reader.close();
    expect(readings).toEqual([
      { eventLoop: 0, loopDelayMs: 0, cpu: 0, memory: 0.3 },
      { eventLoop: 0.25, loopDelayMs: 40, cpu: 0.25, memory: 0.3 },
    ]);
  });
});

describe("the world", () => {
  it("runs the work of each process in its own time, though another one is busy", async () => {
    const world = new World();
    const told: string[] = [];
    const [busy, idle] = [new LabProcess(world, "busy"), new LabProcess(world, "idle")];
    busy.deliver(10, () => busy.spend(100));
    for (const process of [busy, idle]) {
      process.deliver(20, () => told.push(`${process.name} at ${process.now()}`));
    }
    await world.run(1_000);
    expect(told).toEqual(["idle at 20", "busy at 110"]);
  });

  it("rejects with what a piece of work throws", async () => {
    const { world, process } = scene();
    process.deliver(10, () => {
      throw new Error("broken");
    });
    await expect(world.run(100)).rejects.toThrow("broken");
  });

  it("stops at the time that it is given, and goes on from there", async () => {
    const { world, process, told, tell } = scene();
    process.schedule(50, () => tell("timer"));
    await world.run(49);
    expect([world.nowMs, told]).toEqual([49, []]);
    await world.run(50);
    expect(told).toEqual(["timer at 50"]);
  });

  it("draws the same chance from the same seed, and other chance for each process", () => {
    const draws = (seed: number) => {
      const world = new World(seed);
      const processes = [new LabProcess(world, "a"), new LabProcess(world, "b")];
      return [world.random(), ...processes.map(({ random }) => random())];
    };
    expect(draws(1)).toEqual(draws(1));
    expect(new Set([...draws(1), ...draws(2)]).size).toBe(6);
  });

  it("does not run twice at once", async () => {
    const world = new World();
    const run = world.run(10);
    expect(() => world.run(20)).toThrow("running already");
    await run;
  });
});

describe("the network", () => {
  it("refuses a connection where nobody listens, after a round trip", async () => {
    const world = new World();
    const network = new Network(world, { latencyMs: 2 });
    const client = new LabProcess(world, "client");
    const told: string[] = [];
    client.schedule(10, () =>
      network.connect(
        client,
        "nowhere:1",
        (connection) => told.push(`${typeof connection} at ${client.now()}`),
        () => {},
      ),
    );
    await world.run(100);
    expect(told).toEqual(["undefined at 14"]);
  });
});
