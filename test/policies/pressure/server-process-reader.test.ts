import { performance } from "node:perf_hooks";
import { describe, expect, it } from "vitest";
import { NodeProcessReader } from "../../../src/policies/pressure/server-process-reader.js";

/** Real time: what is read is the process that runs this test. */
function spin(ms: number): void {
  const untilMs = performance.now() + ms;
  while (performance.now() < untilMs);
}
const turn = () => new Promise((resolve) => setTimeout(resolve, 25));

describe("the reader of a Node process", () => {
  it("sees a busy event loop, its delay and the CPU it took, and then the calm", async () => {
    const reader = new NodeProcessReader();
    reader.read();
    await turn();
    reader.read();
    spin(150);
    await turn();
    const busy = reader.read();
    expect(busy.eventLoop).toBeGreaterThan(0.4);
    expect(busy.loopDelayMs).toBeGreaterThan(60);
    expect(busy.cpu).toBeGreaterThan(0);
    for (let step = 0; step < 4; step += 1) await turn();
    expect(reader.read().eventLoop).toBeLessThan(busy.eventLoop);
    reader.close();
  });

  it("sees the delay also where every turn of the loop takes longer than the time between two readings", async () => {
    const reader = new NodeProcessReader();
    reader.read();
    const delays: number[] = [];
    for (let step = 0; step < 4; step += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      spin(60);
      delays.push(reader.read().loopDelayMs);
    }
    reader.close();
    expect(Math.min(...delays)).toBeGreaterThan(30);
  });
});
