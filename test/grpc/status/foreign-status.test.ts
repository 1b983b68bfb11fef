import { Metadata, StatusBuilder, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import {
  receivedMetadata,
  receivedStatus,
  sentStatus,
} from "../../../src/grpc/status/foreign-status.js";
import { originOf } from "../../../src/grpc/status/origin.js";

const noStatus = "An interceptor ended the call without a status";

describe("a status from somebody else's interceptor", () => {
  it("stays the object that it is where it is whole", () => {
    const whole = { code: status.ABORTED, details: "", metadata: new Metadata() };
    expect(receivedStatus(whole)).toBe(whole);
    const other = { code: 999, details: "mine", metadata: { get: () => [], clone: () => ({}) } };
    // A code that gRPC does not know, and the metadata of another copy of grpc-js.
    expect(receivedStatus(other)).toBe(other);
  });

  it.each([
    [
      "as grpc-js's StatusBuilder makes it, without metadata",
      new StatusBuilder().withCode(status.UNAUTHENTICATED).withDetails("mine").build(),
      [status.UNAUTHENTICATED, "mine"],
    ],
    ["with a code alone", { code: status.ABORTED }, [status.ABORTED, ""]],
    ["without a code", { details: "mine" }, [status.UNKNOWN, "mine"]],
    ["with a code that is none", { code: "14", details: "mine" }, [status.UNKNOWN, "mine"]],
    ["with null for each", { code: null, details: null, metadata: null }, [2, noStatus]],
    ["that is an error", new Error("broken"), [status.UNKNOWN, "broken"]],
    ["that is empty", {}, [status.UNKNOWN, noStatus]],
    ["that is undefined", undefined, [status.UNKNOWN, noStatus]],
    ["that is null", null, [status.UNKNOWN, noStatus]],
    ["that is a number", 14, [status.UNKNOWN, noStatus]],
  ])("%s is made whole", (_what, given, [code, details]) => {
    expect(receivedStatus(given)).toMatchObject({ code, details, metadata: expect.any(Metadata) });
    expect(sentStatus(given)).toMatchObject({ code, details });
  });

  it("that throws when it is read is none", () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    expect(receivedStatus(proxy).details).toBe(noStatus);
    expect(sentStatus(proxy).details).toBe(noStatus);
  });

  it("keeps what else it carries", () => {
    expect(receivedStatus({ code: 5, details: "mine", more: 1 })).toMatchObject({ more: 1 });
  });

  it("that is none is nothing that a server has said", () => {
    const seen = { sawHeaders: true, peer: "10.0.0.1:443", target: "dns:shop" };
    expect(originOf(receivedStatus(undefined), seen)).toBe("local-limit");
  });

  it("may be sent without metadata", () => {
    const without = { code: status.ABORTED, details: "" };
    expect(sentStatus(without)).toBe(without);
    const withNull = { ...without, metadata: null };
    expect(sentStatus(withNull)).toBe(withNull);
  });
});

describe("what somebody else gave for metadata", () => {
  it("becomes metadata with the values that metadata can carry", () => {
    const made = receivedMetadata({
      "x-one": "1",
      "x-more": ["a", "b"],
      "x-bin": Buffer.from("b"),
      "x-number": 4,
      "not a key": "1",
      "x-text": "ü",
    });
    expect(made.getMap()).toEqual({ "x-one": "1", "x-more": "a", "x-bin": Buffer.from("b") });
    expect(made.get("x-more")).toEqual(["a", "b"]);
  });

  it("stays what it is where it is metadata", () => {
    const metadata = new Metadata();
    expect(receivedMetadata(metadata)).toBe(metadata);
    for (const none of [undefined, null, "text", 1]) {
      expect(receivedMetadata(none).getMap()).toEqual({});
    }
  });
});
