import { describe, expect, it } from "vitest";
import { connecting, SeenEvents } from "../../src/core/seen-events.js";

describe("an event that ends many calls", () => {
  it("is known once one of them has told of it, until the next attempt to connect", () => {
    const heard = new SeenEvents();
    expect(heard.isKnown({ event: "refused" }, 0)).toBe(false);
    expect(heard.isKnown({ event: "refused" }, 1_199)).toBe(true);
    expect(heard.isKnown({ event: "another" }, 1_199)).toBe(false);
    expect(heard.isKnown({ event: "refused" }, 1_200)).toBe(false);
    expect(heard.isKnown({ event: "refused" }, 1_200)).toBe(true);
  });

  it("is known for longer each time, as attempts to connect are further apart, up to 144 s", () => {
    const heard = new SeenEvents();
    const knownForMs: number[] = [];
    let sinceMs = 0;
    heard.isKnown({ event: "refused" }, 0);
    for (let nowMs = 1; knownForMs.length < 14; nowMs += 1) {
      if (heard.isKnown({ event: "refused" }, nowMs)) continue;
      knownForMs.push(nowMs - sinceMs);
      sinceMs = nowMs;
    }
    expect(knownForMs.slice(0, 4)).toEqual([1_200, 1_920, 3_072, 4_916]);
    expect(knownForMs.slice(-2)).toEqual([144_000, 144_000]);
  });

  it("is another one after a call was served", () => {
    const heard = new SeenEvents();
    heard.isKnown({ event: "refused" }, 0);
    heard.forget();
    expect(heard.isKnown({ event: "refused" }, 1)).toBe(false);
  });

  it("is no event where the end of a call tells of none", () => {
    const heard = new SeenEvents();
    for (const ending of [undefined, {}]) {
      expect(heard.isKnown(ending, 0)).toBe(false);
      expect(heard.isKnown(ending, 0)).toBe(false);
    }
  });

  it("that is a connect under way is known until that attempt has ended", () => {
    const heard = new SeenEvents();
    expect(heard.isKnown({ event: connecting }, 0)).toBe(false);
    expect(heard.isKnown({ event: connecting }, 1e9)).toBe(true);
    expect(heard.isKnown({ event: "refused" }, 1e9)).toBe(false);
    expect(heard.isKnown({ event: connecting }, 1e9)).toBe(false);
  });

  it("is forgotten first of those heard of first, when there are more than 16", () => {
    const heard = new SeenEvents();
    for (let name = 0; name < 16; name += 1) heard.isKnown({ event: `${name}` }, 0);
    expect(heard.isKnown({ event: "0" }, 1)).toBe(true);
    heard.isKnown({ event: "16" }, 1);
    expect(heard.isKnown({ event: "1" }, 1)).toBe(true);
    expect(heard.isKnown({ event: "0" }, 1)).toBe(false);
  });
});
