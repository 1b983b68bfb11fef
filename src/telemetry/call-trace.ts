import { type Context, context } from "@opentelemetry/api";
import type { CallRecord, OptionsWithOwn } from "../grpc/call-record.js";
import { SpanTime } from "./span-time.js";

/** What the attempts of a call need to know of its span. */
export interface CallTrace {
  /** With the call span in it. */
  readonly context: Context;
  /** The call span is recorded: so are its attempts. */
  readonly recording: boolean;
  readonly time: SpanTime;
}

/** Key of the trace in CallOptions: below retries and queues, what is active may be another call's. */
const traceKey: unique symbol = Symbol("grpc-weir.trace");

export type TracedOptions = OptionsWithOwn & { [traceKey]?: CallTrace | undefined };

/** A copy of the options with the trace in it. */
export function withTrace(options: OptionsWithOwn, callTrace: CallTrace): TracedOptions {
  // A key that is new to a copy costs V8 a microsecond; one that stands there before the copying, a tenth.
  const copy: TracedOptions = { [traceKey]: callTrace, ...options };
  copy[traceKey] = callTrace;
  return copy;
}

/** The trace of the call; where no call span interceptor stands above, what was active for the caller. */
export function traceOf(options: TracedOptions, record: CallRecord): CallTrace {
  return (
    options[traceKey] ?? {
      context: record.restore(() => context.active()),
      recording: true,
      time: new SpanTime(record.clock),
    }
  );
}
