import type {
  handleBidiStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  MethodDefinition,
} from "@grpc/grpc-js";

// Bare bytes: the cost of a serialiser is the same with and without the toolkit, and would only dilute it.
const asIs = (bytes: Buffer): Buffer => bytes;

function method(
  name: string,
  requestStream: boolean,
  responseStream: boolean,
): MethodDefinition<Buffer, Buffer> {
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
  /** Answers with as many messages as the first four bytes of the request say. */
  count: method("Count", false, true),
  bidi: method("Bidi", true, true),
} as const;

export const payload = Buffer.alloc(64, "w");

/** A request for so many messages. */
export function countRequest(messages: number): Buffer {
  const request = Buffer.alloc(4);
  request.writeUInt32BE(messages);
  return request;
}

const unary: handleUnaryCall<Buffer, Buffer> = (call, callback) => callback(null, call.request);

const count: handleServerStreamingCall<Buffer, Buffer> = (call) => {
  let left = call.request.readUInt32BE();
  const more = () => {
    while (left > 0) {
      left -= 1;
      if (!call.write(payload)) {
        call.once("drain", more);
        return;
      }
    }
    call.end();
  };
  more();
};

const bidi: handleBidiStreamingCall<Buffer, Buffer> = (call) => {
  call.on("data", (message: Buffer) => {
    if (call.write(message)) return;
    call.pause();
    call.once("drain", () => call.resume());
  });
  call.on("end", () => call.end());
};

export const echoHandlers = { unary, count, bidi };
