import {
  InterceptingCall,
  type Interceptor,
  ServerInterceptingCall,
  type ServerInterceptor,
} from "@grpc/grpc-js";
import { describe, it } from "vitest";
import { type ConformanceSubject, conformance } from "../../src/testing/conformance.js";
import { inMemoryTransport } from "../../src/testing/in-memory.js";
import { loopbackTransport } from "../../src/testing/loopback.js";

const client: Interceptor = (options, nextCall) =>
  new InterceptingCall(nextCall(options), {
    start: (metadata, _listener, next) =>
      next(metadata, {
        onReceiveMetadata: (headers, forward) => forward(headers),
        onReceiveMessage: (message, forward) => forward(message),
        onReceiveStatus: (status, forward) => forward(status),
      }),
    sendMessage: (message, next) => next(message),
    halfClose: (next) => next(),
    cancel: (next) => next(),
  });

const server: ServerInterceptor = (_method, call) =>
  new ServerInterceptingCall(call, {
    start: (next) =>
      next({
        onReceiveMetadata: (metadata, forward) => forward(metadata),
        onReceiveMessage: (message, forward) => forward(message),
        onReceiveHalfClose: (forward) => forward(),
        onCancel: () => {},
      }),
    sendMetadata: (metadata, next) => next(metadata),
    sendMessage: (message, next) => next(message),
    sendStatus: (status, next) => next(status),
  });

/** As whole options, the way the toolkit gives them. */
const subject: ConformanceSubject = {
  client: () => ({
    interceptors: [client, client],
    callInvocationTransformer: (properties) => ({ ...properties }),
  }),
  server: () => ({ interceptors: [server, server] }),
};

describe.each([
  ["over loopback", loopbackTransport],
  ["in memory", inMemoryTransport],
] as const)("interceptors that change nothing, %s", (_way, makeTransport) => {
  for (const each of conformance(subject, makeTransport)) it(each.name, () => each.run());
});
