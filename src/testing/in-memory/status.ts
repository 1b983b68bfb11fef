import { Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { rst } from "./stream.js";

export function bareStatus(code: status, details: string): StatusObject {
  return { code, details, metadata: new Metadata() };
}

/** The status, to the letter, that grpc-js makes of a stream reset by the server. */
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

/** A span of time as grpc-js writes it into the details of DEADLINE_EXCEEDED. */
export function seconds(fromMs: number, toMs: number): string {
  return `${((toMs - fromMs) / 1000).toFixed(3)}s`;
}
