import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { fallback } from "../../../src/policies/fallback/client.js";
import { FallbackStream } from "../../../src/policies/fallback/client-call.js";
import { staticValue, value } from "../../../src/policies/fallback/client-providers.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { echo, failing, startCall, withResolvers } from "../../scene.js";
import { fallbackScene, message } from "./client-scene.js";

/** Numbers without end, and what became of who makes them. */
function endless() {
  const seen = { made: 0, closed: false };
  async function* numbers() {
    try {
      for (;;) {
        seen.made += 1;
        yield message(seen.made);
      }
    } finally {
      seen.closed = true;
    }
  }
  return { seen, numbers };
}

describe("a streamed answer of a fallback", () => {
  it("is made as fast as the caller reads, and closed when the caller leaves", async () => {
    const { seen, numbers } = endless();
    let signal: AbortSignal | undefined;
    const made = await fallbackScene({
      providers: [
        value((_, context) => {
          signal = context.signal;
          return numbers();
        }),
      ],
    });
    const call = made.client.serverStream(message(3), new Metadata());
    const ended = withResolvers<Status>();
    call.on("status", ({ code }) => ended.resolve(code)).on("error", () => {});
    const first = withResolvers<unknown>();
    call.once("data", (data) => {
      call.pause();
      first.resolve(data);
    });
    await made.link.until(first.promise, 1e6);
    await made.link.pass(1_000);
    // What the stream of the surface takes ahead, and one.
    expect(seen.made).toBeLessThan(40);
    expect(made.provider("value")).toMatchObject({ running: 1 });
    call.cancel();
    expect(await made.link.until(ended.promise, 1e6)).toBe(Status.CANCELLED);
    await made.link.pass(1);
    expect([seen.closed, signal?.aborted]).toEqual([true, true]);
    expect(made.provider("value")).toMatchObject({ running: 0, answered: 1 });
    expect(made.clock.pending.refs).toBe(0);
  });

  it("of ten thousand messages at hand costs no stack", async () => {
    const many = Array.from({ length: 10_000 }, (_, index) => message(index));
    const { call } = await fallbackScene({ providers: [staticValue(many)] });
    const { code, received } = await call("serverStream");
    expect([code, received.length, received.at(-1)]).toEqual([Status.OK, 10_000, 9_999]);
  });

  it("that fails before its first message is passed over", async () => {
    const errors: unknown[] = [];
    const fails = true;
    const made = await fallbackScene(
      {
        providers: [
          value(async function* () {
            if (fails) throw new Error("no first");
            yield message(1);
          }),
          staticValue([message(1)]),
        ],
      },
      { onError: (error) => errors.push(error) },
    );
    expect((await made.call("serverStream")).received).toEqual([1]);
    expect(errors).toEqual([new Error("no first")]);
  });

  it("that breaks off ends with the failure of the service: it is not the whole answer", async () => {
    const errors: unknown[] = [];
    const made = await fallbackScene(
      {
        providers: [
          value(async function* () {
            yield message(1);
            throw new Error("broken off");
          }),
          staticValue([message(9)]),
        ],
      },
      { onError: (error) => errors.push(error) },
    );
    const { code, details, received } = await made.call("serverStream");
    expect([code, details, received]).toEqual([Status.UNAVAILABLE, "not now", [1]]);
    expect(errors).toEqual([new Error("broken off")]);
    expect(made.provider("value")).toMatchObject({ running: 0 });
  });

  it.each([
    ["null", null, "a message of a streamed answer is null"],
    ["undefined", undefined, "a message of a streamed answer is undefined"],
  ])("in which %s stands for a message is not the whole answer", async (_, none, text) => {
    let closed = 0;
    const answers = (messages: readonly unknown[]) =>
      function* () {
        try {
          yield* messages;
        } finally {
          closed += 1;
        }
      };
    const errors: unknown[] = [];
    const made = await fallbackScene(
      {
        providers: [
          value(answers([none]), { name: "first" }),
          value(answers([message(5), none, message(6)]), { name: "second" }),
        ],
      },
      { onError: (error) => errors.push(error) },
    );
    const ended = await made.call("serverStream");
    expect(ended).toMatchObject({ code: Status.UNAVAILABLE, received: [5] });
    expect(errors.map(String)).toEqual([`TypeError: ${text}`, `TypeError: ${text}`]);
    await made.link.pass(1);
    expect(closed).toBe(2);
    expect(made.provider("first")).toMatchObject({ running: 0, failed: 1 });
    expect(made.provider("second")).toMatchObject({ running: 0, answered: 1 });
  });

  it("whose iterator gives no results costs nothing but itself", async () => {
    const broken = { [Symbol.asyncIterator]: () => ({ next: async () => undefined }) };
    const errors: unknown[] = [];
    const made = await fallbackScene(
      { providers: [value(() => broken as unknown as AsyncIterable<object>)] },
      { onError: (error) => errors.push(error) },
    );
    const ended = await made.call("serverStream");
    expect(ended).toMatchObject({ code: Status.UNAVAILABLE, received: [] });
    expect(errors.map(String)).toEqual([
      "TypeError: an iterator of a streamed answer gave no result",
    ]);
    expect(made.provider("value")).toMatchObject({ running: 0, failed: 1 });
  });

  it("that comes when its provider's time is over is closed", async () => {
    const { seen, numbers } = endless();
    const made = await fallbackScene({
      providers: [
        value(
          () =>
            new Promise<ReturnType<typeof numbers>>((resolve) => {
              made.clock.schedule(100, () => resolve(numbers()));
            }),
          { timeoutMs: 50 },
        ),
        staticValue([message(1)]),
      ],
    });
    expect((await made.call("serverStream")).received).toEqual([1]);
    await made.link.pass(200);
    // A generator that was closed before it began has nothing to clean up.
    expect(seen.made).toBe(0);
  });

  it("is bounded by the deadline where no deadline interceptor stands above", async () => {
    const transport = inMemoryTransport();
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: failing(9).handlers,
      clientOptions: {
        interceptors: [
          fallback({
            clock: transport.clock,
            providers: [
              value(async function* () {
                yield message(1);
                await new Promise(() => {});
              }),
            ],
          }),
        ],
      },
      serverInterceptors: [],
    });
    const client = link.client(ConformanceServiceClient);
    const startMs = transport.clock.now();
    const deadline = transport.clock.wallNow() + 500;
    const ended = withResolvers<Status>();
    const call = client.serverStream(message(3), new Metadata(), { deadline });
    call.on("data", () => {}).on("error", () => {});
    call.on("status", ({ code }) => ended.resolve(code));
    expect(await link.until(ended.promise, 1e6)).toBe(Status.DEADLINE_EXCEEDED);
    expect(transport.clock.now() - startMs).toBe(500);
    expect(transport.clock.pending.refs).toBe(0);
  });
});

it("a streamed answer that has ended leaves no timer for the deadline behind", async () => {
  const transport = inMemoryTransport();
  const { clock } = transport;
  const providers = [staticValue([message(1), message(2)])];
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation: failing(9).handlers,
    clientOptions: { interceptors: [fallback({ clock, providers })] },
    serverInterceptors: [],
  });
  const client = link.client(ConformanceServiceClient);
  const options = { deadline: clock.wallNow() + 5_000 };
  const { ended } = startCall(client, "serverStream", options, new Metadata());
  expect((await link.until(ended, 1e6)).code).toBe(Status.OK);
  await link.pass(10);
  expect(clock.pending.refs).toBe(0);
});

it("a streamed answer that breaks off after its call has ended is nobody's defect", async () => {
  const errors: unknown[] = [];
  const next = withResolvers<never>();
  let read = 0;
  const iterator: AsyncIterator<object> & AsyncIterable<object> = {
    next: async () => {
      read += 1;
      return read === 1 ? { done: false, value: message(1) } : next.promise;
    },
    [Symbol.asyncIterator]: () => iterator,
  };
  const made = await fallbackScene(
    { providers: [value(() => iterator)] },
    { onError: (error) => errors.push(error) },
  );
  const running = made.start("serverStream");
  await made.link.pass(10);
  expect(read).toBe(2);
  running.cancel();
  expect((await made.link.until(running.ended, 1e6)).code).toBe(Status.CANCELLED);
  next.resolve(Promise.reject(new Error("broke off")) as never);
  await made.link.pass(10);
  expect(errors).toEqual([]);
});

describe("the reads of a streamed answer", () => {
  it("are a credit for one message, however often it is asked for", async () => {
    const seen: unknown[] = [];
    const iterator = [1, 2, 3][Symbol.iterator]();
    const stream = new FallbackStream(iterator, iterator.next(), {
      message: (one) => seen.push(one),
      done: () => seen.push("done"),
      broken: (error) => seen.push(error),
    });
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    await turn();
    expect(seen).toEqual([]);
    for (const expected of [[1], [1, 2], [1, 2, 3], [1, 2, 3, "done"]]) {
      for (let each = 0; each < 3; each += 1) stream.read();
      await turn();
      expect(seen).toEqual(expected);
    }
  });
});

it("a streamed answer of no messages ends without being read", () => {
  const seen: unknown[] = [];
  const iterator = [][Symbol.iterator]();
  const made = new FallbackStream(iterator, iterator.next(), {
    message: (one) => seen.push(one),
    done: () => seen.push("done"),
    broken: (error) => seen.push(error),
  });
  made.read();
  expect(seen).toEqual(["done"]);
});

describe("a streamed answer that has begun", () => {
  it("is no call that waits, and goes on when the weir is closed", async () => {
    const made = await fallbackScene({
      providers: [
        value(async function* () {
          yield message(1);
          await new Promise<void>((resolve) => made.clock.schedule(100, resolve));
          yield message(2);
        }),
      ],
    });
    const running = made.start("serverStream");
    await made.link.pass(10);
    expect(made.weir.snapshot().waiting).toBe(0);
    made.weir.close();
    const ended = await made.link.until(running.ended, 1e6);
    expect([ended.code, ended.received]).toEqual([Status.OK, [1, 2]]);
  });

  it("has no end to tell once its call has ended", async () => {
    const seen: unknown[] = [];
    const { promise, resolve } = withResolvers<never>();
    const iterator = { next: () => promise };
    const stream = new FallbackStream(
      iterator,
      { done: false, value: 1 },
      {
        message: (one) => seen.push(one),
        done: () => seen.push("done"),
        broken: (error) => seen.push(error),
      },
    );
    const turn = () => new Promise((next) => setImmediate(next));
    stream.read();
    await turn();
    stream.read();
    stream.stop();
    resolve(Promise.reject(new Error("too late")) as never);
    await turn();
    expect(seen).toEqual([1]);
  });
});

describe("a response that has begun", () => {
  it.each([true, false])("cannot be replaced; a message was sent: %o", async (withMessage) => {
    const breaks: ConformanceServiceServer = {
      ...echo,
      serverStream: (call) => {
        call.sendMetadata(new Metadata());
        if (withMessage) call.write(message(1));
        made.clock.schedule(10, () => {
          call.emit("error", { code: Status.UNAVAILABLE, details: "broke off" });
        });
      },
    };
    const made = await fallbackScene(
      { providers: [staticValue(message(9))] },
      { handlers: breaks },
    );
    const { details, received } = await made.call("serverStream");
    expect([details, received]).toEqual(["broke off", withMessage ? [1] : []]);
    expect(made.decisions).toEqual([]);
  });

  it("has its headers, before its first message", async () => {
    const made = await fallbackScene(
      { providers: [staticValue(message(9))] },
      {
        handlers: {
          ...echo,
          serverStream: (call) => {
            const headers = new Metadata();
            headers.set("from", "service");
            call.sendMetadata(headers);
            call.write(message(1));
            call.end();
          },
        },
      },
    );
    const heard: unknown[] = [];
    const ended = withResolvers<unknown>();
    made.client
      .serverStream(message(1), new Metadata())
      .on("metadata", (metadata) => heard.push(metadata.get("from")[0]))
      .on("data", ({ sequence }) => heard.push(sequence))
      .on("status", ended.resolve);
    await made.link.until(ended.promise, 1e6);
    expect(heard).toEqual(["service", 1]);
  });

  it("of a single response only begins with its message: headers alone can be replaced", async () => {
    const breaks: ConformanceServiceServer = {
      ...echo,
      unary: (call, callback) => {
        const headers = new Metadata();
        headers.set("from", "service");
        call.sendMetadata(headers);
        made.clock.schedule(10, () =>
          callback({ code: Status.INTERNAL, details: "after headers" }),
        );
      },
    };
    const made = await fallbackScene(
      { providers: [staticValue(message(9))] },
      { handlers: breaks },
    );
    const headers = withResolvers<Metadata>();
    const call = made.client.unary(message(1), () => {});
    call.on("metadata", headers.resolve);
    const shown = await made.link.until(headers.promise, 1e6);
    expect(shown.get("from")).toEqual([]);
    expect(shown.get("x-weir-degraded")[0]).toContain("fallback=static");
    const unanswered = await fallbackScene(
      { providers: [value(() => undefined)] },
      { handlers: breaks },
    );
    const own = withResolvers<Metadata>();
    unanswered.client.unary(message(1), () => {}).on("metadata", own.resolve);
    await unanswered.link.pass(1);
    made.clock.advance(20);
    expect((await unanswered.link.until(own.promise, 1e6)).get("from")).toEqual(["service"]);
  });
});
