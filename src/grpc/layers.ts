import type { Interceptor, NextCall } from "@grpc/grpc-js";
import { type OptionsWithRecord, recordKey, withRecord } from "./context/call-record.js";
import type { Environment } from "./environment.js";
import type { ClientCall } from "./types.js";

/** One layer of a client pipeline. It makes its own call, or that of the layer below where it has nothing to do. */
export type Layer = (options: OptionsWithRecord, nextCall: NextCall) => ClientCall;

/**
 * The interceptor of a pipeline. It finds the record of a call, or makes it, and then looks up the layers of the call's
 * method: once for each call, whatever number of layers and attempts it has.
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
    // The type of an interceptor asks for more than grpc-js does.
    return enter(layers, 0, options, nextCall, environment) as ReturnType<Interceptor>;
  };
}

/** Makes the call of the layer at this depth, with a way to those below it. */
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

/** A layer as an interceptor of its own, with the same options for all methods. */
export function interceptorOf(environment: Environment, layer: Layer | undefined): Interceptor {
  const layers = layer === undefined ? [] : [layer];
  return layered(environment, () => layers);
}
