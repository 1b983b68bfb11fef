import type { Interceptor } from "@grpc/grpc-js";
import type { Gate } from "../core/gates.js";
import { withRecord } from "../grpc/call-record.js";
import { type ClientPassage, GatedCall } from "../grpc/gated-call.js";
import type { Surroundings } from "../grpc/surroundings.js";

/** One interceptor for a row of client policies that each attempt has to pass, in their order. */
export function gatesInterceptor(
  surroundings: Surroundings,
  gates: readonly Gate<ClientPassage>[],
): Interceptor {
  return (options, nextCall) => {
    const own = withRecord(options, surroundings);
    return new GatedCall(own.options, nextCall, own.record, gates, surroundings.room);
  };
}
