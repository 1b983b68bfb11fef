import { Metadata } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
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

function metadata(key: string, ...values: string[]): Metadata {
  const made = new Metadata();
  for (const value of values) made.add(key, value);
  return made;
}

const huge = "9".repeat(100_000);

describe("the priority of a request", () => {
  it.each(["critical", "high", "normal", "low"])("is %s as it is written", (value) => {
    expect(readPriority(metadata(priorityKey, value))).toBe(value);
  });

  it("is absent where nothing is said", () => {
    expect(readPriority(new Metadata())).toBe("absent");
  });

  it.each([
    "",
    " ",
    "CRITICAL",
    "Critical",
    " critical",
    "critical ",
    "critical,low",
    "critical, critical",
    "CRITICAL_PLUS",
    "SHEDDABLE",
    "0",
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    huge,
  ])("is invalid for %j", (value) => {
    expect(readPriority(metadata(priorityKey, value))).toBe("invalid");
  });

  it("is invalid when it is said twice, even twice the same", () => {
    expect(readPriority(metadata(priorityKey, "high", "low"))).toBe("invalid");
    expect(readPriority(metadata(priorityKey, "high", "high"))).toBe("invalid");
  });
});

describe("the pushback of a server", () => {
  it.each([
    ["0", 0],
    ["1", 1],
    ["250", 250],
    ["+250", 250],
    ["007", 7],
    ["2147483647", 2_147_483_647],
  ])("is the exact wait for %j", (value, ms) => {
    expect(readPushback(metadata(pushbackKey, value))).toBe(ms);
  });

  it("is nothing where nothing is said", () => {
    expect(readPushback(new Metadata())).toBeUndefined();
  });

  it.each([
    "",
    " ",
    "-1",
    "-9223372036854775808",
    "2147483648",
    "4294967296",
    "99999999999",
    "1.5",
    "1e3",
    "0x10",
    "0b1",
    "1_000",
    "1,000",
    "1s",
    "1 ",
    " 1",
    "1 2",
    "5, 5",
    "+",
    "-",
    "++1",
    "NaN",
    "Infinity",
    "null",
    "stop",
    huge,
  ])("is stop for %j", (value) => {
    expect(readPushback(metadata(pushbackKey, value))).toBe("stop");
  });

  it("is stop when it is said twice", () => {
    expect(readPushback(metadata(pushbackKey, "5", "5"))).toBe("stop");
  });

  it("is a wait, and never a negative one, for a zero of any sign", () => {
    for (const zero of ["0", "+0", "-0"]) {
      const told = readPushback(metadata(pushbackKey, zero));
      expect(told === "stop" || Object.is(told, 0)).toBe(true);
    }
  });
});

describe.each([
  ["how many attempts came before", previousAttemptsKey, readPreviousAttempts],
  ["how many services above retry", retryDepthKey, readRetryDepth],
] as const)("%s", (_what, key, read) => {
  it.each([
    ["1", 1],
    ["0", 0],
    ["42", 42],
    ["9999", 9_999],
    ["0003", 3],
  ])("is read from %j", (value, count) => {
    expect(read(metadata(key, value))).toBe(count);
  });

  it.each(["", " ", "-1", "+1", "1.0", "1e1", "0x1", "1 ", "1,1", "1, 1", "99999", "x", huge])(
    "is none for %j",
    (value) => {
      expect(read(metadata(key, value))).toBe(0);
    },
  );

  it("is none when it is said twice, or not at all", () => {
    expect(read(metadata(key, "1", "2"))).toBe(0);
    expect(read(new Metadata())).toBe(0);
  });
});
