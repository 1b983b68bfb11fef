import { Metadata } from "@grpc/grpc-js";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ErrorInfo, RetryInfo } from "../../../src/gen/google/rpc/error_details.js";
import { Status } from "../../../src/gen/google/rpc/status.js";
import {
  decodeStatusDetails,
  encodeStatusDetails,
  type StatusDetails,
  statusDetailsKey,
} from "../../../src/grpc/status/rejection.js";

function carrying(...values: Uint8Array[]): Metadata {
  const metadata = new Metadata();
  for (const value of values) metadata.add(statusDetailsKey, Buffer.from(value));
  return metadata;
}

const decode = (...values: Uint8Array[]) => decodeStatusDetails(carrying(...values));
const type = (name: string) => `type.googleapis.com/google.rpc.${name}`;
const packed = (...details: { typeUrl: string; value: Uint8Array }[]) =>
  Status.encode({
    code: 8,
    message: "",
    details: details.map(({ typeUrl, value }) => ({ typeUrl, value: Buffer.from(value) })),
  }).finish();

const info = { reason: "LOAD_SHED", domain: "grpc-weir", metadata: { priority: "low" } };

describe("the details of a status", () => {
  it("come back as they were written", () => {
    const details: StatusDetails = {
      errorInfo: info,
      retryDelayMs: 1_500,
      quotaViolations: [{ subject: "user:1", description: "too many" }],
    };
    expect(decode(encodeStatusDetails(8, "shed", details))).toMatchObject(details);
  });

  it("carry the code and the message of the status", () => {
    const { code, message } = Status.decode(encodeStatusDetails(8, "für später", {}));
    expect([code, message]).toEqual([8, "für später"]);
  });

  it("come back for any text, any delay and any number of entries", () => {
    const text = fc.string({ unit: "grapheme", maxLength: 40 });
    // What a key of an object cannot be is no name of a detail either.
    const name = text.filter((each) => each !== "__proto__");
    fc.assert(
      fc.property(
        text,
        text,
        fc.dictionary(name, text, { maxKeys: 5, noNullPrototype: true }),
        fc.integer({ min: 0, max: 2 ** 31 }),
        (reason, domain, metadata, retryDelayMs) => {
          const details = { errorInfo: { reason, domain, metadata }, retryDelayMs };
          expect(decode(encodeStatusDetails(1, "m", details))).toEqual(details);
        },
      ),
    );
  });

  it("round a delay up to whole milliseconds, and know no negative one", () => {
    expect(decode(encodeStatusDetails(8, "", { retryDelayMs: 0.2 })).retryDelayMs).toBe(1);
    expect(decode(encodeStatusDetails(8, "", { retryDelayMs: -5 })).retryDelayMs).toBe(0);
  });

  it("are none where none stand, where two stand, and where they are no bytes", () => {
    expect(decodeStatusDetails(new Metadata())).toEqual({});
    const bytes = encodeStatusDetails(8, "", { errorInfo: info });
    expect(decode(bytes, bytes)).toEqual({});
    const text = new Metadata();
    text.get = () => ["text"];
    expect(decodeStatusDetails(text)).toEqual({});
  });

  it("are read up to 16 KiB, and not beyond", () => {
    const sized = (bytes: number) => {
      // Lengths are written in as few bytes as they need, so the filler is found by trying.
      for (let filler = bytes - 200; ; filler++) {
        const built = encodeStatusDetails(8, "x".repeat(filler), { errorInfo: info });
        if (built.length >= bytes) return built;
      }
    };
    const [fits, over] = [sized(16_384), sized(16_385)];
    expect([fits.length, over.length]).toEqual([16_384, 16_385]);
    expect(decode(fits).errorInfo).toEqual(info);
    expect(decode(over)).toEqual({});
  });

  it("are none when a part of them is malformed", () => {
    const good = { typeUrl: type("ErrorInfo"), value: ErrorInfo.encode(info).finish() };
    const bad = { typeUrl: type("RetryInfo"), value: Buffer.from([0x0a, 0xff, 0xff]) };
    expect(decode(packed(good, bad))).toEqual({});
  });

  it("pass over what is not known", () => {
    const good = { typeUrl: type("ErrorInfo"), value: ErrorInfo.encode(info).finish() };
    const other = { typeUrl: type("BadRequest"), value: Buffer.from([0xff, 0xff]) };
    const foreign = { typeUrl: "example.com/ErrorInfo", value: Buffer.from([0xff]) };
    expect(decode(packed(other, good, foreign))).toEqual({ errorInfo: info });
  });

  it.each([
    { seconds: -1, nanos: 0 },
    { seconds: 0, nanos: -1 },
  ])("tell no delay that is negative: %o", (retryDelay) => {
    const value = RetryInfo.encode({ retryDelay }).finish();
    expect(decode(packed({ typeUrl: type("RetryInfo"), value }))).toEqual({});
  });

  it("tell no delay where RetryInfo has none", () => {
    const value = RetryInfo.encode({ retryDelay: undefined }).finish();
    expect(decode(packed({ typeUrl: type("RetryInfo"), value }))).toEqual({});
  });

  it("are never a reason to throw, whatever bytes stand there", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200, size: "max" }), (bytes) => {
        expect(() => decode(bytes)).not.toThrow();
      }),
      { numRuns: 2_000 },
    );
  });

  it("are never a reason to throw, whatever is broken in good ones", () => {
    const good = encodeStatusDetails(8, "shed", { errorInfo: info, retryDelayMs: 1_500 });
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (at, byte, length) => {
        const broken = Buffer.from(good);
        broken[at] = byte;
        const { retryDelayMs } = decode(broken.subarray(0, length));
        expect(retryDelayMs === undefined || retryDelayMs >= 0).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  it("change nothing that all objects share, whatever their entries are called", () => {
    const hostile = JSON.parse('{"__proto__": "x", "constructor": "y"}');
    const value = ErrorInfo.encode({ ...info, metadata: hostile }).finish();
    const { errorInfo } = decode(packed({ typeUrl: type("ErrorInfo"), value }));
    expect(errorInfo?.reason).toBe("LOAD_SHED");
    expect(Object.getPrototypeOf({})).toBe(Object.prototype);
    expect(Object.hasOwn(Object.prototype, "x")).toBe(false);
  });
});
