import type { Interceptor, NextCall } from "@grpc/grpc-js";
import { type OptionsWithRecord, recordKey, withRecord } from "../context/call-record.js";
import type { Environment } from "../environment.js";
import type { ClientCall } from "../types.js";

/**
 * One layer of a client pipeline. It returns a call of its own, or, where it has nothing to do, the call that
 * `nextCall` makes: that of the layer below.
 */
export type Layer = (options: OptionsWithRecord, nextCall: NextCall) => ClientCall;

/** The layers that make spans. They know OpenTelemetry, so that the pipeline need not. Absent without tracing. */
export interface SpanLayers {
  /** One span for a call, over all of its attempts. */
  readonly call?: Layer;
  /** One span for each attempt, and the trace context in the attempt's metadata. */
  readonly attempt?: Layer;
}

/**
 * The interceptor that runs a pipeline. For each call it makes the call record, unless the options have one, and looks
 * up the layers of the call's method. Attempts of the call use what was found.
 *
 * @param layersOf The layers of a method, the outermost first.
 */
export function layered(
  environment: Environment,
  layersOf: (method: string) => readonly Layer[],
): Interceptor {
  return (given, nextCall) => {
    const options = withRecord(given, environment);
    const layers = layersOf(options[recordKey].method);
    // grpc-js uses the methods of a call only; its type for interceptors also has private fields.
    return enter(layers, 0, options, nextCall, environment) as ReturnType<Interceptor>;
  };
}

/** An interceptor of one layer, with the same options for all methods. Without a layer it passes every call on. */
export function interceptorOf(environment: Environment, layer: Layer | undefined): Interceptor {
  const layers = layer === undefined ? [] : [layer];
  return layered(environment, () => layers);
}

/** Makes the call of the layer at this depth. What it calls next is the layer below, and at last `nextCall`. */
function enter(
  layers: readonly Layer[],
  depth: number,
  options: OptionsWithRecord,
  nextCall: NextCall,
  environment: Environment,
): ClientCall {
  const layer = layers[depth];
  if (layer === undefined) return nextCall(options);
  return layer(options, (below) =>
    enter(layers, depth + 1, withRecord(below, environment), nextCall, environment),
  );
}
