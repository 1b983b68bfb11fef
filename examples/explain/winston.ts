// #region winston
import type { DecisionEvent, FinishedCall } from "grpc-weir";
import winston from "winston";

/** Logs finished calls and decisions with winston. */
export function winstonLogs(stream: NodeJS.WritableStream) {
  const log = winston.createLogger({
    level: "debug",
    format: winston.format.json(),
    transports: [new winston.transports.Stream({ stream })],
  });
  return {
    onCall(call: FinishedCall) {
      const level = call.code === 0 ? "debug" : "warn";
      log.log(level, `${call.method} ${call.status}`, { call });
    },
    onDecision(decision: DecisionEvent) {
      const { policy, verdict, method } = decision;
      log.info(`${policy} ${verdict} ${method}`, { decision });
    },
  };
}
// #endregion
