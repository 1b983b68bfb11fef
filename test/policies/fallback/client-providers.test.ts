import { EventEmitter } from "node:events";
import { type Client, Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { CallDeadline } from "../../../src/grpc/deadline.js";
import {
  alternative,
  empty,
  type FallbackFailure,
  type FallbackProvider,
  staticValue,
  value,
} from "../../../src/policies/fallback/client-providers.js";
import { staleCache } from "../../../src/policies/fallback/stale-cache/client-cache.js";
import { callOf, ended, settled } from "../../grpc/client/fake-call.js";
import { below } from "./below-scene.js";
import { message } from "./client-scene.js";

/** Lets a call fail. */
async function failed(
  providers: readonly FallbackProvider[],
  kind: "unary" | "server-stream" = "unary",
  more: Parameters<ReturnType<typeof below>["start"]>[1] = {},
) {
  const made = below({ providers });
  const started = made.start(kind, more);
  started.call.startRead();
  callOf(made.calls).end(ended(Status.UNAVAILABLE, "down"));
  await settled();
  return { ...made, ...started };
}

it.each([
  [staleCache({ shared: true }), "stale-cache", 100],
  [alternative(() => undefined), "alternative", 1_000],
  [value(() => undefined), "value", 100],
  [staticValue(1), "static", 10],
  [empty(), "empty", 10],
])(
  "a provider has the name and the time of its kind by default: %#",
  (provider, name, timeoutMs) => {
    expect(provider.limits).toEqual({ name, timeoutMs, maxConcurrent: 10 });
  },
);

it("an alternative has its options behind a function, and behind a client and its method", () => {
  const options = { name: "other", timeoutMs: 5, maxConcurrent: 2 };
  expect(alternative(() => undefined, options).limits).toEqual(options);
  const client = { get() {} } as unknown as Client & { get(): void };
  expect(alternative(client, "get", options).limits).toEqual(options);
});

it("a request is copied only for functions", async () => {
  for (const [provider, copies] of [
    [empty(), false],
    [staticValue(message(1)), false],
    [value(() => undefined), true],
  ] as const) {
    let reads = 0;
    const request = {
      get sequence() {
        reads += 1;
        return 1;
      },
    };
    await failed([provider], "unary", { request });
    expect(reads > 0).toBe(copies);
  }
});

it("an empty message is read from no bytes", async () => {
  const responseDeserialize = (bytes: Buffer) => ({ sequence: bytes.length });
  const { heard } = await failed([empty()], "unary", { own: { responseDeserialize } });
  expect(heard).toEqual(["headers ", "message 0", "OK OK"]);
});

describe("what is no answer is passed over, and reported", () => {
  it.each([null, (async function* () {})()])("to a single response: %#", async (wrong) => {
    const { heard, errors } = await failed([value(() => wrong)]);
    expect(heard.at(-1)).toBe("UNAVAILABLE down");
    expect(errors).toEqual([
      new TypeError("the answer to a call with a single response is no message"),
    ]);
  });

  it.each([null, "text", 7, {}])("to a streamed response: %j", async (wrong) => {
    const { heard, errors } = await failed([value(() => wrong)], "server-stream");
    expect(heard.at(-1)).toBe("UNAVAILABLE down");
    expect(errors).toEqual([
      new TypeError("the answer to a call with a streamed response cannot be iterated over"),
    ]);
  });
});

describe("what a provider throws", () => {
  it.each([
    ["a text", "text"],
    ["an object", { code: 14, metadata: new Metadata() }],
    ["an error of the system", Object.assign(new Error("no file"), { code: "ENOENT" })],
    ["an error with a code", Object.assign(new Error("coded"), { code: 14 })],
    ["an error with other metadata", Object.assign(new Error("odd"), { code: 14, metadata: {} })],
  ])("is reported: %s", async (_what, thrown) => {
    const { errors } = await failed([
      value(() => {
        throw thrown;
      }),
    ]);
    expect(errors).toEqual([thrown]);
  });

  it("is not reported if it is the status of a call", async () => {
    const status = Object.assign(new Error("down"), ended(Status.UNAVAILABLE, "down"));
    const { errors } = await failed([value(() => Promise.reject(status))]);
    expect(errors).toEqual([]);
  });
});

it.each(["enforce", "observe"] as const)(
  "in mode %s a text is the server's if headers came before it, and a mistake of this process otherwise",
  async (mode) => {
    const details = "Getting metadata from plugin failed with error: no token";
    for (const [headers, origin] of [
      [true, "remote"],
      [false, "local-setup"],
    ] as const) {
      const seen: FallbackFailure[] = [];
      const when = (failure: FallbackFailure) => {
        seen.push(failure);
        return true;
      };
      const made = below({ mode, providers: [empty({ when })] });
      made.start();
      if (headers) callOf(made.calls).headers();
      callOf(made.calls).end(ended(Status.UNAVAILABLE, details));
      await settled();
      expect(seen).toMatchObject([{ origin }]);
    }
  },
);

describe("another client's method", () => {
  it("has a deadline that grpc-js reads later as it makes the call", async () => {
    const deadlines: (readonly [number, CallDeadline])[] = [];
    const client = {
      get(_request: unknown, _metadata: unknown, { deadline }: { deadline: CallDeadline }) {
        deadlines.push([deadline.getTime(), deadline]);
      },
    };
    const { clock } = await failed([alternative(client as never, "get", { timeoutMs: 200 })]);
    const [[making, deadline]] = deadlines as [readonly [number, CallDeadline]];
    expect(deadline.getTime()).toBe(clock.wallNow() + 200);
    expect(making).toBeGreaterThan(clock.wallNow() + 200);
    expect(deadline.byChannel).toBe(false);
  });

  it("streams its answer, is cancelled when the call is, and may fail after that", async () => {
    let cancelled = 0;
    async function* numbers() {
      yield message(7);
      await new Promise(() => {});
    }
    const stream = Object.assign(new EventEmitter(), {
      cancel: () => {
        cancelled += 1;
      },
      [Symbol.asyncIterator]: () => numbers(),
    });
    const client = { list: () => stream };
    const { call, heard } = await failed([alternative(client as never, "list")], "server-stream");
    expect([heard, cancelled]).toEqual([["headers ", "message 7"], 0]);
    call.cancelWithStatus(Status.CANCELLED, "enough");
    await settled();
    expect([heard.at(-1), cancelled]).toEqual(["CANCELLED enough", 1]);
    expect(() => stream.emit("error", new Error("cancelled"))).not.toThrow();
  });
});
