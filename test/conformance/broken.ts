import { InterceptingCall, ServerInterceptingCall, status } from "@grpc/grpc-js";
import type { ConformanceSubject } from "../../src/testing/conformance/conformance.js";
import { Hoarding, hearing, serving, writing } from "./broken-kit.js";

export interface Broken extends ConformanceSubject {
  /** What the suite has to say about it. */
  readonly noticed: RegExp;
}

/** Subjects that break a promise of grpc-js, by the promise they break. */
export const broken: Readonly<Record<string, Broken>> = {
  "gives the status twice": {
    noticed: /the status came twice/,
    client: () => [
      hearing((listener) => ({
        onReceiveStatus: (ended) => {
          listener.onReceiveStatus(ended);
          listener.onReceiveStatus(ended);
        },
      })),
    ],
  },
  "never tells its listener": {
    noticed: /timed out waiting for the end of the call at the client/,
    client: () => [
      hearing(() => ({
        onReceiveMetadata: (_headers) => {},
        onReceiveMessage: (_message) => {},
        onReceiveStatus: (_ended) => {},
      })),
    ],
  },
  "swallows the status of a cancelled call": {
    noticed: /timed out waiting for the end of the call at the client/,
    client: () => [
      hearing((listener) => ({
        onReceiveStatus: (ended) => {
          if (ended.code !== status.CANCELLED) listener.onReceiveStatus(ended);
        },
      })),
    ],
  },
  "drops a response": {
    noticed: /at the client: messages are lost, doubled or out of order/,
    client: () => [
      hearing((listener, call) => {
        let count = 0;
        return {
          onReceiveMessage: (message) => {
            count += 1;
            if (count === 2) call.startRead();
            else listener.onReceiveMessage(message);
          },
        };
      }),
    ],
  },
  "swaps two responses": {
    noticed: /at the client: messages are lost, doubled or out of order/,
    client: () => [
      hearing((listener, call) => {
        let held: unknown;
        let count = 0;
        return {
          onReceiveMessage: (message) => {
            count += 1;
            if (count === 2) {
              held = message;
              call.startRead();
              return;
            }
            listener.onReceiveMessage(message);
            if (count === 3) listener.onReceiveMessage(held);
          },
        };
      }),
    ],
  },
  "loses the callback of a write": {
    noticed: /timed out waiting for the end of the call at the client/,
    client: () => [
      writing((call, { callback: _lost, ...context }, message) =>
        call.sendMessageWithContext(context, message),
      ),
    ],
  },
  "calls a write back twice": {
    noticed: /ERR_MULTIPLE_CALLBACK/,
    client: () => [
      writing((call, context, message) => {
        const { callback } = context;
        if (callback === undefined) return call.sendMessageWithContext(context, message);
        const twice = () => {
          callback();
          callback();
        };
        return call.sendMessageWithContext({ ...context, callback: twice }, message);
      }),
    ],
  },
  "lets writes pile up": {
    noticed: /were accepted from a writer without a reader/,
    client: () => [(options, nextCall) => new Hoarding(nextCall(options))],
  },
  "changes the caller's metadata": {
    noticed: /the caller's own object/,
    client: () => [
      (options, nextCall) =>
        new InterceptingCall(nextCall(options), {
          start: (metadata, listener, next) => {
            metadata.add("x-attempt", "1");
            next(metadata, listener);
          },
        }),
    ],
  },
  "leaves a timer behind": {
    noticed: /timers are left behind/,
    client: ({ clock }) => [
      (options, nextCall) => {
        clock.schedule(60_000, () => {});
        return new InterceptingCall(nextCall(options));
      },
    ],
  },
  "leaves a promise rejected": {
    noticed: /left behind by a broken interceptor/,
    client: () => [
      hearing((listener) => ({
        onReceiveStatus: (ended) => {
          void Promise.reject(new Error("left behind by a broken interceptor"));
          listener.onReceiveStatus(ended);
        },
      })),
    ],
  },
  "gives a response twice at the server": {
    noticed: /timed out waiting for the end of the call at the client/,
    server: () => [
      (_method, call) =>
        new ServerInterceptingCall(call, {
          sendMessage: (message, next) => {
            next(message);
            next(message);
          },
        }),
    ],
  },
  "loses the details of an error": {
    noticed: /trailing metadata of the error/,
    server: () => [
      (_method, call) =>
        new ServerInterceptingCall(call, {
          sendStatus: (ended, next) => next({ ...ended, metadata: null }),
        }),
    ],
  },
  "hides the half-close from the handler": {
    noticed: /timed out waiting for the end of the call at the client/,
    server: () => [serving(() => ({ onReceiveHalfClose: () => {} }))],
  },
  "hides the end from the handler": {
    noticed: /timed out waiting for the end of the call at the handler/,
    server: () => [serving(() => ({ onCancel: () => {} }))],
  },
  "tells the handler the end twice": {
    noticed: /the handler did not get the end of the call exactly once/,
    server: () => [
      serving((listener) => ({
        onCancel: () => {
          listener.onCancel();
          listener.onCancel();
        },
      })),
    ],
  },
};
