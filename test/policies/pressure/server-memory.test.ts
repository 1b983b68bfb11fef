import { describe, expect, it } from "vitest";
import { NodeProcessReader } from "../../../src/policies/pressure/server-process-reader.js";

describe("the reader of a Node process", () => {
  it("tells memory as a share of what there may be", () => {
    const reader = new NodeProcessReader();
    const { memory } = reader.read();
    reader.close();
    expect(memory).toBeGreaterThan(0);
    expect(memory).toBeLessThan(1);
  });
});
