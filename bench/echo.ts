import type { Writable } from "node:stream";
import {
  type handleClientStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  status,
} from "@grpc/grpc-js";

// Bare bytes: the cost of a serialiser is the same with and without the toolkit, and would only dilute it.
const asIs = (bytes: Buffer): Buffer => bytes;

/** The kind of the method stays in its type: nice-grpc goes by it. */
function method<const Requests extends boolean, const Responses extends boolean>(
  name: string,
  requestStream: Requests,
  responseStream: Responses,
) {
  return {
    path: `/weir.bench.v1.Echo/${name}`,
    requestStream,
    responseStream,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  };
}

export const echoService = {
  unary: method("Unary", false, false),
  /** Fails the first attempt of each call, which it knows by the number in the request. */
  flaky: method("Flaky", false, false),
  /** Does not answer while the server runs: whoever calls it holds a slot. */
  hold: method("Hold", false, false),
  /** Answers with as many messages as the request says. */
  count: method("Count", false, true),
  /** Answers with the number of messages that came. */
  collect: method("Collect", true, false),
} as const;

export type UnaryName = "unary" | "flaky" | "hold";

export const payload = Buffer.alloc(64, "w");

/** A message with a number in front: of messages, or of the call. */
export function numbered(number: number): Buffer {
  const message = Buffer.from(payload);
  message.writeUInt32BE(number);
  return message;
}

/** Writes this many messages to a stream, no faster than it takes them, and ends it. */
export function writeAll(stream: Writable, messages: number): void {
  let left = messages;
  const more = () => {
    while (left > 0) {
      left -= 1;
      if (!stream.write(payload)) {
        stream.once("drain", more);
        return;
      }
    }
    stream.end();
  };
  more();
}

/** A server's handlers, and how many calls have come to them. */
export class Echo {
  calls = 0;
  readonly #failed = new Set<number>();

  readonly handlers = {
    unary: ((call, callback) => {
      this.calls += 1;
      callback(null, call.request);
    }) satisfies handleUnaryCall<Buffer, Buffer>,

    // Only one client at a time has calls under way, so that their numbers do not collide.
    flaky: (({ request }, callback) => {
      this.calls += 1;
      const number = request.readUInt32BE();
      if (this.#failed.delete(number)) {
        callback(null, request);
      } else {
        this.#failed.add(number);
        callback({ code: status.UNAVAILABLE, details: "the first attempt of each call fails" });
      }
    }) satisfies handleUnaryCall<Buffer, Buffer>,

    hold: (() => {}) satisfies handleUnaryCall<Buffer, Buffer>,

    count: ((call) => {
      this.calls += 1;
      writeAll(call, call.request.readUInt32BE());
    }) satisfies handleServerStreamingCall<Buffer, Buffer>,

    collect: ((call, callback) => {
      this.calls += 1;
      let messages = 0;
      call.on("data", () => {
        messages += 1;
      });
      call.on("end", () => callback(null, numbered(messages)));
    }) satisfies handleClientStreamingCall<Buffer, Buffer>,
  };
}
