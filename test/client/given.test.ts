import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type CallOptions,
  Client,
  type ClientOptions,
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
import { describe, expect, it } from "vitest";
import type { ClientPolicy } from "../../src/client/method-policy.js";
import { staleCache } from "../../src/client/stale-cache.js";
import { Status as RpcStatus } from "../../src/gen/google/rpc/status.js";
import { ConformanceServiceService } from "../../src/gen/weir/v1/conformance.js";
import type { SurroundingsOptions } from "../../src/grpc/surroundings.js";
import { inMemoryTransport } from "../../src/testing/in-memory.js";
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
  readonly client?: (surroundings: SurroundingsOptions) => ClientOptions;
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
