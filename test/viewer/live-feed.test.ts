import { Writable } from "node:stream";
import { VirtualClock } from "grpc-weir/testing";
import { describe, expect, it } from "vitest";
import type { BoardPoint, LiveCalls } from "../../src/viewer/api.js";
import { LiveFeed } from "../../src/viewer/live-feed.js";
import { rowOf } from "./scene.js";

function setup() {
  const clock = new VirtualClock();
  const live = new LiveFeed(clock);
  return {
    clock,
    live,
    /** A page that listens, and takes what it is sent or not. */
    listen: ({ takes = true } = {}) => {
      let text = "";
      const page = new Writable({
        decodeStrings: false,
        write(chunk: string, _encoding, done) {
          text += chunk;
          if (takes) done();
        },
      });
      live.add(page);
      const events = <T>(name: string) =>
        [...text.matchAll(/event: (\w+)\ndata: (.*)\n\n/g)]
          .filter(([, event]) => event === name)
          .map(([, , data = ""]): T => JSON.parse(data));
      return { page, text: () => text, events };
    },
  };
}

const point: BoardPoint = {
  atMs: 1,
  goodput: {},
  failures: 0,
  refusals: {},
  p50Ms: null,
  p99Ms: null,
  queue: {},
  limit: {},
  running: {},
  breakers: {},
};

describe("calls", () => {
  it("are told four times a second, together", () => {
    const { clock, live, listen } = setup();
    const { events } = listen();
    live.call(rowOf({ trace: 1 }));
    clock.advance(100);
    live.call(rowOf({ trace: 2 }));
    expect(events("calls")).toEqual([]);
    clock.advance(150);
    live.call(rowOf({ trace: 3 }));
    clock.advance(250);
    expect(events<LiveCalls>("calls").map(({ calls }) => calls.length)).toEqual([2, 1]);
  });

  it("are at most 200 at a time, and the others are counted", () => {
    const { clock, live, listen } = setup();
    const { events } = listen();
    for (let trace = 1; trace <= 1_000; trace += 1) live.call(rowOf({ trace }));
    clock.advance(250);
    live.call(rowOf({ trace: 1_001 }));
    clock.advance(250);
    expect(events<LiveCalls>("calls").map(({ calls, skipped }) => [calls.length, skipped])).toEqual(
      [
        [200, 800],
        [1, 0],
      ],
    );
  });

  it("from before a page listened are not told", () => {
    const { clock, live, listen } = setup();
    live.call(rowOf({}));
    const { events } = listen();
    clock.advance(1_000);
    expect(events("calls")).toEqual([]);
  });
});

describe("a page", () => {
  it("is told to come back after a second when its connection breaks", () => {
    expect(setup().listen().text()).toBe("retry: 1000\n\n");
  });

  it("is told each point of the board at once", () => {
    const { live, listen } = setup();
    const { events } = listen();
    live.points([point, { ...point, atMs: 2 }]);
    expect(events<BoardPoint>("board").map(({ atMs }) => atMs)).toEqual([1, 2]);
  });

  it("that does not take what it is sent is dropped, after a megabyte", () => {
    const { clock, live, listen } = setup();
    const slow = listen({ takes: false });
    const quick = listen();
    let seconds = 0;
    for (; live.listeners === 2 && seconds < 1_000; seconds += 1) {
      for (let trace = 1; trace <= 200; trace += 1) live.call(rowOf({ trace }));
      clock.advance(250);
    }
    expect(slow.page.destroyed).toBe(true);
    expect(slow.page.writableLength).toBeLessThan(1_200_000);
    expect(live.listeners).toBe(1);
    expect(quick.events<LiveCalls>("calls")).toHaveLength(seconds);
  });

  it("that went away is forgotten", async () => {
    const { live, listen } = setup();
    const { page } = listen();
    const closed = new Promise((resolve) => page.once("close", resolve));
    page.destroy();
    await closed;
    expect(live.listeners).toBe(0);
  });

  it("is one of 32 at most", () => {
    const { live, listen } = setup();
    for (let pages = 0; pages < 32; pages += 1) listen();
    expect(live.full).toBe(true);
  });

  it("is let go at the end", () => {
    const { clock, live, listen } = setup();
    const { page, events } = listen();
    live.call(rowOf({}));
    live.close();
    clock.advance(1_000);
    expect(page.writableEnded).toBe(true);
    expect(events("calls")).toEqual([]);
  });
});
