import { type ClientHttp2Session, connect, constants } from "node:http2";
import { setTimeout as wait } from "node:timers/promises";
import {
  credentials,
  Metadata,
  Server,
  ServerInterceptingCall,
  type ServerInterceptor,
  ServerListenerBuilder,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
  UnaryRequest,
} from "../../../src/gen/weir/v1/conformance.js";
import { currentCall, rejectionOf } from "../../../src/index.js";
import type { ServerPolicy } from "../../../src/pipeline/server.js";
import { createWeir } from "../../../src/weir.js";
import { echo, path, payload } from "../../scene.js";
import { listen } from "./listen.js";

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

async function served(
  policy: ServerPolicy,
  own: Partial<Pick<ConformanceServiceServer, "unary" | "serverStream">> = {},
  interceptors: ServerInterceptor[] = [],
) {
  const weir = createWeir();
  const server = new Server(weir.server(policy, { interceptors }));
  const implementation: ConformanceServiceServer = { ...echo, ...own };
  server.addService(ConformanceServiceService, implementation);
  const port = await listen(server);
  const client = new ConformanceServiceClient(`127.0.0.1:${port}`, credentials.createInsecure());
  cleanups.push(() => {
    client.close();
    server.forceShutdown();
    weir.close();
  });
  const call = () =>
    new Promise<string>((resolve) => {
      const options = { deadline: Date.now() + 5_000 };
      const done = (error: ServiceError | null) =>
        resolve(error === null ? "OK" : (rejectionOf(error)?.reason ?? status[error.code]));
      client.unary({ payload, sequence: 1 }, new Metadata(), options, done);
    });
  const numbers = () => JSON.stringify(weir.snapshot().policies);
  return { weir, port, call, numbers };
}

/** A peer that speaks HTTP/2 and is no gRPC client. */
function peer(port: number, settings = {}): Promise<ClientHttp2Session> {
  return new Promise((resolve) => {
    const session = connect(`http://127.0.0.1:${port}`, { settings });
    session.on("error", () => {});
    session.on("connect", () => resolve(session));
    cleanups.push(() => session.destroy());
  });
}

function open(
  session: ClientHttp2Session,
  method: string,
  { request = true, timeout }: { request?: boolean; timeout?: string } = {},
) {
  const stream = session.request(
    {
      ":method": "POST",
      ":path": method,
      "content-type": "application/grpc",
      te: "trailers",
      ...(timeout === undefined ? {} : { "grpc-timeout": timeout }),
    },
    { endStream: false },
  );
  stream.on("error", () => {});
  stream.resume();
  if (request) stream.end(frame());
  return stream;
}

/** A request as it is on the wire. */
function frame(): Buffer {
  const message = UnaryRequest.encode({ payload, sequence: 1 }).finish();
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

const free = /"(running|abandoned)":[1-9]/;

describe("a peer that begins calls and never sends their requests", { timeout: 20_000 }, () => {
  it.each([
    ["unary", { admission: { limit: 5, maxQueued: 0 } }],
    ["unary", { bulkhead: { maxConcurrent: 5, maxQueued: 0 } }],
    ["serverStream", { admission: { streams: { limit: 5 } } }],
    ["unary", { admission: {} }],
  ] as const)(
    "takes no slot with %s calls, and honest ones are served: %j",
    async (kind, policy) => {
      const { port, call, numbers } = await served(policy);
      const session = await peer(port);
      for (let index = 0; index < 50; index += 1) open(session, path[kind], { request: false });
      await wait(100);
      expect(numbers()).not.toMatch(free);
      expect(await Promise.all([1, 2, 3].map(call))).toEqual(["OK", "OK", "OK"]);
    },
  );

  it("is told so in the end", async () => {
    const { port, numbers } = await served({ admission: {}, requestMs: 200 });
    const session = await peer(port);
    const stream = open(session, path.unary, { request: false });
    const headers = await new Promise<Record<string, unknown>>((resolve) => {
      stream.on("response", resolve);
    });
    expect(headers["grpc-status"]).toBe(String(status.DEADLINE_EXCEEDED));
    expect(headers["grpc-message"]).toMatch(/not%20complete%20within%20200%20ms/);
    expect(numbers()).not.toMatch(free);
  });

  it("spends no token of a quota when it is refused for it", async () => {
    const { port, call } = await served({
      quota: { ratePerSecond: 0.001, burst: 1 },
      admission: {},
      requestMs: 200,
    });
    const session = await peer(port);
    const stream = open(session, path.unary, { request: false });
    await new Promise((resolve) => stream.on("response", resolve));
    expect(await call()).toBe("OK");
    expect(await call()).toBe("RATE_LIMIT_EXCEEDED");
  });

  it.each([
    ["observe", 1],
    ["off", undefined],
  ] as const)(
    "is served when it sends it late, while what takes slots is in mode %s",
    async (mode, refused) => {
      const { weir, port } = await served({
        admission: { mode },
        bulkhead: { mode },
        requestMs: 100,
      });
      const session = await peer(port);
      const stream = open(session, path.unary, { request: false });
      const trailers = new Promise<Record<string, unknown>>((resolve) => {
        stream.on("trailers", resolve);
      });
      // The server may see the stream a while after it was opened.
      await wait(600);
      stream.end(frame());
      expect((await trailers)["grpc-status"]).toBe(String(status.OK));
      await wait(50);
      const counted = () => {
        const counts = weir.observed()["deadline-guard"]?.REQUEST_TIMEOUT;
        return [counts?.refused, counts?.success];
      };
      await expect.poll(counted).toEqual([refused, refused]);
    },
  );
});

describe("a peer that reads nothing", { timeout: 20_000 }, () => {
  it.each([
    ["unary", "300m"],
    ["unary", undefined],
    ["serverStream", "300m"],
  ] as const)(
    "holds no slot of a %s call past its answer, or its deadline (%s)",
    async (kind, timeout) => {
      const signals: AbortSignal[] = [];
      const note = () => {
        const call = currentCall();
        if (call !== undefined) signals.push(call.signal);
      };
      const { port, call, numbers } = await served(
        { admission: { limit: 20, streams: { limit: 20 } } },
        {
          unary: ({ request: { sequence } }, callback) => {
            note();
            callback(null, { payload: Buffer.alloc(100), sequence });
          },
          serverStream: (stream) => {
            note();
            stream.write({ payload: Buffer.alloc(100), sequence: 1 });
          },
        },
      );
      const session = await peer(port, { initialWindowSize: 0 });
      for (let index = 0; index < 10; index += 1) {
        open(session, path[kind], timeout === undefined ? {} : { timeout });
      }
      await wait(700);
      expect(numbers()).not.toMatch(free);
      expect(signals).toHaveLength(10);
      if (timeout !== undefined) expect(signals.every(({ aborted }) => aborted)).toBe(true);
      expect(await call()).toBe("OK");
    },
  );
});

describe("a peer that resets what it has begun", { timeout: 20_000 }, () => {
  it.each([
    ["admission", { admission: { limit: 3, maxQueued: 0 } }],
    ["bulkhead", { bulkhead: { maxConcurrent: 3, maxQueued: 0 } }],
  ] as const)(
    "has no more handlers at work than the limit of %s, whatever quick calls came before",
    async (_name, policy) => {
      let working = 0;
      let most = 0;
      const { port, call } = await served(policy, {
        unary: ({ request }, callback) => {
          working += 1;
          most = Math.max(most, working);
          setTimeout(() => {
            working -= 1;
            callback(null, request);
          }, 600);
        },
      });
      await call();
      const session = await peer(port);
      for (let index = 0; index < 40; index += 1) {
        await new Promise((resolve) => open(session, path.serverStream).on("close", resolve));
      }
      most = 0;
      for (let index = 0; index < 20; index += 1) {
        const stream = open(session, path.unary);
        await wait(10);
        stream.close(constants.NGHTTP2_CANCEL);
      }
      expect(most).toBeLessThanOrEqual(3);
    },
  );
});

describe("an interceptor of the user's own behind a limit", () => {
  /** Holds the metadata until it has the request, as one that knows a call by its request does. */
  const holdsMetadata: ServerInterceptor = (_method, call) => {
    let pass: (() => void) | undefined;
    const passed = () => {
      pass?.();
      pass = undefined;
    };
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        pass = () => next(metadata);
        call.startRead();
      })
      .withOnReceiveMessage((message, next) => {
        next(message);
        passed();
      })
      .build();
    return new ServerInterceptingCall(call, { start: (next) => next(listener) });
  };

  /** Asks for the request before anybody was told of the call. */
  const readsAhead: ServerInterceptor = (_method, call) =>
    new ServerInterceptingCall(call, {
      start: (next) => {
        next();
        call.startRead();
      },
    });

  it("that holds the metadata until it has the request has the events in grpc-js's order", async () => {
    const policy = { admission: { limit: 1, maxQueued: 10 } };
    const { call } = await served(policy, {}, [holdsMetadata]);
    expect(await Promise.all([call(), call(), call()])).toEqual(["OK", "OK", "OK"]);
  });

  it("that reads ahead has the events in grpc-js's order, however late the request comes", async () => {
    const { port } = await served({ admission: {} }, {}, [readsAhead]);
    const stream = open(await peer(port), path.unary, { request: false });
    await wait(50);
    stream.end(Buffer.alloc(5));
    const ended = new Promise((resolve) => {
      for (const event of ["response", "trailers"]) {
        stream.on(event, (headers: Record<string, unknown>) => {
          if (headers["grpc-status"] !== undefined) resolve(headers["grpc-status"]);
        });
      }
    });
    expect(await ended).toBe("0");
  });
});
