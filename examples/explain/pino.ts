// #region pino

import type { DecisionEvent, FinishedCall } from "grpc-weir";
import pino from "pino";

/** Logs finished calls and decisions with pino. Names of fields that log stores join traces by: `trace_id`, `span_id`. */
export function pinoLogs(destination: pino.DestinationStream) {
  const log = pino({ base: null }, destination);
  return {
    onCall({ traceId, spanId, ...call }: FinishedCall) {
      const level = call.code === 0 ? "debug" : "warn";
      log[level]({ trace_id: traceId, span_id: spanId, call }, `${call.method} ${call.status}`);
    },
    onDecision({ traceId, spanId, ...decision }: DecisionEvent) {
      const { policy, verdict, method } = decision;
      log.info({ trace_id: traceId, span_id: spanId, decision }, `${policy} ${verdict} ${method}`);
    },
  };
}
// #endregion
