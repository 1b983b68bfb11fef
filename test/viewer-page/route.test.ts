import { describe, expect, it } from "vitest";
import { hashOf, routeOf } from "../../viewer-page/src/route.js";

describe("the address", () => {
  it.each([
    "#/calls",
    "#/calls?status=UNAVAILABLE&minMs=100",
    "#/trace/4bf92f3577b34da6a3ce929d0e0e4736",
    "#/trace/4bf9?span=00f067aa0ba902b7",
    "#/board",
    "#/compare",
  ])("%s says what is shown, and is what is shown", (hash) => {
    expect(hashOf(routeOf(hash))).toBe(hash);
  });

  it.each(["", "#", "#/", "#/nothing", "#/trace", "#/trace/"])("%j leads to the calls", (hash) => {
    expect(routeOf(hash).view).toBe("calls");
  });

  it("takes an id that is badly encoded as it is", () => {
    expect(routeOf("#/trace/%E0%A4%A")).toEqual({ view: "trace", traceId: "%E0%A4%A" });
  });
});
