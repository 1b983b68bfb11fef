import { Metadata, status as Status } from "@grpc/grpc-js";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Degradation,
  Degradations,
  degradationOf,
  fallbackDegradation,
  formatDegradations,
  handlerDegradation,
  mark,
  markedStatus,
  noteResponse,
  readDegradations,
} from "../../../src/grpc/status/degraded.js";

const saying = (...values: string[]) => {
  const metadata = new Metadata();
  for (const value of values) metadata.add("x-weir-degraded", value);
  return metadata;
};
const stale: Degradation = { source: "fallback", name: "stale-cache", ageMs: 4_200 };
const left: Degradation = { source: "handler", name: "reviews", method: "shop.v1.Page/Get" };

describe("the mark of a degraded answer", () => {
  it("names the fallback, its age and the method", () => {
    expect(formatDegradations([stale, left])).toBe(
      "fallback=stale-cache;age-ms=4200, handler=reviews;method=shop.v1.Page/Get",
    );
    expect(fallbackDegradation("static", "/shop.v1.Recs/List", undefined)).toEqual({
      source: "fallback",
      name: "static",
      method: "shop.v1.Recs/List",
    });
  });

  it("is read from one value or several, as gRPC peers join them", () => {
    const text = formatDegradations([stale, left]);
    expect(readDegradations(saying(text))).toEqual([stale, left]);
    expect(readDegradations(saying(...text.split(", ")))).toEqual([stale, left]);
    expect(readDegradations(new Metadata())).toEqual([]);
  });

  it.each([
    "",
    "fallback",
    "fallback=",
    "fallback=a b",
    "fallback=a=b",
    "retry=a",
    "FALLBACK=a",
    "fallback=-a",
    `fallback=${"a".repeat(65)}`,
    "fallback=a;",
    "fallback=a;age-ms",
    "fallback=a;age-ms=-1",
    "fallback=a;age-ms=1e9",
    "fallback=a;age-ms=1234567890123",
    "fallback=a;method=/Get",
    "fallback=a;method=a/b/c",
    `fallback=a;x=${"b".repeat(250)}`,
  ])("is nothing where it is %j", (text) => {
    expect(readDegradations(saying(text))).toEqual([]);
    expect(readDegradations(saying(`${text}, fallback=good`))).toEqual([
      { source: "fallback", name: "good" },
    ]);
  });

  it("may have parameters that are not known yet", () => {
    expect(readDegradations(saying("fallback=a;level=3;age-ms=7"))).toEqual([
      { source: "fallback", name: "a", ageMs: 7 },
    ]);
  });

  it("is bounded in entries and in length, however much is said", () => {
    const many = Array.from({ length: 50 }, (_, index) => `fallback=a${index}`);
    expect(readDegradations(saying(many.join(",")))).toHaveLength(16);
    expect(readDegradations(saying(...many))).toHaveLength(16);
    expect(readDegradations(saying(`fallback=a,${" ".repeat(5_000)}`))).toEqual([]);
    const long = Array.from({ length: 16 }, (_, index) =>
      fallbackDegradation(`n${index}`.padEnd(60, "x"), `/${"s".repeat(120)}/Method`, 1),
    );
    const text = formatDegradations(long);
    expect(text.length).toBeLessThanOrEqual(2_048);
    expect(text.length).toBeGreaterThan(1_800);
  });

  it("comes back as it was written, and never throws", () => {
    const entry = fc.record(
      {
        source: fc.constantFrom("fallback" as const, "handler" as const),
        name: fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
        method: fc.stringMatching(/^[A-Za-z0-9_.]{1,40}\/[A-Za-z0-9_]{1,20}$/),
        ageMs: fc.nat(),
      },
      { requiredKeys: ["source", "name"] },
    );
    const unique = fc.uniqueArray(entry, {
      maxLength: 8,
      selector: ({ source, name, method }) => `${source} ${name} ${method}`,
    });
    fc.assert(
      fc.property(unique, (list) => {
        expect(readDegradations(saying(formatDegradations(list)))).toEqual(list);
      }),
    );
    fc.assert(
      fc.property(fc.stringMatching(/^[ -~]{0,200}$/), (text) => {
        for (const { name } of readDegradations(saying(text))) expect(name).not.toBe("");
      }),
    );
  });
});

describe("a list of degradations", () => {
  it("has each cause once, with its greatest age, and at most sixteen", () => {
    const list = new Degradations();
    for (const ageMs of [5, 90, 30]) list.add({ ...stale, ageMs });
    list.add({ source: "fallback", name: "stale-cache" });
    list.add({ ...stale, method: "a.B/C" });
    expect(list.list).toEqual([
      { ...stale, ageMs: 90 },
      { ...stale, method: "a.B/C" },
    ]);
    for (let index = 0; index < 40; index += 1) list.add({ source: "handler", name: `n${index}` });
    expect(list.list).toHaveLength(16);
  });
});

describe("what a handler calls its own degradation", () => {
  it.each([
    ["recommendations", "recommendations"],
    ["käse & more", "k_se___more"],
    ["--", "unnamed"],
    ["", "unnamed"],
    ["x".repeat(80), "x".repeat(64)],
    ["a\r\nb", "a__b"],
  ])("is a name, of %j", (given, name) => {
    const made = handlerDegradation(given, "/shop.v1.Page/Get");
    expect(made).toEqual({ source: "handler", name, method: "shop.v1.Page/Get" });
    expect(readDegradations(saying(formatDegradations([made])))).toEqual([made]);
  });
});

describe("the status of a handler that worked with degraded answers", () => {
  it("has the mark in trailers of its own", () => {
    const given = { code: Status.OK, details: "OK", metadata: new Metadata() };
    const sent = markedStatus(given, [stale]);
    expect(readDegradations(sent.metadata ?? new Metadata())).toEqual([stale]);
    expect(given.metadata.get("x-weir-degraded")).toEqual([]);
    const without = markedStatus({ code: Status.OK, details: "OK" }, [stale]);
    expect(without.metadata?.get("x-weir-degraded")).toEqual(["fallback=stale-cache;age-ms=4200"]);
  });

  it("keeps what the handler has passed on itself, once", () => {
    const metadata = saying("fallback=a, fallback=stale-cache;age-ms=1");
    const sent = markedStatus({ code: Status.OK, details: "OK", metadata }, [stale]);
    expect(sent.metadata?.get("x-weir-degraded")).toEqual([
      "fallback=a, fallback=stale-cache;age-ms=4200",
    ]);
  });

  it("is left alone when it failed, or nothing was degraded", () => {
    const failed = { code: Status.INTERNAL, details: "no" };
    expect(markedStatus(failed, [stale])).toBe(failed);
    const good = { code: Status.OK, details: "OK" };
    expect(markedStatus(good, [])).toBe(good);
  });
});

describe("degradationOf", () => {
  it("reads statuses, metadata and responses of a fallback, and nothing else", () => {
    const metadata = new Metadata();
    mark(metadata, [stale]);
    expect(degradationOf(metadata)).toEqual([stale]);
    expect(degradationOf({ code: Status.OK, details: "OK", metadata })).toEqual([stale]);
    const response = { items: [] };
    expect(degradationOf(response)).toEqual([]);
    noteResponse(response, [left]);
    expect(degradationOf(response)).toEqual([left]);
    noteResponse("text", [left]);
    for (const other of [undefined, null, 7, "text", { metadata: {} }]) {
      expect(degradationOf(other)).toEqual([]);
    }
  });
});
