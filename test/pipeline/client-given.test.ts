import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type CallOptions,
  Client,
  type ClientOptions,
  InterceptingCall,
  type Interceptor,
  Metadata,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type ServiceError,
  status as Status,
  type sendUnaryData,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { afterEach, describe, expect, it, vi } from "vitest";
import { Status as RpcStatus } from "../../src/gen/google/rpc/status.js";
import { ConformanceServiceService } from "../../src/gen/weir/v1/conformance.js";
import type { EnvironmentOptions } from "../../src/grpc/environment.js";
import type { ClientPolicy } from "../../src/pipeline/client.js";
import { fallback } from "../../src/policies/fallback/client.js";
import { alternative, value } from "../../src/policies/fallback/client-providers.js";
import { staleCache } from "../../src/policies/fallback/stale-cache/client-cache.js";
import { faults } from "../../src/policies/faults/client.js";
import { idempotencyKey } from "../../src/policies/idempotency/client.js";
import { rate } from "../../src/policies/rate-limit/client.js";
import { hedge, retry } from "../../src/policies/retry/client.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { createWeir } from "../../src/weir.js";

/** A kind of request that its owner uses again: `fill` makes it the request of this number. */
interface Codec<T> {
  readonly serialize: (message: T) => Buffer;
  readonly make: () => T;
  readonly fill: (message: T, number: number) => void;
  /** Hands on memory of the message. What is sent at once grpc-js copies a little later, as without the toolkit. */
  readonly shares?: boolean;
}

function codec<T>(given: Codec<T>): Codec<unknown> {
  // What is filled and serialized is what the same codec has made.
  return given as Codec<unknown>;
}

const root = fileURLToPath(new URL("../..", import.meta.url));
const loaded = loadSync("weir/v1/conformance.proto", { includeDirs: [join(root, "proto")] });
const loadedMethods = Object.values(loaded["weir.v1.ConformanceService"] as ServiceDefinition);
const loadedMethod = loadedMethods.find(({ path }) => path.endsWith("/Unary"));
if (loadedMethod === undefined) throw new Error("the schema has no such method");

/** Keeps its state where no copy gets at it. */
class Sealed {
  #number = 0;
  set number(number: number) {
    this.#number = number;
  }
  get number() {
    return this.#number;
  }
}

/** As google-protobuf makes messages: an array behind methods. */
class ArrayMessage {
  array: unknown[] = [0, [Buffer.alloc(4)]];
  setNumber(number: number) {
    this.array[0] = number;
    (this.array[1] as Buffer[])[0]?.writeInt32BE(number);
  }
  serializeBinary() {
    return Buffer.from(JSON.stringify(this.array));
  }
}

const codecs = {
  "ts-proto": codec({
    serialize: ConformanceServiceService.unary.requestSerialize,
    make: () => ({ payload: Buffer.alloc(4), sequence: 0 }),
    fill(message, number) {
      message.sequence = number;
      message.payload.writeInt32BE(number);
    },
  }),
  "nested ts-proto": codec({
    serialize: (message) => Buffer.from(RpcStatus.encode(message).finish()),
    make: () => ({ code: 1, message: "", details: [{ typeUrl: "", value: Buffer.alloc(4) }] }),
    fill({ details: [detail] }, number) {
      if (detail === undefined) return;
      detail.typeUrl = `type ${number}`;
      detail.value.writeInt32BE(number);
    },
  }),
  "proto-loader": codec({
    serialize: loadedMethod.requestSerialize,
    make: () => ({ payload: Buffer.alloc(4), sequence: 0 }),
    fill(message, number) {
      message.sequence = number;
      message.payload.writeInt32BE(number);
    },
  }),
  "raw buffer": codec({
    serialize: (message: Buffer) => message,
    shares: true,
    make: () => Buffer.alloc(4),
    fill: (message, number) => message.writeInt32BE(number),
  }),
  "long raw buffer": codec({
    serialize: (message: Buffer) => message,
    shares: true,
    make: () => Buffer.alloc(20_000),
    fill: (message, number) => message.fill(number),
  }),
  "buffer in an object": codec({
    serialize: ({ body: { part } }) => part,
    shares: true,
    make: () => ({ body: { part: Buffer.alloc(20_000) } }),
    fill: ({ body: { part } }, number) => part.fill(number),
  }),
  "class with an array": codec({
    serialize: (message) => message.serializeBinary(),
    make: () => new ArrayMessage(),
    fill: (message, number) => message.setNumber(number),
  }),
  "class with private state": codec({
    serialize: (message) => Buffer.from(String(message.number)),
    make: () => new Sealed(),
    fill(message, number) {
      message.number = number;
    },
  }),
} as const;

const kinds = ["unary", "clientStream", "serverStream", "bidiStream"] as const;
type Kind = (typeof kinds)[number];
const streamsRequest = (kind: Kind) => kind === "clientStream" || kind === "bidiStream";

/** What the server does with the first calls; it answers the others. */
type Fate = "fail" | "hang" | "cut" | undefined;

interface Way {
  readonly policy: ClientPolicy;
  readonly fates?: readonly Fate[];
  /** Another call is made before. */
  readonly behind?: boolean;
  /** Requests that reach the server. */
  readonly sent: number;
  readonly kinds?: readonly Kind[];
}

const ways: Readonly<Record<string, Way>> = {
  "at once": { policy: {}, sent: 1 },
  "in a retry": { policy: {}, fates: ["fail", "fail"], sent: 3 },
  "in a hedge": {
    policy: { retry: { idempotent: true }, hedge: { delayMs: 30 } },
    fates: ["hang"],
    sent: 2,
  },
  "after a bulkhead's queue": {
    policy: { retry: false, bulkhead: { maxConcurrent: 1, maxQueued: 10, maxWaitMs: 5_000 } },
    behind: true,
    sent: 1,
  },
  "in a retry behind a bulkhead's queue": {
    policy: { bulkhead: { maxConcurrent: 1, maxQueued: 10, maxWaitMs: 5_000 } },
    behind: true,
    fates: [undefined, "fail"],
    sent: 2,
  },
  "after a rate's queue": {
    policy: { retry: false, rate: { ratePerSecond: 1, burst: 1, maxWaitMs: 5_000 } },
    behind: true,
    sent: 1,
  },
  "with a key of the request": {
    policy: { idempotencyKey: { source: "request-hash" } },
    fates: ["fail"],
    sent: 2,
    kinds: ["unary", "serverStream"],
  },
  "past a stale cache": {
    policy: { fallback: { providers: [staleCache({ shared: true, freshMs: 1 })] } },
    fates: ["fail"],
    sent: 2,
    kinds: ["unary", "serverStream"],
  },
};

interface Seen {
  readonly requests: string[];
  readonly tenant: string;
  readonly key: string | undefined;
}

interface Answer {
  readonly text: string;
}
const answerCodec = {
  serialize: (answer: Answer) => Buffer.from(answer.text),
  deserialize: (bytes: Buffer): Answer => ({ text: bytes.toString() }),
};
const down = { code: Status.UNAVAILABLE, details: "down" };
const asIs = (bytes: Buffer) => bytes;

/** A server that notes the bytes of what it is sent, and a client of it. */
async function setup(options: {
  readonly policy?: ClientPolicy;
  readonly fates?: readonly Fate[] | undefined;
  readonly client?: (environment: EnvironmentOptions) => ClientOptions;
}) {
  const transport = inMemoryTransport();
  const { clock, random } = transport;
  const fates: Fate[] = [...(options.fates ?? [])];
  const calls: Seen[] = [];
  const note = (metadata: Metadata): Seen => {
    const [tenant] = metadata.get("x-tenant");
    const [key] = metadata.get("idempotency-key");
    const seen = { requests: [], tenant: String(tenant), key: key?.toString() };
    calls.push(seen);
    return seen;
  };
  const single = (requests: Buffer[], metadata: Metadata, callback: sendUnaryData<Answer>) => {
    const fate = fates.shift();
    note(metadata).requests.push(...requests.map((bytes) => bytes.toString("hex")));
    if (fate === "fail") callback(down);
    else if (fate === undefined) clock.schedule(10, () => callback(null, { text: "answer" }));
  };
  const streamed = (
    requests: Buffer[],
    call: Pick<ServerWritableStream<Buffer, Answer>, "metadata" | "emit" | "write"> & {
      end(): void;
    },
  ) => {
    const fate = fates.shift();
    note(call.metadata).requests.push(...requests.map((bytes) => bytes.toString("hex")));
    if (fate === "fail") call.emit("error", down);
    else if (fate !== "hang") {
      call.write({ text: String(calls.length) });
      if (fate === "cut") clock.schedule(10, () => call.emit("error", down));
      else clock.schedule(10, () => call.end());
    }
  };
  const whole = (call: NodeJS.EventEmitter, then: (requests: Buffer[]) => void) => {
    const requests: Buffer[] = [];
    call.on("data", (bytes: Buffer) => requests.push(bytes));
    call.on("end", () => then(requests));
  };
  const weir = createWeir({ clock, random });
  const link = await transport.open({
    service: Object.fromEntries(
      kinds.map((kind) => {
        const requestStream = streamsRequest(kind);
        const responseStream = kind === "serverStream" || kind === "bidiStream";
        const method = {
          path: `/t.S/${kind}`,
          requestStream,
          responseStream,
          requestSerialize: asIs,
          requestDeserialize: asIs,
          responseSerialize: answerCodec.serialize,
          responseDeserialize: answerCodec.deserialize,
        };
        return [kind, method];
      }),
    ),
    implementation: {
      unary: (call: ServerUnaryCall<Buffer, Answer>, callback: sendUnaryData<Answer>) =>
        single([call.request], call.metadata, callback),
      clientStream: (call: ServerReadableStream<Buffer, Answer>, callback: sendUnaryData<Answer>) =>
        whole(call, (requests) => single(requests, call.metadata, callback)),
      serverStream: (call: ServerWritableStream<Buffer, Answer>) => streamed([call.request], call),
      bidiStream: (call: ServerDuplexStream<Buffer, Answer>) =>
        whole(call, (requests) => streamed(requests, call)),
    },
    clientOptions: options.client?.({ clock, random }) ?? weir.client(options.policy),
    serverInterceptors: [],
  });
  return { client: link.client(Client), link, calls, clock };
}

/** Makes a call whose objects are used for something else as soon as it is in the hands of the client. */
function make(
  client: Client,
  kind: Kind,
  { serialize, make: makeRequest, fill, shares = false }: Codec<unknown>,
  number = 1,
  options: CallOptions = {},
): Promise<{ readonly error: ServiceError | undefined; readonly answers: readonly string[] }> {
  const path = `/t.S/${kind}`;
  const request = makeRequest();
  const metadata = new Metadata();
  metadata.set("x-tenant", `A${number}`);
  const { deserialize } = answerCodec;
  const answers: string[] = [];
  const use = () => {
    fill(request, 99);
    metadata.set("x-tenant", "B");
  };
  return new Promise((resolve) => {
    const done = (error?: ServiceError | null) => resolve({ error: error ?? undefined, answers });
    const single = (error: ServiceError | null, answer?: Answer) => {
      if (answer !== undefined) answers.push(answer.text);
      done(error);
    };
    const streamed = (stream: NodeJS.EventEmitter) =>
      stream
        .on("data", ({ text }: Answer) => answers.push(text))
        .on("error", done)
        .on("end", () => setImmediate(done));
    const writeAll = async (stream: { write(m: unknown, cb: () => void): void; end(): void }) => {
      for (let each = 0; each < 3; each++) {
        fill(request, number + each);
        await new Promise<void>((written) => {
          stream.write(request, written);
          if (each === 0 || !shares) use();
        });
        use();
      }
      stream.end();
    };
    fill(request, number);
    switch (kind) {
      case "unary":
        client.makeUnaryRequest(path, serialize, deserialize, request, metadata, options, single);
        use();
        break;
      case "serverStream":
        streamed(
          client.makeServerStreamRequest(path, serialize, deserialize, request, metadata, options),
        );
        use();
        break;
      case "clientStream":
        void writeAll(
          client.makeClientStreamRequest(path, serialize, deserialize, metadata, options, single),
        );
        break;
      case "bidiStream": {
        const stream = client.makeBidiStreamRequest(
          path,
          serialize,
          deserialize,
          metadata,
          options,
        );
        streamed(stream);
        void writeAll(stream);
        break;
      }
    }
  });
}

/** The bytes of the requests of a call. */
function expected({ serialize, make: makeRequest, fill }: Codec<unknown>, kind: Kind, number = 1) {
  const numbers = streamsRequest(kind) ? [number, number + 1, number + 2] : [number];
  return numbers.map((each) => {
    const request = makeRequest();
    fill(request, each);
    return serialize(request).toString("hex");
  });
}

describe.each(Object.entries(codecs))("a request of the kind %s", (_name, each) => {
  describe.each(kinds)("of %s", (kind) => {
    const suited = Object.entries(ways).filter(([, way]) => way.kinds?.includes(kind) !== false);
    it.each(suited)("is sent as it was given %s", async (_way, { policy, fates, behind, sent }) => {
      const { client, link, calls } = await setup({ policy, fates });
      if (behind === true) void make(client, "unary", each, 70);
      const { error } = await link.until(make(client, kind, each), 1e6);
      expect(error).toBeUndefined();
      const own = calls.filter(({ tenant }) => tenant !== "A70");
      expect(own).toHaveLength(sent);
      for (const { requests, tenant } of own) {
        expect(tenant).toBe("A1");
        expect(requests).toEqual(expected(each, kind));
      }
    });
  });
});

const tsProto = codecs["ts-proto"];
type Request = { payload: Buffer; sequence: number };
const request = (number: number): Request => {
  const made = tsProto.make();
  tsProto.fill(made, number);
  return made as Request;
};

afterEach(() => vi.restoreAllMocks());

describe("an interceptor that stands alone", () => {
  const alone: Readonly<Record<string, (given: EnvironmentOptions) => readonly Interceptor[]>> = {
    retry: (given) => [retry(given)],
    hedge: (given) => [hedge({ ...given, delayMs: 5, retry: { idempotent: true } })],
    "rate above retry": (given) => [
      rate({ ...given, ratePerSecond: 1, burst: 1, maxWaitMs: 5_000 }),
      retry(given),
    ],
    "rate below retry": (given) => [
      retry(given),
      rate({ ...given, ratePerSecond: 1, burst: 1, maxWaitMs: 5_000 }),
    ],
    "keys above retry": (given) => [idempotencyKey(given), retry(given)],
  };

  it.each(Object.entries(alone))("sends what was given: %s", async (_name, interceptors) => {
    const { client, link, calls } = await setup({
      client: (given) => ({ interceptors: [...interceptors(given)] }),
      fates: ["fail"],
    });
    const [first, second] = [make(client, "unary", tsProto, 1), make(client, "unary", tsProto, 5)];
    await link.until(Promise.all([first, second]), 1e6);
    expect(calls.length).toBeGreaterThan(2);
    for (const { tenant, requests } of calls) {
      expect(["A1", "A5"]).toContain(tenant);
      expect(requests).toEqual(expected(tsProto, "unary", tenant === "A1" ? 1 : 5));
    }
  });

  it("holds an attempt up by a fault, and then sends what was given", async () => {
    vi.stubEnv("GRPC_WEIR_FAULTS", "1");
    const latency = { rate: 1, ms: 100 };
    const { client, link, calls } = await setup({
      client: (given) => ({ interceptors: [faults({ ...given, latency })] }),
    });
    vi.unstubAllEnvs();
    await link.until(make(client, "unary", tsProto), 1e6);
    expect(calls).toMatchObject([{ tenant: "A1", requests: expected(tsProto, "unary") }]);
  });
});

describe("a function of the user's that is given the request", () => {
  it("resumes from the first request as it was given, and what it returns is sent as it was", async () => {
    const seen: Request[] = [];
    const resume = {
      token: (answer: unknown) => (answer as Answer).text,
      request(given: unknown, token: unknown) {
        const first = given as Request;
        seen.push({ ...first, payload: Buffer.from(first.payload) });
        first.sequence = 10 + Number(token);
        // Another turn, and the object is used for something else.
        queueMicrotask(() => tsProto.fill(first, 99));
        return first;
      },
    };
    const { client, link, calls } = await setup({
      policy: { retry: { resume, maxAttempts: 5 } },
      fates: ["cut", "fail", "cut"],
    });
    const { answers } = await link.until(make(client, "serverStream", tsProto), 1e6);
    expect(answers).toEqual(["1", "3", "4"]);
    expect(seen).toEqual([request(1), request(1)]);
    const continued = (sequence: number) =>
      tsProto.serialize({ ...request(1), sequence }).toString("hex");
    expect(calls.map(({ requests }) => requests[0])).toEqual([
      ...expected(tsProto, "unary"),
      continued(11),
      continued(11),
      continued(13),
    ]);
    expect(new Set(calls.map(({ tenant }) => tenant))).toEqual(new Set(["A1"]));
  });

  const answered = { text: "elsewhere" };

  it("answers from the request as it was given, whatever another did to its own", async () => {
    const seen: unknown[] = [];
    const spoil = value((given: Request, { metadata }) => {
      seen.push({ payload: Buffer.from(given.payload), tenant: metadata.get("x-tenant") });
      tsProto.fill(given, 50);
      metadata.set("x-tenant", "C");
      return undefined;
    });
    const answers = value(
      (given: Request, { metadata }) => {
        seen.push({ payload: Buffer.from(given.payload), tenant: metadata.get("x-tenant") });
        return answered;
      },
      { name: "second" },
    );
    const { client, link } = await setup({
      policy: { retry: false, fallback: { providers: [spoil, answers] } },
      fates: ["fail"],
    });
    const { answers: got } = await link.until(make(client, "unary", tsProto), 1e6);
    expect(got).toEqual(["elsewhere"]);
    const { payload } = request(1);
    expect(seen).toEqual([
      { payload, tenant: ["A1"] },
      { payload, tenant: ["A1"] },
    ]);
  });

  it("asks another client with what was given", async () => {
    const other = await setup({});
    class Other extends Client {
      ask(given: unknown, metadata: Metadata, options: CallOptions, done: () => void) {
        const { deserialize } = answerCodec;
        const { serialize } = tsProto;
        return this.makeUnaryRequest(
          "/t.S/unary",
          serialize,
          deserialize,
          given,
          metadata,
          options,
          done,
        );
      }
    }
    const { client, link } = await setup({
      client: (given) => ({
        interceptors: [
          fallback({ ...given, providers: [alternative(other.link.client(Other), "ask")] }),
        ],
      }),
      fates: ["fail"],
    });
    void make(client, "unary", tsProto);
    await link.pass(100);
    await other.link.pass(100);
    expect(other.calls).toMatchObject([{ tenant: "A1", requests: expected(tsProto, "unary") }]);
  });

  it("looks into a slow store, and then sends and shares what was given", async () => {
    const store = { get: async () => undefined, set: () => {} };
    const { client, link, calls } = await setup({
      policy: { fallback: { providers: [staleCache({ shared: true, freshMs: 100, store })] } },
      fates: ["fail"],
    });
    const both = [make(client, "unary", tsProto), make(client, "unary", tsProto)];
    await link.until(Promise.all(both), 1e6);
    expect(calls).toHaveLength(2);
    for (const { requests, tenant } of calls) {
      expect([tenant, requests]).toEqual(["A1", expected(tsProto, "unary")]);
    }
  });
});

/** An interceptor of somebody else's. */
function foreign(
  send: (message: unknown, next: (message: unknown) => void) => void,
  start: (metadata: Metadata) => void = () => {},
): Interceptor {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start(metadata, listener, next) {
        start(metadata);
        next(metadata, listener);
      },
      sendMessage: send,
    });
}

describe.each(["ts-proto", "nested ts-proto", "class with an array"] as const)(
  "somebody else's interceptor below, with %s",
  (name) => {
    const each = codecs[name];
    const fresh = (number: number) => {
      const made = each.make();
      each.fill(made, number);
      return made;
    };
    const below = (interceptor: Interceptor, fates: readonly Fate[] = ["fail", "fail"]) =>
      setup({ client: (given) => ({ interceptors: [retry(given), interceptor] }), fates });

    it("reads in every attempt the message that was given, of the same type", async () => {
      const seen: unknown[] = [];
      const { client, link, calls } = await below(
        foreign((message, next) => {
          seen.push(structuredClone({ message }).message);
          expect(Object.getPrototypeOf(message)).toBe(Object.getPrototypeOf(each.make()));
          next(message);
        }),
      );
      await link.until(make(client, "unary", each), 1e6);
      const given = structuredClone({ message: fresh(1) }).message;
      expect(seen).toEqual([given, given, given]);
      for (const { requests } of calls) expect(requests).toEqual(expected(each, "unary"));
    });

    it("changes in one attempt nothing of the next, in message or metadata", async () => {
      const tags: number[] = [];
      const { client, link, calls } = await below(
        foreign(
          (message, next) => {
            each.fill(message, 7);
            next(message);
          },
          (metadata) => {
            metadata.add("x-tag", "1");
            tags.push(metadata.get("x-tag").length);
          },
        ),
      );
      await link.until(make(client, "unary", each), 1e6);
      expect(tags).toEqual([1, 1, 1]);
      for (const { requests } of calls) expect(requests).toEqual(expected(each, "unary", 7));
    });

    it("sends the message that it puts in the place of the one it was given", async () => {
      const { client, link, calls } = await below(foreign((_message, next) => next(fresh(8))));
      await link.until(make(client, "unary", each), 1e6);
      expect(calls).toHaveLength(3);
      for (const { requests } of calls) expect(requests).toEqual(expected(each, "unary", 8));
    });

    it.each(kinds)("may copy the definition above, in %s", async (kind) => {
      const copies: Interceptor = (options, nextCall) =>
        new InterceptingCall(
          nextCall({ ...options, method_definition: { ...options.method_definition } }),
        );
      const { client, link, calls } = await setup({
        client: (given) => ({ interceptors: [copies, retry(given)] }),
        fates: ["fail"],
      });
      await link.until(make(client, kind, each), 1e6);
      expect(calls).toHaveLength(2);
      for (const { requests } of calls) expect(requests).toEqual(expected(each, kind));
    });

    it("is given a message behind a queue that was closed when the message came", async () => {
      const seen: unknown[] = [];
      const { client, link } = await setup({
        client: (given) => ({
          interceptors: [
            rate({ ...given, ratePerSecond: 1, burst: 1, maxWaitMs: 5_000 }),
            foreign((message, next) => {
              seen.push(structuredClone({ message }).message);
              next(message);
            }),
          ],
        }),
      });
      await link.until(
        Promise.all([make(client, "unary", each, 1), make(client, "unary", each, 2)]),
        1e6,
      );
      expect(seen).toEqual(structuredClone([fresh(1), fresh(2)]));
    });
  },
);

describe("metadata that is given", () => {
  it("keeps its options and what is attached to it in every attempt, as they were", async () => {
    const seen: unknown[] = [];
    const note = foreign(
      (message, next) => next(message),
      (metadata) => seen.push([metadata.getOptions(), metadata.getOpaque("mine")]),
    );
    const { client, link } = await setup({
      client: (given) => ({ interceptors: [retry(given), note] }),
      fates: ["fail"],
    });
    const options = { waitForReady: true };
    const metadata = new Metadata(options);
    metadata.setOpaque("mine", 1);
    const { serialize } = tsProto;
    const { deserialize } = answerCodec;
    const done = new Promise((resolve) => {
      client.makeUnaryRequest("/t.S/unary", serialize, deserialize, request(1), metadata, resolve);
    });
    options.waitForReady = false;
    metadata.setOpaque("mine", 2);
    await link.until(done, 1e6);
    expect(seen).toEqual([
      [{ waitForReady: true }, 1],
      [{ waitForReady: true }, 1],
    ]);
    expect(metadata.get("grpc-previous-rpc-attempts")).toEqual([]);
  });
});

describe("a deadline that is given as a Date", () => {
  it.each([
    ["in the pipeline", { policy: { retry: false } as const }],
    [
      "past a rate that stands alone",
      {
        client: (given: EnvironmentOptions) => ({
          interceptors: [rate({ ...given, ratePerSecond: 1, burst: 1, maxWaitMs: 5_000 })],
        }),
      },
    ],
  ])("is what it was when the call was made, %s", async (_name, options) => {
    const { client, link, clock } = await setup({ ...options, fates: ["hang", "hang"] });
    const startedMs = clock.now();
    void make(client, "unary", tsProto);
    const deadline = new Date(clock.wallNow() + 3_000);
    const call = make(client, "unary", tsProto, 1, { deadline });
    deadline.setTime(clock.wallNow() + 30_000);
    const { error } = await link.until(call, 1e6);
    expect(error?.code).toBe(Status.DEADLINE_EXCEEDED);
    expect(clock.now() - startedMs).toBeLessThan(3_100);
  });
});

describe("a request that cannot be serialized", () => {
  const broken = (times: { count: number }) => ({
    ...tsProto,
    serialize(message: unknown) {
      times.count += 1;
      if ((message as Request).sequence === 2) throw new Error("no such field");
      return tsProto.serialize(message);
    },
  });

  it.each(["unary", "serverStream"] as const)(
    "ends a %s as grpc-js does, and is asked for once",
    async (kind) => {
      const times = { count: 0 };
      const { client, link, calls } = await setup({});
      const { error } = await link.until(make(client, kind, broken(times), 2), 1e6);
      expect([error?.code, error?.details]).toEqual([
        Status.INTERNAL,
        "Request message serialization failure: no such field",
      ]);
      expect(calls).toEqual([]);
      expect(times.count).toBe(1);
    },
  );

  it.each(["clientStream", "bidiStream"] as const)(
    "ends a %s whose message it is",
    async (kind) => {
      const { client, link } = await setup({});
      const { error } = await link.until(make(client, kind, broken({ count: 0 })), 1e6);
      expect(error?.details).toBe("Request message serialization failure: no such field");
    },
  );

  it("ends a call that had to wait, when it is sent", async () => {
    const { client, link, calls } = await setup({
      policy: { rate: { ratePerSecond: 1, burst: 1, maxWaitMs: 5_000 } },
    });
    void make(client, "unary", tsProto, 70);
    const { error } = await link.until(make(client, "unary", broken({ count: 0 }), 2), 1e6);
    expect(error?.details).toBe("Request message serialization failure: no such field");
    expect(calls).toHaveLength(1);
  });
});

describe("what it costs", () => {
  const counted = (times: { count: number }) => ({
    ...tsProto,
    serialize(message: unknown) {
      times.count += 1;
      return tsProto.serialize(message);
    },
  });
  const clonesOf = async (options: Parameters<typeof setup>[0]) => {
    const { client, link } = await setup(options);
    const clone = vi.spyOn(Metadata.prototype, "clone");
    await link.until(make(client, "unary", tsProto), 1e6);
    const { length } = clone.mock.calls;
    clone.mockRestore();
    return length;
  };

  it.each(kinds)("serializes each message of a %s once that succeeds at once", async (kind) => {
    const times = { count: 0 };
    const { client, link } = await setup({});
    await link.until(make(client, kind, counted(times)), 1e6);
    expect(times.count).toBe(streamsRequest(kind) ? 3 : 1);
  });

  it.each(Object.entries(ways))("serializes each message once, %s", async (_name, way) => {
    const { policy, fates, behind } = way;
    const times = { count: 0 };
    const { client, link } = await setup({ policy, fates });
    if (behind === true) void make(client, "unary", tsProto, 70);
    await link.until(make(client, "unary", counted(times)), 1e6);
    expect(times.count).toBe(1);
  });

  it.each([
    ["the pipeline", {}],
    ["a retry that stands alone", { client: (given) => ({ interceptors: [retry(given)] }) }],
    ["a key of the request", { policy: { idempotencyKey: { source: "request-hash" } } }],
    ["a stale cache", { policy: { fallback: { providers: [staleCache({ shared: true })] } } }],
  ] satisfies [string, Parameters<typeof setup>[0]][])(
    "reads nothing of a message but to serialize it, with %s",
    async (_name, options) => {
      let reads = 0;
      const each = {
        make: () => ({
          get text() {
            reads += 1;
            return "text";
          },
        }),
        fill: () => {},
        serialize: (message: unknown) => Buffer.from((message as { text: string }).text),
      };
      const { client, link } = await setup(options);
      await link.until(make(client, "unary", each), 1e6);
      expect(reads).toBe(1);
    },
  );

  it("copies the metadata of a unary call once more than grpc-js does", async () => {
    const bare = await clonesOf({ client: () => ({}) });
    expect(await clonesOf({})).toBe(bare + 1);
    expect(await clonesOf({ policy: { retry: false } })).toBe(bare);
    expect(await clonesOf({ policy: { idempotencyKey: {} } })).toBe(bare + 1);
  });
});
