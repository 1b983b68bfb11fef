import {
  type CallOptions,
  type ClientOptions,
  Metadata,
  type ServerOptions,
  type ServiceError,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import { expect, onTestFinished } from "vitest";
import type { DecisionEvent } from "../src/core/decision.js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../src/gen/weir/v1/conformance.js";
import type { FinishedCall } from "../src/grpc/context/finished-call.js";
import type { HistoryOptions } from "../src/grpc/context/history.js";
import type { ClientPolicy } from "../src/pipeline/client.js";
import type { PolicyEvent, PolicySource, SchemaSource } from "../src/pipeline/policy-set.js";
import type { ServerPolicy } from "../src/pipeline/server.js";
import type { FlagSource } from "../src/policies/flags/source.js";
import type { TelemetryOptions } from "../src/telemetry/options.js";
import type { VirtualClock } from "../src/testing/clock/virtual-clock.js";
import {
  type InMemoryLink,
  type InMemoryOptions,
  type InMemoryTransport,
  inMemoryTransport,
} from "../src/testing/in-memory/in-memory.js";
import { createWeir, type Weir } from "../src/weir.js";

export const kinds = ["unary", "clientStream", "serverStream", "bidiStream"] as const;
export type Method = (typeof kinds)[number];

export const path = {
  unary: "/weir.v1.ConformanceService/Unary",
  clientStream: "/weir.v1.ConformanceService/ClientStream",
  serverStream: "/weir.v1.ConformanceService/ServerStream",
  bidiStream: "/weir.v1.ConformanceService/BidiStream",
} as const satisfies Record<Method, string>;

export const payload = Buffer.alloc(0);

/** How a call ended, as its caller sees it. */
export interface Ended {
  readonly code: Status;
  readonly details: string;
  readonly trailers: Metadata;
  /** Sequence numbers of what came back. */
  readonly received: readonly number[];
  readonly error: ServiceError | undefined;
}

/** A call under way. */
export interface Running {
  readonly ended: Promise<Ended>;
  readonly cancel: () => void;
}

export interface SceneOptions extends InMemoryOptions {
  readonly client?: ClientPolicy;
  readonly server?: ServerPolicy | undefined;
  readonly ownClient?: ClientOptions;
  readonly ownServer?: ServerOptions;
  readonly handlers?: ConformanceServiceServer;
  readonly telemetry?: TelemetryOptions;
  readonly onDecision?: (decision: DecisionEvent) => void;
  readonly onCall?: (call: FinishedCall) => void;
  readonly history?: HistoryOptions | false;
  readonly flags?: FlagSource;
  readonly schema?: SchemaSource;
  readonly policies?: PolicySource;
  readonly onPolicies?: (event: PolicyEvent) => void;
  /** @defaultValue fails the test */
  readonly onError?: (error: unknown) => void;
}

/** A client and a server of one weir, joined in memory. */
export interface Scene {
  readonly weir: Weir;
  readonly transport: InMemoryTransport;
  readonly clock: VirtualClock;
  readonly link: InMemoryLink;
  readonly client: ConformanceServiceClient;
  readonly decisions: DecisionEvent[];
  /** Starts a call that sends the messages 1 to 3 where the request is streamed, and 3 otherwise. */
  readonly start: (method: Method, options?: CallOptions, metadata?: Metadata) => Running;
  /** The same, and waits for its end. */
  readonly call: (method: Method, options?: CallOptions, metadata?: Metadata) => Promise<Ended>;
}

export async function scene(options: SceneOptions = {}): Promise<Scene> {
  const transport = inMemoryTransport(options);
  const { clock, random } = transport;
  const decisions: DecisionEvent[] = [];
  const errors: unknown[] = [];
  onTestFinished(() => expect(errors).toEqual([]));
  const weir = createWeir({
    clock,
    random,
    ...(options.telemetry === undefined ? {} : { telemetry: options.telemetry }),
    onDecision: (decision) => {
      decisions.push(decision);
      options.onDecision?.(decision);
    },
    ...(options.onCall === undefined ? {} : { onCall: options.onCall }),
    ...(options.history === undefined ? {} : { history: options.history }),
    ...(options.flags === undefined ? {} : { flags: options.flags }),
    ...(options.schema === undefined ? {} : { schema: options.schema }),
    ...(options.policies === undefined ? {} : { policies: options.policies }),
    ...(options.onPolicies === undefined ? {} : { onPolicies: options.onPolicies }),
    // What it throws would be reported as a warning, which fails nothing.
    onError: options.onError ?? ((error) => errors.push(error)),
  });
  const serverOptions =
    options.server === undefined && options.ownServer === undefined
      ? {}
      : weir.server(options.server, options.ownServer);
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation: options.handlers ?? echo,
    clientOptions: weir.client(options.client, options.ownClient),
    serverInterceptors: serverOptions.interceptors ?? [],
  });
  const client = link.client(ConformanceServiceClient);
  const start = (method: Method, callOptions: CallOptions = {}, metadata = new Metadata()) =>
    startCall(client, method, callOptions, metadata);
  return {
    weir,
    transport,
    clock,
    link,
    client,
    decisions,
    start,
    call: (...args) => link.until(start(...args).ended, 1e9),
  };
}

/** Handlers that answer at once with what they are sent. */
export const echo: ConformanceServiceServer = {
  unary: (call, callback) => callback(null, call.request),
  clientStream(call, callback) {
    const sequences: number[] = [];
    call.on("data", ({ sequence }: { sequence: number }) => sequences.push(sequence));
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

/** The same behaviour for all four methods: `before` decides whether the echo runs. */
export function handlers(
  before: (call: HandlerCall, answer: () => void) => void,
): ConformanceServiceServer {
  return {
    unary: (call, callback) =>
      before({ metadata: call.metadata, fail: (error) => callback(error) }, () =>
        echo.unary(call, callback),
      ),
    clientStream: (call, callback) =>
      before({ metadata: call.metadata, fail: (error) => callback(error) }, () =>
        echo.clientStream(call, callback),
      ),
    serverStream: (call) =>
      before({ metadata: call.metadata, fail: (error) => call.emit("error", error) }, () =>
        echo.serverStream(call),
      ),
    bidiStream: (call) =>
      before({ metadata: call.metadata, fail: (error) => call.emit("error", error) }, () =>
        echo.bidiStream(call),
      ),
  };
}

export interface HandlerCall {
  readonly metadata: Metadata;
  readonly fail: (error: { code: Status; details: string; metadata?: Metadata }) => void;
}

export function startCall(
  client: ConformanceServiceClient,
  method: Method,
  options: CallOptions,
  metadata: Metadata,
  pace: (step: () => void) => void = (step) => step(),
): Running {
  const received: number[] = [];
  let error: ServiceError | undefined;
  const { promise, resolve } = withResolvers<Ended>();
  const end = ({ code, details, metadata: trailers }: StatusObject) =>
    resolve({ code, details, trailers, received, error });
  const take = (message: { sequence?: number; sequences?: number[] } | undefined) => {
    if (message?.sequence !== undefined) received.push(message.sequence);
    if (message?.sequences !== undefined) received.push(...message.sequences);
  };
  const request = { payload, sequence: 3 };
  const done = (failed: ServiceError | null, response?: Parameters<typeof take>[0]) => {
    error = failed ?? undefined;
    take(response);
  };
  const send = (stream: { write(message: typeof request): boolean; end(): void }) => {
    let sequence = 0;
    const step = () => {
      sequence += 1;
      if (sequence > 3) stream.end();
      else {
        stream.write({ payload, sequence });
        pace(step);
      }
    };
    step();
  };
  const onError = (failed: ServiceError) => {
    error = failed;
  };
  switch (method) {
    case "unary": {
      const call = client.unary(request, metadata, options, done);
      call.on("status", end);
      return { ended: promise, cancel: () => call.cancel() };
    }
    case "clientStream": {
      const call = client.clientStream(metadata, options, done);
      call.on("status", end);
      send(call);
      return { ended: promise, cancel: () => call.cancel() };
    }
    case "serverStream": {
      const call = client.serverStream(request, metadata, options);
      call.on("data", take).on("error", onError).on("status", end);
      return { ended: promise, cancel: () => call.cancel() };
    }
    case "bidiStream": {
      const call = client.bidiStream(metadata, options);
      call.on("data", take).on("error", onError).on("status", end);
      send(call);
      return { ended: promise, cancel: () => call.cancel() };
    }
  }
}

export function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

/** Fails the first `times` calls, then lets them through. */
export function failing(
  times: number,
  error: { code: Status; details: string; metadata?: Metadata } = {
    code: Status.UNAVAILABLE,
    details: "not now",
  },
): { handlers: ConformanceServiceServer; calls: () => number; metadata: Metadata[] } {
  let calls = 0;
  const metadata: Metadata[] = [];
  return {
    calls: () => calls,
    metadata,
    handlers: handlers((call, answer) => {
      calls += 1;
      metadata.push(call.metadata);
      if (calls <= times) call.fail(error);
      else answer();
    }),
  };
}
