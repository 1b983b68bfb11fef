import { describe, expect, it } from "vitest";
import { Dependency } from "../../src/lab/dependency.js";
import { LabProcess } from "../../src/lab/process.js";
import { World } from "../../src/lab/world.js";

function scene(size: number) {
  const world = new World();
  const process = new LabProcess(world, "server");
  // Each piece of work takes exactly 10 ms.
  Object.defineProperty(world, "random", { value: () => 0.5 });
  const dependency = new Dependency(world, size, 10);
  const done: number[] = [];
  const work = (count: number) => {
    for (let index = 0; index < count; index += 1) {
      dependency.work(process, () => done.push(process.now()));
    }
  };
  return { world, process, dependency, done, work };
}

describe("a dependency", () => {
  it("does so much at a time, and the rest in its order", async () => {
    const { world, done, work } = scene(2);
    work(5);
    await world.run(100);
    expect(done).toEqual([10, 10, 20, 20, 30]);
  });

  it("gives the place of work that is taken back to the next, and tells nobody", async () => {
    const { world, process, done, dependency, work } = scene(1);
    const first = dependency.work(process, () => done.push(-1));
    const second = dependency.work(process, () => done.push(-2));
    work(2);
    const taken: boolean[] = [];
    process.deliver(5, () => taken.push(first(), second(), second()));
    await world.run(100);
    expect(done).toEqual([15, 25]);
    expect([...taken, first()]).toEqual([true, true, false, false]);
  });

  it("is a mere delay where it has no size", async () => {
    const { world, done, work } = scene(Number.POSITIVE_INFINITY);
    work(3);
    await world.run(100);
    expect(done).toEqual([10, 10, 10]);
  });

  it("works on while the process is busy, which reads the answers late", async () => {
    const { world, process, done, work } = scene(1);
    work(3);
    process.spend(25);
    await world.run(100);
    expect(done).toEqual([25, 25, 30]);
  });

  it("is slow for work that begins while it is slow", async () => {
    const { world, dependency, done, work } = scene(1);
    work(2);
    world.at(5, () => {
      dependency.factor = 3;
    });
    await world.run(100);
    expect(done).toEqual([10, 40]);
  });

  it("ends nothing while it hangs, and all that is due when it no longer does", async () => {
    const { world, dependency, done, work } = scene(2);
    work(5);
    world.at(5, () => dependency.hang());
    world.at(50, () => dependency.resume());
    await world.run(200);
    expect(done).toEqual([50, 50, 60, 60, 70]);
  });
});
