import { describe, expect, it } from "vitest";
import type { Random } from "../../src/core/clock.js";
import { conformance } from "../../src/testing/conformance/conformance.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { casesOf } from "./register.js";

// Over sockets it passes the same cases (`loopback.test.ts`): so far the modelled network agrees with the real one.
describe("grpc-js alone in memory", () => {
  casesOf({}, inMemoryTransport);
});

// Messages of one stream stay in order whatever their delays; of this, the suite must not make a race.
describe.each([1, 2, 3])("grpc-js alone in memory, with delays drawn from seed %i", (seed) => {
  const network = { latencyMs: (random: Random) => 1 + 14 * random() };
  casesOf({}, () => inMemoryTransport({ seed, network }));
});

it("names each case once", () => {
  const names = conformance({}, inMemoryTransport).map((each) => each.name);
  expect(new Set(names).size).toBe(names.length);
});
