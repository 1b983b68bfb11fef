import type { MethodDefinition } from "@grpc/grpc-js";

const asIs = (bytes: Buffer): Buffer => bytes;

/** The one method that is called. */
export const realService = {
  work: {
    path: "/lab.Service/Work",
    requestStream: false,
    responseStream: false,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  },
} as const satisfies Record<string, MethodDefinition<Buffer, Buffer>>;
