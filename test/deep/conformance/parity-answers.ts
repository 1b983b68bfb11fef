import { InterceptingCall, Metadata, ServerInterceptingCall, status } from "@grpc/grpc-js";
import { ended, payload, quiet, serverStream, unary } from "../../testing/in-memory/scene.js";
import { failure, type Scenario, trailers } from "./parity-scenario.js";

/** How calls are answered, well or badly. */
export const answers: Record<string, Scenario> = {
  "a unary call": { act: ({ client }) => unary(client) },
  "a client stream": {
    act: async ({ client }) => {
      const call = client.clientStream(() => {});
      for (const sequence of [1, 2, 3]) call.write({ payload, sequence });
      call.end();
      return ended(call);
    },
  },
  "a server stream": { act: ({ client }) => serverStream(client, 3) },
  "a bidi stream": {
    act: async (scene) => {
      const { client } = scene;
      const responses: number[] = [];
      const call = client.bidiStream();
      call.on("data", (response: { sequence: number }) => responses.push(response.sequence));
      const end = ended(call, responses);
      for (const sequence of [1, 2, 3]) {
        call.write({ payload, sequence });
        await quiet(scene);
      }
      call.end();
      return end;
    },
  },
  "an error without headers": {
    handlers: { unary: (_call, callback) => callback(failure()) },
    act: ({ client }) => unary(client),
  },
  "an error after headers": {
    handlers: {
      unary(call, callback) {
        call.sendMetadata(trailers());
        callback(failure());
      },
    },
    act: ({ client }) => unary(client),
  },
  "an error without a code": {
    handlers: { unary: (_call, callback) => callback(new Error("no code")) },
    act: ({ client }) => unary(client),
  },
  "a handler that throws": {
    handlers: {
      unary() {
        throw new Error("thrown");
      },
    },
    act: ({ client }) => unary(client),
  },
  "trailers after a response": {
    handlers: { unary: (call, callback) => callback(null, call.request, trailers()) },
    act: ({ client }) => unary(client),
  },
  "an error in the middle of a server stream, for a reader that keeps up": {
    handlers: {
      serverStream(call) {
        call.write({ payload, sequence: 1 });
        call.write({ payload, sequence: 2 });
        call.emit("error", failure());
      },
    },
    act: ({ client }) => serverStream(client, 2),
  },
  "a response that cannot be serialised": {
    handlers: { unary: (_call, callback) => callback(null, null) },
    act: ({ client }) => unary(client),
  },
  "a request that cannot be serialised": {
    act: async ({ client }) => ended(client.unary(null as never, () => {})),
  },
  "a refusal in onReceiveMetadata": {
    more: {
      server: (_method, call) =>
        new ServerInterceptingCall(call, {
          start: (next) =>
            next({
              onReceiveMetadata: () =>
                call.sendStatus({ code: status.RESOURCE_EXHAUSTED, details: "full" }),
            }),
        }),
    },
    act: ({ client }) => unary(client),
  },
  "three messages in the tick of the start, of which grpc-js keeps one": {
    more: {
      client: (options, nextCall) =>
        new InterceptingCall(nextCall(options), {
          sendMessage(message: { sequence: number }, next) {
            next({ ...message, sequence: 7 });
            next({ ...message, sequence: 8 });
            next({ ...message, sequence: 9 });
          },
        }),
    },
    act: ({ client }) => unary(client),
  },
  "a method that nobody implements": {
    handlers: { unary: undefined as never },
    act: ({ client }) => unary(client),
  },
  "trailers at the end of a server stream": {
    handlers: {
      serverStream(call) {
        call.write({ payload, sequence: 1 });
        call.end(trailers());
      },
    },
    act: ({ client }) => serverStream(client, 1),
  },
  "headers that are sent twice": {
    handlers: {
      unary(call, callback) {
        call.sendMetadata(trailers());
        call.sendMetadata(new Metadata());
        callback(null, call.request);
      },
    },
    act: ({ client }) => unary(client),
  },
  "metadata that is changed after the start": {
    act: async ({ client }) => {
      const metadata = new Metadata();
      const end = unary(client, {}, metadata);
      metadata.set("late", "1");
      return end;
    },
  },
  "a last message and the end in one tick": {
    act: async (scene) => {
      const { client } = scene;
      const call = client.clientStream(() => {});
      const end = ended(call);
      call.write({ payload, sequence: 1 });
      await quiet(scene);
      call.write({ payload, sequence: 2 });
      call.end({ payload, sequence: 3 });
      return end;
    },
  },
  "a message that an interceptor holds for a while, and the end with it": {
    more: {
      client: (options, nextCall) =>
        new InterceptingCall(nextCall(options), {
          sendMessage: (message, next) => void setImmediate(next, message),
        }),
    },
    act: async ({ client, link }) => {
      await link.until(unary(client)); // later calls find an attempt already made
      return unary(client);
    },
  },
};
