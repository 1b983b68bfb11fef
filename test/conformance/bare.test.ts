import { describe, expect, it } from "vitest";
import type { Random } from "../../src/core/random.js";
import { conformance } from "../../src/testing/conformance.js";
import { inMemoryTransport } from "../../src/testing/in-memory.js";
import { loopbackTransport } from "../../src/testing/loopback.js";

// What grpc-js alone does not hold to, the suite must not ask of anybody.
describe("grpc-js alone over loopback", () => {
  for (const each of conformance({}, loopbackTransport)) it(each.name, () => each.run());
});

// The same cases by the same names: where the modelled network passes, it agrees with the real one.
describe("grpc-js alone in memory", () => {
  for (const each of conformance({}, inMemoryTransport)) it(each.name, () => each.run());
});

// Messages of one stream stay in order whatever their delays; of this, the suite must not make a race.
describe.each([1, 2, 3])("grpc-js alone in memory, with delays drawn from seed %i", (seed) => {
  const network = { latencyMs: (random: Random) => 1 + 14 * random() };
  const delayed = () => inMemoryTransport({ seed, network });
  for (const each of conformance({}, delayed)) it(each.name, () => each.run());
});

it("names each case once", () => {
  const names = conformance({}, loopbackTransport).map((each) => each.name);
  expect(new Set(names).size).toBe(names.length);
});
