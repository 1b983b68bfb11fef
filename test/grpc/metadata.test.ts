import { Metadata } from "@grpc/grpc-js";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  admissionKey,
  formatAdmission,
  readAdmission,
  withAdmission,
} from "../../src/grpc/metadata.js";

function trailers(...values: string[]): Metadata {
  const metadata = new Metadata();
  for (const value of values) metadata.add(admissionKey, value);
  return metadata;
}

describe("the admission level in trailers", () => {
  it.each([
    ["v=1;level=3;ttl-ms=1000", { level: 3, ttlMs: 1_000 }],
    ["v=1;level=2.64;ttl-ms=500;pressure=0.82", { level: 2.64, ttlMs: 500 }],
    ["v=1;ttl-ms=1;level=4", { level: 4, ttlMs: 1 }],
    ["pressure=0.1;level=1.0001;v=1;ttl-ms=2000", { level: 1.0001, ttlMs: 2_000 }],
    ["v=1;level=3;ttl-ms=600000", { level: 3, ttlMs: 2_000 }],
  ])("reads %s, and believes nobody for more than two seconds", (value, expected) => {
    expect(readAdmission(trailers(value))).toEqual(expected);
  });

  it("is absent where nothing is said", () => {
    expect(readAdmission(new Metadata())).toBeUndefined();
  });

  it.each([
    "",
    " ",
    "3",
    "v=1",
    "v=1;level=3",
    "level=3;ttl-ms=1000",
    "v=2;level=3;ttl-ms=1000",
    "v=1;level=0;ttl-ms=1000",
    "v=1;level=0.99;ttl-ms=1000",
    "v=1;level=-3;ttl-ms=1000",
    "v=1;level=4.1;ttl-ms=1000",
    "v=1;level=1e0;ttl-ms=1000",
    "v=1;level=NaN;ttl-ms=1000",
    "v=1;level=3.;ttl-ms=1000",
    "v=1;level=3.00000;ttl-ms=1000",
    "v=1;level=3;ttl-ms=0",
    "v=1;level=3;ttl-ms=-1",
    "v=1;level=3;ttl-ms=1.5",
    "v=1;level=3;ttl-ms=1000000",
    "v=1;level=3;ttl-ms=1000;",
    ";v=1;level=3;ttl-ms=1000",
    "v=1;;level=3;ttl-ms=1000",
    "v=1; level=3; ttl-ms=1000",
    "v=1;level=3;level=1;ttl-ms=1000",
    "v=1;level=3;ttl-ms=1000;__proto__=1",
    "v=1;level=3;ttl-ms=1000;x",
    "v=1;level=3;ttl-ms=1000;x=",
    "V=1;LEVEL=3;TTL-MS=1000",
    `v=1;level=3;ttl-ms=1000;x=${"9".repeat(33)}`,
    `v=1;level=3;ttl-ms=1000${";a=1".repeat(100_000)}`,
    "9".repeat(1_000_000),
  ])("is absent for %.60j", (value) => {
    const metadata = new Metadata();
    metadata.get = () => [value];
    expect(readAdmission(metadata)).toBeUndefined();
  });

  it("is absent when it is said twice, even twice the same", () => {
    const said = "v=1;level=3;ttl-ms=1000";
    expect(readAdmission(trailers(said, said))).toBeUndefined();
  });

  it("reads what it writes", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.constantFrom(1, 2, 3, 4),
          fc.integer({ min: 100, max: 399 }).map((n) => n / 100),
        ),
        fc.integer({ min: 1, max: 2_000 }),
        (level, ttlMs) => {
          expect(readAdmission(trailers(formatAdmission({ level, ttlMs })))).toEqual({
            level,
            ttlMs,
          });
        },
      ),
    );
  });

  it("reads nothing else than levels that may refuse and short times out of whatever stands there", () => {
    const part = fc.oneof(
      fc.constantFrom("v=1", "v=2", "level=3", "level=2.5", "ttl-ms=100", "ttl-ms=99999", ""),
      fc.tuple(fc.constantFrom("v", "level", "ttl-ms", "x"), fc.string()).map((p) => p.join("=")),
      fc.string({ unit: "binary" }),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
        const metadata = new Metadata();
        metadata.get = () => [parts.join(";")];
        const said = readAdmission(metadata);
        if (said === undefined) return;
        expect(said.level).toBeGreaterThanOrEqual(1);
        expect(said.level).toBeLessThanOrEqual(4);
        expect(said.ttlMs).toBeGreaterThan(0);
        expect(said.ttlMs).toBeLessThanOrEqual(2_000);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("the trailers of an answer", () => {
  const said = "v=1;level=3;ttl-ms=1000";

  it("are left as they are while there is nothing to say", () => {
    const given = new Metadata();
    expect(withAdmission(given, undefined)).toBe(given);
    expect(withAdmission(undefined, undefined)).toBeUndefined();
  });

  it("carry the server's level, in an object of their own", () => {
    const given = new Metadata();
    given.set("x-mine", "1");
    const sent = withAdmission(given, said);
    expect(sent?.getMap()).toEqual({ "x-mine": "1", [admissionKey]: said });
    expect(given.getMap()).toEqual({ "x-mine": "1" });
    expect(withAdmission(undefined, said)?.getMap()).toEqual({ [admissionKey]: said });
  });

  it("do not carry the level of a service below", () => {
    const given = trailers("v=1;level=1;ttl-ms=2000");
    expect(withAdmission(given, undefined)?.getMap()).toEqual({});
    expect(withAdmission(given, said)?.getMap()).toEqual({ [admissionKey]: said });
    expect(given.get(admissionKey)).toEqual(["v=1;level=1;ttl-ms=2000"]);
  });
});
