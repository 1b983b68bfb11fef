import { Metadata } from "@grpc/grpc-js";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { priorities } from "../../src/core/priority.js";
import {
  previousAttemptsKey,
  priorityKey,
  pushbackKey,
  readPreviousAttempts,
  readPriority,
  readPushback,
  readRetryDepth,
  retryDepthKey,
} from "../../src/grpc/metadata.js";

/** Whatever a peer can put in a header: printable, and also what only a broken peer can send. */
const hostile = fc.oneof(
  fc.string({ maxLength: 30 }),
  fc.string({ unit: "binary", maxLength: 30 }),
  fc.integer({ min: -(2 ** 40), max: 2 ** 40 }).map(String),
  fc.integer({ min: -20, max: 20 }).map((n) => `${n < 0 ? "" : "+"}${n}`),
  fc.double().map(String),
  fc.bigInt().map(String),
  fc.constantFrom(...priorities, "", " ", "1e9", "0x7f", "５", "٣", "1\n", "1\u0000"),
);

/** Metadata as it comes from the wire, where nobody checks what `Metadata.set` checks. */
function fromWire(key: string, values: readonly (string | Buffer)[]): Metadata {
  const metadata = new Metadata();
  metadata.get = (asked) => (asked === key ? [...values] : []);
  return metadata;
}

const values = fc.array(
  fc.oneof(
    { weight: 9, arbitrary: hostile },
    fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
  ),
  { maxLength: 3, size: "max" },
);

const runs = { numRuns: 3_000 };

describe("whatever stands in the metadata", () => {
  it("is read as one of the four priorities only where exactly that stands there", () => {
    fc.assert(
      fc.property(values, (given) => {
        const said = readPriority(fromWire(priorityKey, given));
        const [value] = given;
        const right = given.length === 1 && priorities.some((each) => each === value);
        expect(said).toBe(given.length === 0 ? "absent" : right ? value : "invalid");
      }),
      runs,
    );
  });

  it("is read as pushback of an int32 that is not negative, as stop, or as nothing where nothing stands", () => {
    fc.assert(
      fc.property(values, (given) => {
        const said = readPushback(fromWire(pushbackKey, given));
        if (said === undefined) expect(given).toEqual([]);
        else if (said !== "stop") {
          expect(given).toHaveLength(1);
          expect(String(given[0])).toMatch(/^[+-]?[0-9]+$/);
          expect(said).toBe(Number(given[0]));
          expect(Number.isInteger(said) && said >= 0 && said < 2 ** 31).toBe(true);
        }
      }),
      runs,
    );
  });

  it("is read as a count of four digits at most", () => {
    fc.assert(
      fc.property(values, (given) => {
        for (const [key, read] of [
          [previousAttemptsKey, readPreviousAttempts],
          [retryDepthKey, readRetryDepth],
        ] as const) {
          const said = read(fromWire(key, given));
          expect(Number.isInteger(said) && said >= 0 && said <= 9_999).toBe(true);
          if (said > 0) expect(given.map(Number)).toEqual([said]);
        }
      }),
      runs,
    );
  });

  it("is read back as it was meant where the toolkit wrote it", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), fc.nat(9_999), (ms, count) => {
        const metadata = new Metadata();
        metadata.set(pushbackKey, String(ms));
        metadata.set(previousAttemptsKey, String(count));
        expect(readPushback(metadata)).toBe(ms);
        expect(readPreviousAttempts(metadata)).toBe(count);
      }),
    );
  });
});
