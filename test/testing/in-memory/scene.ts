import {
  type CallOptions,
  InterceptingCall,
  type Interceptor,
  Metadata,
  type MetadataValue,
  ServerInterceptingCall,
  type ServerInterceptor,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import type { Clock } from "../../../src/core/clock.js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import type { Link, Transport } from "../../../src/testing/transport.js";

export const payload = Buffer.alloc(0);

/** Handlers that answer at once; a test replaces those it cares about. */
export const echo: ConformanceServiceServer = {
  unary: (call, callback) => callback(null, call.request),
  clientStream(call, callback) {
    const sequences: number[] = [];
    call.on("data", (request: { sequence: number }) => sequences.push(request.sequence));
    call.on("end", () => callback(null, { payload, sequences }));
  },
  serverStream(call) {
    for (let sequence = 1; sequence <= call.request.sequence; sequence++) {
      call.write({ payload, sequence });
    }
    call.end();
  },
  bidiStream(call) {
    call.on("data", (request: { payload: Buffer; sequence: number }) => call.write(request));
    call.on("end", () => call.end());
  },
};

/** What the interceptors nearest the wire saw, each side by itself. */
export interface Trace {
  readonly client: string[];
  readonly server: string[];
}

function shown(message: unknown): string {
  if (message === null) return "null";
  const { sequence, sequences } = message as { sequence?: number; sequences?: number[] };
  return sequences === undefined ? String(sequence) : `[${sequences.join()}]`;
}

function keys(metadata: Metadata | null | undefined): string {
  return Object.keys(metadata?.toJSON() ?? {})
    .toSorted()
    .join();
}

function recordClient(trace: string[]): Interceptor {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start(metadata, _listener, next) {
        next(metadata, {
          onReceiveMetadata(received, forward) {
            trace.push(`metadata ${keys(received)}`);
            forward(received);
          },
          onReceiveMessage(message, forward) {
            trace.push(`message ${shown(message)}`);
            forward(message);
          },
          onReceiveStatus(received, forward) {
            trace.push(
              `status ${status[received.code]} "${received.details}" ${keys(received.metadata)}`,
            );
            forward(received);
          },
        });
      },
    });
}

function recordServer(trace: string[]): ServerInterceptor {
  return (method, call) => {
    trace.push(`call ${method.path.split("/").at(-1)}`);
    return new ServerInterceptingCall(call, {
      start(next) {
        next({
          onReceiveMetadata(metadata, forward) {
            trace.push(`metadata ${keys(metadata)}`);
            forward(metadata);
          },
          onReceiveMessage(message, forward) {
            trace.push(`message ${shown(message)}`);
            forward(message);
          },
          onReceiveHalfClose(forward) {
            trace.push("half-close");
            forward();
          },
          onCancel() {
            trace.push("end");
          },
        });
      },
      sendMetadata(metadata, next) {
        trace.push("sends metadata");
        next(metadata);
      },
      sendMessage(message, next) {
        trace.push(`sends message ${shown(message)}`);
        next(message);
      },
      sendStatus(sent, next) {
        trace.push(`sends status ${status[sent.code]}`);
        next(sent);
      },
    });
  };
}

export interface Scene {
  readonly clock: Clock;
  readonly link: Link;
  readonly client: ConformanceServiceClient;
  readonly trace: Trace;
}

export async function open(
  transport: Transport,
  handlers: Partial<ConformanceServiceServer> = {},
  more: {
    readonly client?: Interceptor;
    readonly server?: ServerInterceptor;
    readonly channel?: Record<string, number>;
  } = {},
): Promise<Scene> {
  const trace: Trace = { client: [], server: [] };
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation: { ...echo, ...handlers } as ConformanceServiceServer,
    clientOptions: {
      ...more.channel,
      interceptors: [...(more.client ? [more.client] : []), recordClient(trace.client)],
    },
    serverInterceptors: [recordServer(trace.server), ...(more.server ? [more.server] : [])],
  });
  return { clock: transport.clock, link, client: link.client(ConformanceServiceClient), trace };
}

/** Waits until neither side sees anything new: over sockets that takes its time on a busy machine. */
export async function quiet({ link, trace }: Scene): Promise<void> {
  let before = -1;
  let still = 0;
  while (still < 3) {
    const now = trace.client.length + trace.server.length;
    still = now === before ? still + 1 : 0;
    before = now;
    await link.pass(15);
  }
}

export interface Ended {
  readonly code: status;
  readonly details: string;
  readonly metadata: Record<string, MetadataValue[]>;
  readonly responses: number[];
  readonly peer: string;
}

interface Watched {
  on(event: "status", listener: (received: StatusObject) => void): unknown;
  getPeer(): string;
}

/** Settles with the status of a call, and what it received before. */
export function ended(call: Watched, responses: number[] = []): Promise<Ended> {
  return new Promise((resolve) => {
    call.on("status", ({ code, details, metadata }) => {
      resolve({ code, details, metadata: metadata.toJSON(), responses, peer: call.getPeer() });
    });
  });
}

export function unary(
  client: ConformanceServiceClient,
  options: Partial<CallOptions> = {},
  metadata = new Metadata(),
): Promise<Ended> {
  const responses: number[] = [];
  return ended(
    client.unary({ payload, sequence: 1 }, metadata, options, (_error, response) => {
      if (response !== undefined) responses.push(response.sequence);
    }),
    responses,
  );
}

/** Reads everything, as fast as it comes. */
export function serverStream(
  client: ConformanceServiceClient,
  sequence: number,
  options: Partial<CallOptions> = {},
): Promise<Ended> {
  const responses: number[] = [];
  const call = client.serverStream({ payload, sequence }, options);
  call.on("data", (response: { sequence: number }) => responses.push(response.sequence));
  call.on("error", () => {}); // the status says it too
  return ended(call, responses);
}
