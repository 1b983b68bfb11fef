import { createRequire } from "node:module";
import { Client, type ClientOptions, credentials, type ServerOptions, status } from "@grpc/grpc-js";
import { context, propagation, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { ExportResultCode, W3CTraceContextPropagator } from "@opentelemetry/core";
import { GrpcInstrumentation } from "@opentelemetry/instrumentation-grpc";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";
import {
  bulkhead,
  circuitBreaker,
  ExponentialBackoff,
  handleWhen,
  noJitterGenerator,
  retry,
  SamplingBreaker,
  TimeoutStrategy,
  timeout,
  wrap,
} from "cockatiel";
import { type ClientPolicy, createWeir } from "grpc-weir";
import { createChannel, createClientFactory, Status } from "nice-grpc";
import { deadlineMiddleware } from "nice-grpc-client-middleware-deadline";
import { retryMiddleware } from "nice-grpc-client-middleware-retry";
import { echoService, type UnaryName } from "./echo.js";
import { type Caller, callerOf, type StreamingCaller } from "./overhead-load.js";
import { refusing } from "./overload-columns.js";

/** Far above what is under way: the policies are passed through, and never in the way. */
const large = 1_000_000;
const deadlineMs = 10_000;
const maxAttempts = 3;
/** What a timer of Node cannot go below: all clients then wait the same, and CPU is what is left to compare. */
const backoffMs = 1;
const maxBackoffMs = 10;
/** Of failures. Where each call fails once, it is one half, and the breakers that count it stay closed. */
const breakerRate = 0.9;

const full: ClientPolicy = {
  deadline: { defaultMs: deadlineMs },
  retry: {
    maxAttempts,
    codes: [status.UNAVAILABLE],
    idempotent: true,
    backoff: { baseMs: backoffMs, maxMs: maxBackoffMs, jitter: "none" },
    // Kept and asked like any other, and never used up, also where every call is retried.
    budget: { ratio: 1, minPerSecond: large, maxTokens: 1_000, tokenRatio: 1 },
  },
  breaker: { failureRate: breakerRate, consecutiveFailures: large },
  bulkhead: { maxConcurrent: large },
};

const retryPolicy = {
  maxAttempts,
  initialBackoff: `${backoffMs / 1_000}s`,
  maxBackoff: `${maxBackoffMs / 1_000}s`,
  backoffMultiplier: 2,
  retryableStatusCodes: ["UNAVAILABLE"],
};

/** The clients, each as its documentation has it. Where they retry, it is with the same attempts, codes and backoff. */
export const clients = {
  /** Calls the servers whose cost is measured, and is not measured itself. */
  driver: (target) => grpcCaller(target, {}),
  bare: (target) => grpcCaller(target, {}),
  /** In a process of its own: how far two that are the same differ. */
  again: (target) => grpcCaller(target, {}),
  defaults: (target) => grpcCaller(target, createWeir().client()),
  full: (target) => grpcCaller(target, createWeir().client(full)),
  spans: (target) => {
    recordSpans();
    return grpcCaller(target, createWeir().client(full));
  },
  retryPolicy: (target) => {
    const methodConfig = [{ name: [{ service: "weir.bench.v1.Echo" }], retryPolicy }];
    const serviceConfig = JSON.stringify({ loadBalancingConfig: [], methodConfig });
    return grpcCaller(target, { "grpc.service_config": serviceConfig });
  },
  cockatiel: (target) => {
    const { unary } = grpcCaller(target, {});
    // An error of grpc-js is of no class that handleType could name.
    const failures = handleWhen((error) => "code" in error && error.code === status.UNAVAILABLE);
    const policy = wrap(
      timeout(deadlineMs, TimeoutStrategy.Aggressive),
      retry(failures, {
        maxAttempts: maxAttempts - 1, // it counts retries
        backoff: new ExponentialBackoff({
          generator: noJitterGenerator,
          initialDelay: backoffMs,
          maxDelay: maxBackoffMs,
        }),
      }),
      circuitBreaker(failures, {
        halfOpenAfter: 5_000,
        breaker: new SamplingBreaker({ threshold: breakerRate, duration: 10_000 }),
      }),
      bulkhead(large, 0),
    );
    const send = (method: UnaryName, request: Buffer) =>
      new Promise<void>((resolve, reject) =>
        unary(method, request, (error) => (error === undefined ? resolve() : reject(error))),
      );
    return {
      unary: (method, request, done) => {
        policy.execute(() => send(method, request)).then(() => done(), done);
      },
    };
  },
  niceGrpc: (target) => {
    const client = createClientFactory()
      .use(retryMiddleware)
      // The one that is added last stands outside: one deadline for all attempts, as with the others.
      .use(deadlineMiddleware)
      .create(echoService, createChannel(`http://${target}`), {
        "*": {
          retry: true,
          retryMaxAttempts: maxAttempts - 1, // it counts retries
          retryBaseDelayMs: backoffMs,
          retryMaxDelayMs: maxBackoffMs,
          retryableStatuses: [Status.UNAVAILABLE],
          deadline: deadlineMs,
        },
      });
    return {
      unary: (method, request, done) => {
        client[method](request).then(() => done(), done);
      },
    };
  },
  instrumentation: (target) => {
    recordSpans();
    new GrpcInstrumentation();
    // It changes the module when that is required, and an import is not.
    createRequire(import.meta.url)("@grpc/grpc-js");
    return grpcCaller(target, {});
  },
} as const satisfies Readonly<Record<string, (target: string) => Caller>>;

export type ClientName = keyof typeof clients;

/** Those that refuse do so while their only slot is held. */
export const servers = {
  /** Answers the clients whose cost is measured. It gets many more calls than others, so it is not measured itself. */
  target: () => ({}),
  bare: () => ({}),
  again: () => ({}),
  weir: () => createWeir().server({ admission: { limit: large } }),
  refusingLimit: () => refusing("limit").options,
  refusingWeir: () => refusing("weir").options,
} as const satisfies Readonly<Record<string, () => ServerOptions>>;

export type ServerName = keyof typeof servers;

function grpcCaller(target: string, options: ClientOptions): StreamingCaller {
  return callerOf(new Client(target, credentials.createInsecure(), options));
}

/** Of the SDK that is registered in this process, if one is. */
let exported = 0;
let processor: BatchSpanProcessor | undefined;

/** An SDK as services have it, all calls sampled; only the exporter drops what it gets. */
function recordSpans(): void {
  if (processor !== undefined) return;
  processor = new BatchSpanProcessor(
    {
      export: (spans, done) => {
        exported += spans.length;
        done({ code: ExportResultCode.SUCCESS });
      },
      shutdown: async () => {},
    },
    // Room for all: no client may be quick because the SDK drops its spans.
    { maxQueueSize: large },
  );
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [processor] }));
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
}

/** How many spans this process has recorded. */
export async function recordedSpans(): Promise<number> {
  await processor?.forceFlush();
  return exported;
}
