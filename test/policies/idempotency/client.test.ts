import { createHash } from "node:crypto";
import {
  InterceptingCall,
  type Interceptor,
  Metadata,
  propagate,
  status as Status,
} from "@grpc/grpc-js";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import {
  type CallRecord,
  type OptionsWithOwn,
  recordKey,
} from "../../../src/grpc/context/call-record.js";
import { InboundCall, runInbound } from "../../../src/grpc/context/inbound-call.js";
import {
  type IdempotencyKeyOptions,
  idempotencyKey,
} from "../../../src/policies/idempotency/client.js";
import { isIdempotencyKey } from "../../../src/policies/idempotency/levels.js";
import { retry } from "../../../src/policies/retry/client.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { callOf, fakeBelow, optionsOf } from "../../grpc/client/fake-call.js";
import {
  echo,
  failing,
  handlers,
  kinds,
  path,
  payload,
  type Running,
  type SceneOptions,
  scene,
  withResolvers,
} from "../../scene.js";

const uuidForm = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const single = ["unary", "serverStream"] as const;
const streamed = ["clientStream", "bidiStream"] as const;

function keysOf(seen: readonly Metadata[]): unknown[] {
  return seen.map((metadata) => metadata.get("idempotency-key"));
}

function keyed(value: string, ...more: string[]): Metadata {
  const metadata = new Metadata();
  for (const each of [value, ...more]) metadata.add("idempotency-key", each);
  return metadata;
}

/** A client whose calls get keys above its retries, and what the policy reported and noted. */
async function keyedScene(
  options: IdempotencyKeyOptions = {},
  more: SceneOptions & { readonly above?: Interceptor } = {},
) {
  const reports: unknown[] = [];
  const records: CallRecord[] = [];
  const { above, ...rest } = more;
  const interceptors: Interceptor[] = [
    ...(above === undefined ? [] : [above]),
    idempotencyKey({ ...options, onError: (error) => reports.push(error) }),
    (callOptions: OptionsWithOwn, nextCall) => {
      const record = callOptions[recordKey];
      if (record !== undefined) records.push(record);
      return new InterceptingCall(nextCall(callOptions));
    },
  ];
  const joined = await scene({ ...rest, ownClient: { interceptors } });
  return { ...joined, reports, records };
}

describe.each(kinds)("a key for %s", (method) => {
  it("is a random UUID, the same with every attempt and another for every call", async () => {
    const server = failing(2);
    const { call, records } = await keyedScene({}, { handlers: server.handlers });
    expect((await call(method)).code).toBe(Status.OK);
    expect((await call(method)).code).toBe(Status.OK);
    const keys = keysOf(server.metadata);
    expect(keys).toHaveLength(4);
    expect(keys[0]).toEqual([expect.stringMatching(uuidForm)]);
    expect(keys.slice(1, 3)).toEqual([keys[0], keys[0]]);
    expect(keys[3]).not.toEqual(keys[0]);
    expect([records[0]?.idempotencyKey]).toEqual(keys[0]);
  });

  it("comes from the chance that was handed in, so that a seed makes the same keys", async () => {
    const keys = await Promise.all(
      [1, 1, 2].map(async (seed) => {
        const server = failing(0);
        const client = { idempotencyKey: {} };
        const { call } = await scene({ client, handlers: server.handlers, seed });
        await call(method);
        return keysOf(server.metadata)[0];
      }),
    );
    expect(keys[0]).toEqual([expect.stringMatching(uuidForm)]);
    expect(keys[1]).toEqual(keys[0]);
    expect(keys[2]).not.toEqual(keys[0]);
  });

  it("is a UUID of version 4 made of sixteen draws of that chance", async () => {
    const server = failing(0);
    let drawn = 0;
    const random = () => {
      drawn += 1;
      return ((drawn - 1) * 0x11) / 256;
    };
    const { call } = await scene({
      ownClient: { interceptors: [idempotencyKey({ random })] },
      handlers: server.handlers,
    });
    await call(method);
    expect(keysOf(server.metadata)).toEqual([["00112233-4455-4677-8899-aabbccddeeff"]]);
    expect(drawn).toBe(16);
  });

  it("does not touch the metadata of the caller, who may send it again", async () => {
    const server = failing(0);
    const { call } = await keyedScene({}, { handlers: server.handlers });
    const own = new Metadata();
    own.set("x-own", "kept");
    await call(method, {}, own);
    await call(method, {}, own);
    expect(own.getMap()).toEqual({ "x-own": "kept" });
    expect(server.metadata.map((metadata) => metadata.get("x-own"))).toEqual([["kept"], ["kept"]]);
    expect(new Set(keysOf(server.metadata).flat()).size).toBe(2);
  });

  it.each([undefined, "uuid", "request-hash"] as const)(
    "is the caller's own where there is one, whatever the source (%s)",
    async (source) => {
      const server = failing(1);
      const { call, records, reports } = await keyedScene(
        source === undefined ? { honoured: true } : { source, honoured: true },
        { handlers: server.handlers },
      );
      expect((await call(method, {}, keyed("order 17"))).code).toBe(Status.OK);
      expect(keysOf(server.metadata)).toEqual([["order 17"], ["order 17"]]);
      expect(records).toMatchObject([{ idempotencyKey: "order 17", keyHonoured: true }]);
      expect(reports).toEqual([]);
    },
  );

  it.each([
    ["too long", keyed("k".repeat(256))],
    ["two", keyed("one", "two")],
    ["no text", keyed(" ")],
  ])(
    "that the caller sets and is %s goes on as it is, is reported and is worth nothing",
    async (_why, own) => {
      const server = failing(0);
      const { call, records, reports } = await keyedScene(
        { honoured: true },
        { handlers: server.handlers },
      );
      expect((await call(method, {}, own)).code).toBe(Status.OK);
      // HTTP/2 joins values of one name on the way.
      expect(keysOf(server.metadata)).toEqual([[own.get("idempotency-key").join(", ")]]);
      expect(records).toMatchObject([{ keyHonoured: false }]);
      expect(records[0]?.idempotencyKey).toBeUndefined();
      expect(String(reports)).toContain("1 to 255 printable ASCII");
    },
  );

  it("is known to be honoured only when somebody said so", async () => {
    for (const honoured of [undefined, false, true]) {
      const { call, records } = await keyedScene(honoured === undefined ? {} : { honoured });
      await call(method);
      expect(records).toMatchObject([{ keyHonoured: honoured === true }]);
    }
  });

  it("is all chance except for what makes it a UUID of version 4", async () => {
    const keys: unknown[] = [];
    for (const chance of [0, 1 - Number.EPSILON]) {
      const server = failing(0);
      const { call } = await scene({
        handlers: server.handlers,
        ownClient: { interceptors: [idempotencyKey({ random: () => chance })] },
      });
      await call("unary");
      keys.push(...keysOf(server.metadata));
    }
    expect(keys).toEqual([
      ["00000000-0000-4000-8000-000000000000"],
      ["ffffffff-ffff-4fff-bfff-ffffffffffff"],
    ]);
  });

  it("cannot be guessed from Math.random where no chance is handed in", () => {
    const chance = vi.spyOn(Math, "random").mockReturnValue(0);
    onTestFinished(() => chance.mockRestore());
    const { calls, nextCall } = fakeBelow();
    for (let call = 0; call < 2; call += 1) {
      idempotencyKey()(optionsOf("unary"), nextCall).start(new Metadata(), {});
    }
    const [first, second] = keysOf(calls.map(({ metadata }) => metadata));
    expect(first).toEqual([expect.stringMatching(uuidForm)]);
    expect(second).not.toEqual(first);
  });

  it("comes from the function that is handed in for random ones", async () => {
    const server = failing(1);
    let made = 0;
    const { call } = await keyedScene(
      { uuid: () => `key-${++made}` },
      { handlers: server.handlers },
    );
    await call(method);
    await call(method);
    expect(keysOf(server.metadata)).toEqual([["key-1"], ["key-1"], ["key-2"]]);
  });

  it.each([
    [
      "throws",
      () => {
        throw new Error("no luck");
      },
    ],
    ["makes no key", () => "über"],
    ["makes no text", () => 17 as never],
  ])("is a UUID of the process's own when the function for random ones %s", async (_how, uuid) => {
    const server = failing(0);
    const { call, reports } = await keyedScene({ uuid }, { handlers: server.handlers });
    expect((await call(method)).code).toBe(Status.OK);
    expect(keysOf(server.metadata)).toEqual([[expect.stringMatching(uuidForm)]]);
    expect(reports).toHaveLength(1);
  });
});

describe.each(single)("a key made of the request of %s", (method) => {
  const hashOf = (sequence: number) => {
    const { requestSerialize } = ConformanceServiceService[method];
    const bytes = requestSerialize({ payload, sequence });
    return createHash("sha256").update(`${path[method]}\0`).update(bytes).digest("hex");
  };

  it("is the hash of method and request, the same for equal requests", async () => {
    const server = failing(1);
    const { call, records } = await keyedScene(
      { source: "request-hash" },
      { handlers: server.handlers },
    );
    const ended = await call(method);
    expect([ended.code, ended.received.at(-1)]).toEqual([Status.OK, 3]);
    expect((await call(method)).code).toBe(Status.OK);
    const key = hashOf(3);
    expect(keysOf(server.metadata)).toEqual([[key], [key], [key]]);
    expect(records[0]?.idempotencyKey).toBe(key);
    expect(hashOf(4)).not.toBe(key);
  });

  it("is made of the very bytes that are sent", async () => {
    const seen: unknown[] = [];
    const answer = (call: { request: { sequence: number }; metadata: Metadata }) => {
      seen.push([call.metadata.get("idempotency-key")[0], hashOf(call.request.sequence)]);
    };
    const { client, link } = await scene({
      client: { idempotencyKey: { source: "request-hash" } },
      handlers: {
        ...echo,
        unary: (call, callback) => {
          answer(call);
          callback(null, call.request);
        },
        serverStream: (call) => {
          answer(call);
          call.end();
        },
      },
    });
    let reads = 0;
    const changing = {
      payload,
      get sequence() {
        reads += 1;
        return reads;
      },
    };
    const { promise, resolve } = withResolvers<unknown>();
    const call =
      method === "unary" ? client.unary(changing, () => {}) : client.serverStream(changing);
    call.on("status", resolve).on("data", () => {});
    await link.until(promise);
    const [[key, hash]] = seen as [[string, string]];
    expect(key).toBe(hash);
  });

  it("goes with the request as it was, though the caller uses its object again", async () => {
    const requests: unknown[] = [];
    const foreign: Interceptor = (options, nextCall) =>
      new InterceptingCall(nextCall(options), {
        sendMessage(request, next) {
          requests.push({ ...request });
          next(request);
        },
      });
    const transport = inMemoryTransport();
    const { clock, random } = transport;
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: failing(1).handlers,
      clientOptions: {
        interceptors: [
          idempotencyKey({ source: "request-hash", clock }),
          retry({ maxAttempts: 2, clock, random }),
          foreign,
        ],
      },
      serverInterceptors: [],
    });
    const client = link.client(ConformanceServiceClient);
    const request = { payload, sequence: 3 };
    const { promise, resolve } = withResolvers<unknown>();
    const call =
      method === "unary" ? client.unary(request, () => {}) : client.serverStream(request);
    call.on("status", resolve).on("data", () => {});
    request.sequence = 4;
    await link.until(promise, 1e6);
    expect(requests).toEqual([
      { payload, sequence: 3 },
      { payload, sequence: 3 },
    ]);
  });

  it("is what a function says, which is told the method and the metadata", async () => {
    const server = failing(1);
    const told: unknown[] = [];
    const { call } = await keyedScene(
      {
        source: (request, { method: name, metadata }) => {
          told.push(request, name, metadata.get("x-own"));
          return "made-of-3";
        },
      },
      { handlers: server.handlers },
    );
    const own = new Metadata();
    own.set("x-own", "seen");
    await call(method, {}, own);
    expect(keysOf(server.metadata)).toEqual([["made-of-3"], ["made-of-3"]]);
    expect(told).toEqual([{ payload, sequence: 3 }, path[method], ["seen"]]);
    expect(own.getMap()).toEqual({ "x-own": "seen" });
  });

  it("is absent when the function says undefined, and then nothing is honoured", async () => {
    const server = failing(0);
    const { call, records, reports } = await keyedScene(
      { source: () => undefined, honoured: true },
      { handlers: server.handlers },
    );
    expect((await call(method)).code).toBe(Status.OK);
    expect(keysOf(server.metadata)).toEqual([[]]);
    expect(records).toMatchObject([{ keyHonoured: false }]);
    expect(reports).toEqual([]);
  });

  it.each([
    [
      "throws",
      () => {
        throw new Error("broken");
      },
    ],
    ["returns an empty text", () => ""],
    ["returns what is no text", () => ({}) as never],
    ["returns a promise", () => Promise.resolve("later") as never],
    ["returns a line break", () => "a\nb"],
  ])("is a random one when the function %s, which is reported", async (_how, source) => {
    const server = failing(1);
    const { call, reports } = await keyedScene({ source }, { handlers: server.handlers });
    expect((await call(method)).code).toBe(Status.OK);
    const keys = keysOf(server.metadata);
    expect(keys).toEqual([[expect.stringMatching(uuidForm)], keys[0]]);
    expect(reports).toHaveLength(1);
  });

  it("leaves it to the call to fail when the request cannot be serialized", async () => {
    const server = failing(0);
    const { client, link, reports } = await keyedScene(
      { source: "request-hash" },
      { handlers: server.handlers },
    );
    const broken = { payload: undefined as never, sequence: 3 };
    const { promise, resolve } = withResolvers<{ code: Status; details: string }>();
    const call = method === "unary" ? client.unary(broken, () => {}) : client.serverStream(broken);
    call.on("status", resolve).on("error", () => {});
    const ended = await link.until(promise);
    expect(ended.code).toBe(Status.INTERNAL);
    expect(ended.details).toContain("serialization failure");
    expect(reports).toHaveLength(1);
    expect(server.calls()).toBe(0);
  });

  it("waits for a request that an interceptor above holds up", async () => {
    const server = failing(0);
    const joined = await keyedScene(
      { source: "request-hash" },
      { handlers: server.handlers, above: holdingUp(() => joined.clock, 200) },
    );
    const beganMs = joined.clock.now();
    const ended = await joined.call(method, { deadline: joined.clock.wallNow() + 1_000 });
    expect(ended.code).toBe(Status.OK);
    expect(joined.clock.now() - beganMs).toBe(200);
    expect(keysOf(server.metadata)).toEqual([[hashOf(3)]]);
    expect(joined.clock.pending.refs).toBe(0);
  });

  it("does not keep a call beyond its deadline when the request does not come", async () => {
    const server = failing(0);
    const joined = await keyedScene(
      { source: "request-hash" },
      { handlers: server.handlers, above: holdingUp(() => joined.clock, 60_000) },
    );
    const beganMs = joined.clock.now();
    const ended = await joined.call(method, { deadline: joined.clock.wallNow() + 1_000 });
    expect(ended.code).toBe(Status.DEADLINE_EXCEEDED);
    expect(joined.clock.now() - beganMs).toBe(1_000);
    expect(server.calls()).toBe(0);
  });

  it("keeps no call whose deadline has passed", async () => {
    const joined = await keyedScene(
      { source: "request-hash" },
      { above: holdingUp(() => joined.clock, 60_000) },
    );
    const beganMs = joined.clock.now();
    const ended = await joined.call(method, { deadline: joined.clock.wallNow() - 5 });
    expect(ended.code).toBe(Status.DEADLINE_EXCEEDED);
    expect(joined.clock.now() - beganMs).toBe(0);
  });

  it("does not keep a call whose inbound call is cancelled", async () => {
    const joined = await keyedScene(
      { source: "request-hash" },
      { above: holdingUp(() => joined.clock, 60_000) },
    );
    let inner: Running | undefined;
    const front = await scene({
      clock: joined.clock,
      server: {},
      handlers: handlers(() => {
        inner = joined.start(method);
      }),
    });
    const beganMs = front.clock.now();
    const running = front.start("unary");
    await front.link.pass(400);
    running.cancel();
    const ended = await front.link.until(inner?.ended ?? Promise.reject(new Error("no call")));
    expect(ended.code).toBe(Status.CANCELLED);
    expect(front.clock.now() - beganMs).toBeLessThan(410);
    // In the tick of its start grpc-js takes no cancellation on the wire: the call is cancelled a turn later.
    await joined.link.pass(1);
    expect(joined.link.inFlight()).toBe(0);
  });

  it("lets go of a call that is cancelled before its request came", async () => {
    const server = failing(0);
    let asked = 0;
    const joined = await keyedScene(
      { source: () => `key-${++asked}` },
      { handlers: server.handlers, above: holdingUp(() => joined.clock, 200) },
    );
    const running = joined.start(method, { deadline: joined.clock.wallNow() + 1_000 });
    await joined.link.pass(100);
    running.cancel();
    expect((await joined.link.until(running.ended)).code).toBe(Status.CANCELLED);
    await joined.link.pass(5_000);
    expect([server.calls(), asked]).toEqual([0, 0]);
    expect(joined.link.inFlight()).toBe(0);
    expect(joined.clock.pending.refs).toBe(0);
  });
});

describe.each(streamed)("a key made of the request of %s", (method) => {
  it.each([
    ["request-hash", '"request-hash"'],
    [() => "key", "a function"],
  ] as const)("is refused by name: there is more than one request (%s)", async (source, name) => {
    const server = failing(0);
    const { call, clock } = await keyedScene({ source }, { handlers: server.handlers });
    const ended = await call(method);
    expect(ended.code).toBe(Status.INTERNAL);
    expect(ended.details).toContain(`idempotencyKey.source: ${name}`);
    expect(ended.details).toContain(`${path[method]} streams its requests`);
    expect(server.calls()).toBe(0);
    expect(clock.pending.refs).toBe(0);
  });
});

it("a call that is cancelled as soon as it is made has its end, and is not sent", async () => {
  let seen = 0;
  const { start, link } = await keyedScene(
    { source: "request-hash" },
    {
      handlers: handlers(() => {
        seen += 1;
      }),
    },
  );
  const running = start("unary");
  running.cancel();
  expect((await link.until(running.ended)).code).toBe(Status.CANCELLED);
  expect(seen).toBe(0);
});

it("a call that ends its request before there is one starts without a key, and is the server's to judge", () => {
  const { calls, nextCall } = fakeBelow();
  const call = idempotencyKey({ source: "request-hash" })(optionsOf("unary"), nextCall);
  call.start(new Metadata(), {});
  expect(calls).toEqual([]);
  call.halfClose();
  expect(callOf(calls).log).toEqual(["start", "half-close"]);
  expect(callOf(calls).metadata.getMap()).toEqual({});
});

it.each([
  ["without a deadline", undefined],
  ["whose deadline is infinite", Number.POSITIVE_INFINITY],
  ["whose deadline is no time", Number.NaN],
])("a call %s waits for its request without a timer", (_deadline, deadline) => {
  const { clock } = inMemoryTransport();
  const { calls, nextCall } = fakeBelow();
  const options = deadline === undefined ? optionsOf() : { ...optionsOf(), deadline };
  const call = idempotencyKey({ source: "request-hash", clock })(options, nextCall);
  call.start(new Metadata(), {});
  expect([calls, clock.pending]).toEqual([[], { refs: 0, unrefs: 0 }]);
});

describe("a call that waits for its request", () => {
  /** A call of a handler, and how many calls follow the handler's own. */
  function inside(flags?: number) {
    const { clock } = inMemoryTransport();
    const inbound = new InboundCall({
      method: path.unary,
      kind: "unary",
      caller: { getPeer: () => "", getAuthContext: () => ({}) },
      clock,
      report: () => {},
      startedAtMs: 0,
      deadlineMs: Number.POSITIVE_INFINITY,
    });
    let followers = 0;
    inbound.onCancelled = () => {
      followers += 1;
      return () => {
        followers -= 1;
      };
    };
    const { nextCall } = fakeBelow();
    const interceptor = idempotencyKey({ source: () => "key", clock });
    const options = {
      ...optionsOf("unary"),
      ...(flags !== undefined && { propagate_flags: flags }),
    };
    const call = runInbound(inbound, () => interceptor(options, nextCall));
    call.start(new Metadata(), {});
    return { call, followers: () => followers };
  }

  it("follows its inbound call only until it has it", () => {
    const { call, followers } = inside();
    expect(followers()).toBe(1);
    call.sendMessage("request");
    expect(followers()).toBe(0);
  });

  it("does not follow its inbound call where its options say so", () => {
    expect(inside(propagate.DEADLINE).followers()).toBe(0);
    expect(inside(propagate.CANCELLATION).followers()).toBe(1);
  });
});

it("a key is 1 to 255 printable ASCII characters with none but spaces inside", () => {
  const good = ["a", "~".repeat(255), "8e03978e-40d5", '"quoted"', "two words", "a,b"];
  const bad = [
    "",
    " ",
    " a",
    "a ",
    "a".repeat(256),
    "é",
    "a\tb",
    "a\n",
    "a\u007f",
    7,
    null,
    undefined,
  ];
  expect(good.filter((key) => !isIdempotencyKey(key))).toEqual([]);
  expect(bad.filter((key) => isIdempotencyKey(key))).toEqual([]);
});

it.each([
  [{ source: "ulid" }, "idempotencyKey.source"],
  [{ honoured: "yes" }, "idempotencyKey.honoured"],
  [{ uuid: "abc" }, "idempotencyKey.uuid"],
  [{ honored: true }, "idempotencyKey.honored"],
  [{ mode: "off" }, "idempotencyKey.mode"],
  [null, "idempotencyKey"],
])("nonsense is refused while building: %j", (options, option) => {
  const build = () => idempotencyKey(options as never);
  expect(build).toThrow(InvalidOptionError);
  expect(build).toThrow(new RegExp(`^${option} (must be|is not an option;) `));
});

/** Hands the request on later, as an interceptor does that signs it or looks something up. */
function holdingUp(
  clockOf: () => { schedule(ms: number, task: () => void): unknown },
  delayMs: number,
): Interceptor {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      sendMessage(message, next) {
        clockOf().schedule(delayMs, () => next(message));
      },
    });
}
