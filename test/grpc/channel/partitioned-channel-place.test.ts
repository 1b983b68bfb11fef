import { Metadata } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { PlacedCall } from "../../../src/grpc/channel/options.js";
import { fakeScene, withPriority } from "./partitioned-channel-scene.js";

describe("by rules", () => {
  const partitions = {
    urgent: { priorities: ["critical", "high"] },
    bulk: { methods: ["shop.v1.Orders/Export", "shop.v1.Reports"] },
    lowReads: { methods: ["/shop.v1.Orders/Get"], priorities: ["low"] },
    rest: {},
  } as const;
  const names = Object.keys(partitions);

  it.each([
    ["a call of a priority", "urgent", "/shop.v1.Orders/Get", "critical"],
    ["the first that fits, in the order written", "urgent", "/shop.v1.Orders/Export", "high"],
    ["a call of a method", "bulk", "/shop.v1.Orders/Export", "normal"],
    ["any call of a service", "bulk", "/shop.v1.Reports/Sales", "low"],
    ["a call that fits in both ways", "lowReads", "/shop.v1.Orders/Get", "low"],
    ["no call that fits in one way only", "rest", "/shop.v1.Orders/Get", "normal"],
    ["no call of a service whose name only begins so", "rest", "/shop.v1.ReportsToo/Sales", "low"],
    ["a call without a priority, as normal", "rest", "/shop.v1.Orders/Get", undefined],
    ["a call whose priority is nonsense, as normal", "rest", "/shop.v1.Orders/Get", "urgent"],
  ])("a partition takes %s", (_what, partition, method, priority) => {
    const { start } = fakeScene({ partitions });
    const metadata = priority === undefined ? new Metadata() : withPriority(priority);
    expect(names[start(metadata, method)]).toBe(partition);
  });

  it("takes what no rule fits to the default", () => {
    const { start } = fakeScene({
      partitions: { high: { priorities: ["high"] }, low: { priorities: ["low"] } },
      defaultPartition: "low",
    });
    expect(start(withPriority("normal"))).toBe(1);
    expect(start(withPriority("high"))).toBe(0);
  });
});

describe("by a function", () => {
  const partitions = { a: {}, b: { priorities: ["low"] }, c: {} } as const;

  it("is told the method, the priority and the metadata", () => {
    const told: PlacedCall[] = [];
    const { start } = fakeScene({
      partitions,
      defaultPartition: "a",
      partitionOf: (call) => {
        told.push(call);
        return call.metadata.get("tenant").includes("big") ? "c" : "a";
      },
    });
    const metadata = withPriority("low");
    metadata.set("tenant", "big");
    expect(start(metadata, "/shop.v1.Orders/List")).toBe(2);
    expect(start(new Metadata(), "/shop.v1.Orders/List")).toBe(0);
    expect(told).toEqual([
      { method: "/shop.v1.Orders/List", priority: "low", metadata },
      { method: "/shop.v1.Orders/List", priority: "normal", metadata: new Metadata() },
    ]);
  });

  it("leaves a call to the rules by saying nothing", () => {
    const { start, errors } = fakeScene({
      partitions,
      defaultPartition: "a",
      partitionOf: () => undefined,
    });
    expect([start(withPriority("low")), start()]).toEqual([1, 0]);
    expect(errors).toEqual([]);
  });

  it.each([
    ["throws", () => JSON.parse("{") as string, /JSON/],
    ["names a partition that there is not", () => "d", /no partition "d", only a, b, c/],
    ["names what every object has", () => "constructor", /no partition "constructor"/],
  ])("that %s is reported, and the rules decide", (_what, partitionOf, text) => {
    const { start, errors } = fakeScene({ partitions, defaultPartition: "a", partitionOf });
    expect([start(withPriority("low")), start()]).toEqual([1, 0]);
    expect(errors.map(String)).toEqual([expect.stringMatching(text), expect.stringMatching(text)]);
  });
});
