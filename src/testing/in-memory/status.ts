import { Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { rst } from "./stream.js";

/** A status without metadata. */
export function bareStatus(code: status, details: string): StatusObject {
  return { code, details, metadata: new Metadata() };
}

/** The status that grpc-js makes of a stream that the server has reset, with the exact text. */
export function statusOfReset(code: number): StatusObject {
  switch (code) {
    case rst.noError:
      return bareStatus(
        status.INTERNAL,
        `Received RST_STREAM with code ${code} (Call ended without gRPC status)`,
      );
    case rst.refusedStream:
      return bareStatus(status.UNAVAILABLE, "Stream refused by server");
    case rst.cancel:
      return bareStatus(status.CANCELLED, "Call cancelled");
    case rst.internalError:
      return bareStatus(
        status.INTERNAL,
        `Received RST_STREAM with code ${code} (Internal server error)`,
      );
    default:
      return bareStatus(status.INTERNAL, `Received RST_STREAM with code ${code}`);
  }
}

/** A duration as grpc-js writes it in the details of DEADLINE_EXCEEDED. */
export function seconds(fromMs: number, toMs: number): string {
  return `${((toMs - fromMs) / 1000).toFixed(3)}s`;
}
