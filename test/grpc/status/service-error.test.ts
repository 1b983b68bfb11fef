import { Metadata, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { isServiceError } from "../../../src/grpc/status/service-error.js";

const failed = (fields: object) => Object.assign(new Error("14 UNAVAILABLE: gone"), fields);
const whole = { code: status.UNAVAILABLE, details: "gone", metadata: new Metadata() };

describe("the error of a gRPC call", () => {
  it("has a code, a text and metadata", () => {
    expect(isServiceError(failed(whole))).toBe(true);
    expect(isServiceError(failed({ ...whole, details: "" }))).toBe(true);
  });

  it("may come from another copy of grpc-js", () => {
    const foreign = { get: () => [], getMap: () => ({}) };
    expect(isServiceError(failed({ ...whole, metadata: foreign }))).toBe(true);
  });

  it.each([
    ["of Node", { code: "ECONNREFUSED", details: "", metadata: new Metadata() }],
    ["with the code of success", { ...whole, code: status.OK }],
    ["with a code that gRPC does not have", { ...whole, code: 17 }],
    ["without a text", { ...whole, details: undefined }],
    ["without metadata", { ...whole, metadata: undefined }],
    ["with metadata of something else", { ...whole, metadata: { get: 1 } }],
  ])("is not an error %s", (_, fields) => {
    expect(isServiceError(failed(fields))).toBe(false);
  });

  it.each([undefined, null, "14 UNAVAILABLE", 14, whole])(
    "is not %o, which is no error",
    (other) => {
      expect(isServiceError(other)).toBe(false);
    },
  );
});
