import {
  type ClientOptions,
  type Interceptor,
  Metadata,
  type ServiceError,
  status as Status,
} from "@grpc/grpc-js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../src/gen/weir/v1/conformance.js";
import { contextPart } from "../../src/grpc/client/context.js";
import { interceptorOf } from "../../src/grpc/client/parts.js";
import { gatesPart } from "../../src/grpc/client/policy.js";
import { recordTransformer } from "../../src/grpc/context/call-record.js";
import { type Environment, environmentOf } from "../../src/grpc/environment.js";
import { ServerPolicies, type ServerPolicy } from "../../src/pipeline/server.js";
import { bulkheadPolicy } from "../../src/policies/bulkhead/client.js";
import { deadlinePart, resolveDeadlineOptions } from "../../src/policies/deadline/client.js";
import { repeatPart, retryPolicy } from "../../src/policies/retry/client.js";
import { spanParts } from "../../src/telemetry/client-spans.js";
import { resolveTelemetryOptions, type TelemetryOptions } from "../../src/telemetry/options.js";
import { serverSpanPart } from "../../src/telemetry/server-spans.js";
import type { Link, Transport } from "../../src/testing/transport.js";

export type Handlers = Partial<
  Pick<ConformanceServiceServer, "unary" | "clientStream" | "serverStream" | "bidiStream">
>;

export interface SceneOptions {
  readonly handlers?: Handlers;
  readonly telemetry?: TelemetryOptions;
  readonly maxAttempts?: number;
  /** Attempts that may run at once; a further one waits if there is room in the queue. */
  readonly bulkhead?: { readonly maxConcurrent: number; readonly maxQueued: number };
  readonly server?: ServerPolicy;
  /** Outside of all of ours. */
  readonly outermost?: readonly Interceptor[];
  /** Inside of all of ours. */
  readonly innermost?: readonly Interceptor[];
}

/** A client and a server with the toolkit's pipelines between them. */
export interface Scene {
  readonly link: Link;
  readonly client: ConformanceServiceClient;
  readonly environment: Environment;
}

/** The answers of a server that is well. */
const wellHandlers: Required<Handlers> = {
  unary: (call, callback) =>
    callback(null, { payload: Buffer.alloc(0), sequence: call.request.sequence }),
  clientStream: (call, callback) => {
    const sequences: number[] = [];
    call.on("data", ({ sequence }) => sequences.push(sequence));
    call.on("end", () => callback(null, { payload: Buffer.alloc(0), sequences }));
  },
  serverStream: (call) => {
    call.write({ payload: Buffer.alloc(0), sequence: 1 });
    call.write({ payload: Buffer.alloc(0), sequence: 2 });
    call.end();
  },
  bidiStream: (call) => {
    call.on("data", (message) => call.write(message));
    call.on("end", () => call.end());
  },
};

export async function openScene(transport: Transport, options: SceneOptions = {}): Promise<Scene> {
  const { clock, random } = transport;
  const environment = environmentOf({ clock, random }, "scene");
  const telemetry = resolveTelemetryOptions(options.telemetry);
  const policies = new ServerPolicies(
    options.server ?? {},
    environment,
    serverSpanPart(environment, telemetry),
  );
  const clientOptions = clientPipeline(environment, options);
  const serverInterceptors = policies.pipeline();
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation: { ...wellHandlers, ...options.handlers },
    clientOptions,
    serverInterceptors,
  });
  return { link, client: link.client(ConformanceServiceClient), environment };
}

function clientPipeline(environment: Environment, options: SceneOptions): ClientOptions {
  const telemetry = resolveTelemetryOptions(options.telemetry);
  const retries = { maxAttempts: options.maxAttempts ?? 3, idempotent: true };
  const retry = retryPolicy(retries, "enforce", environment, "retry");
  const bulkhead =
    options.bulkhead === undefined
      ? undefined
      : bulkheadPolicy(options.bulkhead, environment, "bulkhead");
  const spans = spanParts(environment, telemetry);
  const pipeline = interceptorOf(
    environment,
    contextPart(environment),
    spans.call,
    deadlinePart(resolveDeadlineOptions()),
    repeatPart(environment, { retry, hedge: undefined }),
    gatesPart([bulkhead]),
    spans.attempt,
  );
  return {
    interceptors: [...(options.outermost ?? []), pipeline, ...(options.innermost ?? [])],
    callInvocationTransformer: recordTransformer(environment, pipeline, undefined),
  };
}

/** A unary call; gives the name of the code that it ended with. */
export function unary(
  { client }: Pick<Scene, "client">,
  call: {
    readonly metadata?: Metadata;
    readonly deadlineIn?: number;
    readonly cancelAfter?: (cancel: () => void) => void;
  } = {},
  clock?: { wallNow(): number },
): Promise<string> {
  return new Promise((resolve) => {
    const deadline =
      call.deadlineIn === undefined || clock === undefined
        ? {}
        : { deadline: clock.wallNow() + call.deadlineIn };
    const made = client.unary(
      { payload: Buffer.alloc(0), sequence: 1 },
      call.metadata ?? new Metadata(),
      deadline,
      (error: ServiceError | null) => resolve(Status[error?.code ?? Status.OK] ?? "?"),
    );
    call.cancelAfter?.(() => made.cancel());
  });
}

/** A call of each kind, run to its end; each gives the name of the code that it ended with. */
export const kinds = {
  Unary: (scene) => unary(scene),
  ClientStream: ({ client }) =>
    new Promise<string>((resolve) => {
      const call = client.clientStream((error: ServiceError | null) => resolve(nameOf(error)));
      call.write({ payload: Buffer.alloc(0), sequence: 1 });
      call.end();
    }),
  ServerStream: ({ client }) =>
    new Promise<string>((resolve) => {
      const call = client.serverStream({ payload: Buffer.alloc(0), sequence: 1 });
      call.on("data", () => {});
      call.on("error", () => {});
      call.on("status", ({ code }) => resolve(Status[code] ?? "?"));
    }),
  BidiStream: ({ client }) =>
    new Promise<string>((resolve) => {
      const call = client.bidiStream();
      call.on("data", () => {});
      call.on("error", () => {});
      call.on("status", ({ code }) => resolve(Status[code] ?? "?"));
      call.write({ payload: Buffer.alloc(0), sequence: 1 });
      call.end();
    }),
} as const satisfies Record<string, (scene: Scene) => Promise<string>>;

function nameOf(error: ServiceError | null): string {
  return Status[error?.code ?? Status.OK] ?? "?";
}
