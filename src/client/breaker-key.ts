import { type ReportError, safely } from "../core/notify.js";
import { oneOf } from "../core/options.js";
import type { CallRecord } from "../grpc/call-record.js";
import { serviceOf } from "../grpc/types.js";
import type { KeyedCall } from "./policy-options.js";

const names = ["target", "service", "method"] as const;

/**
 * What shares a breaker: all calls to a target, those to one service of a target, or those of one method of a
 * target. Or a function that names the breaker of a call; it runs for each attempt, so it should be cheap.
 */
export type BreakerKey = (typeof names)[number] | ((call: KeyedCall) => string);

/** @throws InvalidOptionError when it is neither a function nor one of the names. */
export function checkBreakerKey(option: string, key: BreakerKey): BreakerKey {
  return typeof key === "function" ? key : oneOf(option, key, names);
}

/** The key of a call. A function of the user's may throw; then the call has the key of its service. */
export function breakerKeyFunction(
  key: BreakerKey,
  report: ReportError,
): (record: CallRecord) => string {
  if (key === "target") return ({ target }) => target;
  if (key === "method") return remembered((method) => method.slice(1));
  const byService = remembered(serviceOf);
  if (key === "service") return byService;
  return (record) => {
    try {
      return String(key(record));
    } catch (error) {
      safely(report, error, "breaker.key");
      return byService(record);
    }
  };
}

/** Most calls are like the one before, and making the key anew costs more than the breaker's decision. */
function remembered(part: (method: string) => string): (record: CallRecord) => string {
  let last = { target: "", method: "", key: "" };
  return ({ target, method }) => {
    if (last.method !== method || last.target !== target) {
      last = { target, method, key: `${target} ${part(method)}` };
    }
    return last.key;
  };
}
