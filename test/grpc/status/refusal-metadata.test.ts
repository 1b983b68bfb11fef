import { Metadata } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { refusal } from "../../../src/core/permit.js";
import { pushbackKey } from "../../../src/grpc/metadata.js";
import { statusDetailsKey } from "../../../src/grpc/status/rejection.js";
import { relayed } from "../../../src/grpc/status/relay.js";
import { RefusalMetadata, serverRejection } from "../../../src/grpc/status/server-rejection.js";

const refused = () => serverRejection(refusal("LOAD_SHED", "why", 50), { priority: "low" });

/** The same without anything prepared. */
function plain(metadata: Metadata): Metadata {
  const copy = new Metadata(metadata.getOptions());
  copy.merge(metadata);
  return copy;
}

describe("the metadata of a refusal", () => {
  it("goes on the wire as any other would", () => {
    const { metadata } = refused();
    expect(metadata.toHttp2Headers()).toEqual(plain(metadata).toHttp2Headers());
    expect(metadata.toHttp2Headers()[pushbackKey]).toBe("50");
    expect(metadata.clone().toHttp2Headers()).toEqual(metadata.toHttp2Headers());
  });

  it("can be added to and changed by interceptors, and tells no other call of it", () => {
    const { metadata } = refused();
    metadata.set("x-one", "1");
    metadata.add("x-one", "2");
    metadata.set("x-own-bin", Buffer.from("own"));
    metadata.set(statusDetailsKey, Buffer.from("other"));
    metadata.remove(pushbackKey);
    expect(metadata.toHttp2Headers()).toEqual(plain(metadata).toHttp2Headers());
    expect(metadata.toHttp2Headers()[statusDetailsKey]).toBe("b3RoZXI=");
    expect(Object.keys(refused().metadata.toHttp2Headers())).toEqual([
      statusDetailsKey,
      pushbackKey,
    ]);
  });

  it("is copied with its options and apart from the original", () => {
    const { metadata } = refused();
    metadata.setOptions({ waitForReady: true });
    const copy = metadata.clone();
    copy.set("x-one", "1");
    copy.add(pushbackKey, "60");
    expect(copy.getOptions()).toEqual({ waitForReady: true });
    expect(metadata.get("x-one")).toEqual([]);
    expect(metadata.get(pushbackKey)).toEqual(["50"]);
  });

  it("is this server's own word only as long as it is no copy", () => {
    const status = refused();
    const call = { answeredByPolicy: false, failuresBelow: undefined };
    expect(relayed(status, call)).toBe(status);
    const passedOn = { ...status, metadata: status.metadata.clone() };
    expect(RefusalMetadata.isOriginal(passedOn.metadata)).toBe(false);
    expect(relayed(passedOn, call).metadata?.get(pushbackKey)).toEqual([]);
    // With the reason code once, wherever it has come from.
    expect(relayed(passedOn, call).details).toBe(status.details);
  });
});
