import { Client, type ClientOptions, credentials, Metadata, status } from "@grpc/grpc-js";
import { ExponentialBackoff, handleWhen, noJitterGenerator, retry } from "cockatiel";
import { createWeir } from "grpc-weir";
import { createChannel, createClientFactory, Status } from "nice-grpc";
import { deadlineMiddleware } from "nice-grpc-client-middleware-deadline";
import { retryMiddleware } from "nice-grpc-client-middleware-retry";
import { type Call, retriesService } from "./retries-call.js";

const maxAttempts = 3;
const deadlineMs = 10_000;
/** What a timer of Node cannot go below: all clients then wait the same, and CPU is what is left to compare. */
const backoffMs = 1;
const maxBackoffMs = 10;

/** The four clients, each as its documentation has it: the same attempts, codes, backoff and deadline. */
export const makers = {
  "grpc-js": (target: string): Call => {
    const retryPolicy = {
      maxAttempts,
      initialBackoff: `${backoffMs / 1_000}s`,
      maxBackoff: `${maxBackoffMs / 1_000}s`,
      backoffMultiplier: 2,
      retryableStatusCodes: ["UNAVAILABLE"],
    };
    const serviceConfig = {
      loadBalancingConfig: [],
      methodConfig: [{ name: [{ service: "weir.bench.v1.Echo" }], retryPolicy }],
    };
    const send = unaryOf(target, { "grpc.service_config": JSON.stringify(serviceConfig) });
    return (request) => send(request, Date.now() + deadlineMs);
  },

  weir: (target: string): Call => {
    const options = createWeir().client({
      breaker: false,
      deadline: { defaultMs: deadlineMs },
      retry: {
        maxAttempts,
        codes: [status.UNAVAILABLE],
        idempotent: true,
        backoff: { baseMs: backoffMs, maxMs: maxBackoffMs, jitter: "none" },
        // Kept and asked like any other, and never used up: here every call is retried.
        budget: { ratio: 1, minPerSecond: 1_000_000, maxTokens: 1_000, tokenRatio: 1 },
      },
    });
    return unaryOf(target, options);
  },

  cockatiel: (target: string): Call => {
    const send = unaryOf(target, {});
    const policy = retry(
      // An error of grpc-js is of no class that handleType could name.
      handleWhen((error) => "code" in error && error.code === status.UNAVAILABLE),
      {
        maxAttempts: maxAttempts - 1, // it counts retries
        backoff: new ExponentialBackoff({
          generator: noJitterGenerator,
          initialDelay: backoffMs,
          maxDelay: maxBackoffMs,
        }),
      },
    );
    return (request) => {
      const deadline = Date.now() + deadlineMs;
      return policy.execute(() => send(request, deadline));
    };
  },

  "nice-grpc": (target: string): Call => {
    const client = createClientFactory()
      .use(retryMiddleware)
      // The one that is added last stands outside: one deadline for all attempts, as with the others.
      .use(deadlineMiddleware)
      .create(retriesService, createChannel(`http://${target}`), {
        "*": {
          retry: true,
          retryMaxAttempts: maxAttempts - 1, // it counts retries
          retryBaseDelayMs: backoffMs,
          retryMaxDelayMs: maxBackoffMs,
          retryableStatuses: [Status.UNAVAILABLE],
          deadline: deadlineMs,
        },
      });
    return (request) => client.unary(request);
  },
} as const satisfies Readonly<Record<string, (target: string) => Call>>;

export type Contestant = keyof typeof makers;

/** A client of grpc-js whose callback has become a promise. */
function unaryOf(target: string, clientOptions: ClientOptions) {
  const client = new Client(target, credentials.createInsecure(), clientOptions);
  const { path, requestSerialize, responseDeserialize } = retriesService.unary;
  return (request: Buffer, deadline?: number): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        new Metadata(),
        deadline === undefined ? {} : { deadline },
        (error, response) => {
          if (error !== null) reject(error);
          else if (response === undefined) reject(new Error("no response"));
          else resolve(response);
        },
      );
    });
}
