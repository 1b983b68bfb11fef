import {
  InterceptingCall,
  type Interceptor,
  ServerInterceptingCall,
  type ServerInterceptor,
} from "@grpc/grpc-js";
import type { ConformanceSubject } from "../../src/testing/conformance/conformance.js";

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

/** Interceptors that change nothing, as whole options, the way the toolkit gives them. */
export const passThrough: ConformanceSubject = {
  client: () => ({
    interceptors: [client, client],
    callInvocationTransformer: (properties) => ({ ...properties }),
  }),
  server: () => ({ interceptors: [server, server] }),
};
