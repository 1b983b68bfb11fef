import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { FailuresBelow } from "../../../src/grpc/status/relay.js";

describe("waits that services below have asked for", () => {
  const asking = (count: number) => {
    const failures = new FailuresBelow();
    for (let ms = 1; ms <= count; ms += 1) {
      const metadata = new Metadata();
      metadata.set("grpc-retry-pushback-ms", String(ms));
      failures.note({ code: Status.UNAVAILABLE, details: "", metadata });
    }
    return failures;
  };

  it("are known one by one", () => {
    const failures = asking(16);
    expect([0, 1, 16, 17].map((ms) => failures.askedFor(ms))).toEqual([false, true, true, false]);
  });

  it("may be any, when there were more than are remembered", () => {
    expect(asking(17).askedFor(999)).toBe(true);
    expect(asking(17).askedFor(undefined)).toBe(false);
  });
});
