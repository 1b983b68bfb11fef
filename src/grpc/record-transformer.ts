import type {
  CallInvocationTransformer,
  CallOptions,
  CallProperties,
  Interceptor,
} from "@grpc/grpc-js";
import type { Priority } from "../core/priority.js";
import { CallRecord, type OwnCallOptions, recordKey } from "./call-record.js";
import { ChannelWatch } from "./channel-watch.js";
import { deadlineChannel, fixedDeadline } from "./deadline.js";
import type { Surroundings } from "./surroundings.js";

/** What a caller can set for one call, beside the options that grpc-js knows. */
export interface CallOverrides {
  /** Sent with the call, unless its metadata names a priority already. @defaultValue the inbound call's */
  readonly priority?: Priority;
}

const overridesKey: unique symbol = Symbol("grpc-weir.overrides");

type OptionsWithOverrides = CallOptions & OwnCallOptions & { [overridesKey]?: CallOverrides };

export function withOverrides(options: CallOptions, overrides: CallOverrides): CallOptions {
  const marked: OptionsWithOverrides = { ...options, [overridesKey]: overrides };
  return marked;
}

/**
 * Makes the call record, in the one place that sees the channel, and keeps the pipeline in calls that bring
 * interceptors of their own: grpc-js would let those replace it.
 */
export function recordTransformer(
  surroundings: Surroundings,
  pipeline: readonly Interceptor[],
  own: CallInvocationTransformer | undefined,
): CallInvocationTransformer {
  const providers = pipeline.map((interceptor) => () => interceptor);
  return (given) => {
    const properties: CallProperties<unknown, unknown> = own === undefined ? given : own(given);
    const callOptions: OptionsWithOverrides = properties.callOptions;
    const connection = ChannelWatch.of(properties.channel);
    const record = new CallRecord(surroundings, properties.methodDefinition, connection);
    record.priority = callOptions[overridesKey]?.priority ?? record.priority;
    // The symbol stands before the copying, where it is ten times cheaper in V8, and is set after it, because
    // options that are used again bring the record of an earlier call.
    const options: OptionsWithOverrides = { [recordKey]: record, ...callOptions };
    options[recordKey] = record;
    if (options.deadline instanceof Date) options.deadline = fixedDeadline(options.deadline);
    const { interceptors, interceptor_providers } = callOptions;
    if (interceptors !== undefined && interceptors.length > 0) {
      options.interceptors = [...interceptors, ...pipeline];
    }
    if (interceptor_providers !== undefined && interceptor_providers.length > 0) {
      options.interceptor_providers = [...interceptor_providers, ...providers];
    }
    const channel = deadlineChannel(properties.channel);
    if (own === undefined) return { ...properties, channel, callOptions: options };
    // The definition may be one that the user's function gives to many calls, and ours is changed.
    const methodDefinition = { ...properties.methodDefinition };
    return { ...properties, channel, callOptions: options, methodDefinition };
  };
}
