import { describe, expect, it } from "vitest";
import { subsetOf } from "../../src/lab/subset.js";

describe("a subset of the servers", () => {
  it("is all of them, from another one on for each client, where it is as large", () => {
    expect(subsetOf(0, 3, 3)).toEqual([0, 1, 2]);
    expect(subsetOf(4, 3, 3)).toEqual([1, 2, 0]);
  });

  it("is the same each time, and has no server twice", () => {
    const subset = subsetOf(17, 200, 20);
    expect(subsetOf(17, 200, 20)).toEqual(subset);
    expect(new Set(subset).size).toBe(20);
    expect(subset.every((server) => server >= 0 && server < 200)).toBe(true);
  });

  it("shares all servers among as many clients as there are subsets", () => {
    for (const round of [0, 1, 7]) {
      const taken = Array.from({ length: 10 }, (_, place) => subsetOf(10 * round + place, 200, 20));
      expect(new Set(taken.flat()).size).toBe(200);
    }
  });

  it("is another one in each round, so that servers do not always share the same clients", () => {
    expect(subsetOf(0, 200, 20)).not.toEqual(subsetOf(10, 200, 20));
  });

  it("gives all servers about the same number of clients, where subsets do not divide them", () => {
    const clients = Array.from({ length: 50 }, () => 0);
    for (let client = 0; client < 1_400; client += 1) {
      for (const server of subsetOf(client, 50, 7)) clients[server] = (clients[server] ?? 0) + 1;
    }
    // 196 on average. One server of 50 has no client in each round.
    expect(Math.min(...clients)).toBeGreaterThan(180);
    expect(Math.max(...clients)).toBeLessThanOrEqual(200);
  });
});
