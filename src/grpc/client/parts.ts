import type { InterceptingCall, Interceptor, NextCall } from "@grpc/grpc-js";
import type { Gate } from "../../core/gate.js";
import { type OptionsWithRecord, recordKey, withRecord } from "../context/call-record.js";
import type { Environment } from "../environment.js";
import type { ClientCall } from "../types.js";
import type { AttemptPart, ClientPassage } from "./attempt.js";
import { type CallPart, PipelineCall, type Segment } from "./pipeline-call.js";

/**
 * A layer of a pipeline that is a call of its own: what a part cannot do, such as answering from elsewhere. It returns its
 * call, or, where it has nothing to do, the call that `nextCall` makes.
 */
export type Layer = (options: OptionsWithRecord, nextCall: NextCall) => ClientCall;

/** Makes the further attempts of calls: retries, or hedges. */
export interface RepeatPart {
  readonly at: "repeat";
  /** The call that launches them; `undefined` where this call has one attempt. */
  make(options: OptionsWithRecord, nextCall: NextCall, segment: Segment): PipelineCall | undefined;
}

/** What each attempt must pass before it is sent, in this order. */
export interface GatesPart {
  readonly at: "gates";
  readonly gates: readonly Gate<ClientPassage>[];
}

/**
 * A part of a client pipeline. Parts that stand in the order of a call (those of the call, further attempts, gates,
 * those of the attempt) are run by one {@link PipelineCall}.
 */
export type Part = CallPart | RepeatPart | GatesPart | AttemptPart | Layer;

/** The parts that make spans. They know OpenTelemetry, so that the pipeline need not. Absent without tracing. */
export interface SpanParts {
  /** One span for a call, over all of its attempts. */
  readonly call?: CallPart;
  /** One span for each attempt, and the trace context in the attempt's metadata. */
  readonly attempt?: AttemptPart;
}

/** The parts that measure calls. They know OpenTelemetry, so that the pipeline need not. Absent without metrics. */
export interface MeterParts {
  readonly call?: CallPart;
  readonly attempt?: AttemptPart;
}

const order = ["call", "repeat", "gates", "attempt"] as const;

/** Compiles the parts of a method, the outermost first, into as few calls as their order allows. */
export function compiled(
  environment: Environment,
  parts: readonly (Part | undefined)[],
): readonly Layer[] {
  const layers: Layer[] = [];
  let open: Exclude<Part, Layer>[] = [];
  const close = () => {
    if (open.length > 0) layers.push(layerOf(environment, ...open));
    open = [];
  };
  for (const part of parts) {
    if (part === undefined) continue;
    if (typeof part === "function") {
      close();
      layers.push(part);
      continue;
    }
    const last = open.at(-1);
    const follows =
      last === undefined ||
      order.indexOf(last.at) < order.indexOf(part.at) ||
      (last.at === part.at && part.at !== "repeat");
    if (!follows) close();
    open.push(part);
  }
  close();
  return layers;
}

/** The piece of a pipeline with these parts, in the order of a call. A layer that has no parts needs one, too. */
export function segmentOf(
  { pendingCalls, history }: Pick<Environment, "pendingCalls" | "history">,
  ...parts: readonly Exclude<Part, Layer>[]
): Segment {
  const calls = parts.filter((part) => part.at === "call");
  const restores = calls.some((part) => part.restores === true);
  return {
    calls,
    restores,
    // The outermost call sees the end that the caller sees.
    history: restores ? history : undefined,
    gates: parts.flatMap((part) => (part.at === "gates" ? part.gates : [])),
    attempts: parts.filter((part) => part.at === "attempt"),
    gated: parts.some(({ at }) => at === "gates"),
    tracked: parts.some(({ at }) => at !== "call"),
    pendingCalls,
  };
}

/** The call that runs some parts, in the order of a call. */
export function layerOf(
  environment: Pick<Environment, "pendingCalls" | "history">,
  ...parts: readonly Exclude<Part, Layer>[]
): Layer {
  const segment = segmentOf(environment, ...parts);
  const repeat = parts.find((part) => part.at === "repeat");
  // Nothing else stands here: a call that is not repeated passes by.
  const alone = repeat !== undefined && parts.length === 1;
  return (options, nextCall) =>
    repeat?.make(options, nextCall, segment) ??
    (alone ? nextCall(options) : new PipelineCall(options, nextCall, segment));
}

/**
 * The interceptor that runs a pipeline. For each call it makes the call record, unless the options have one, and looks
 * up the layers of the call's method. Attempts of the call use what was found.
 *
 * @param layersOf The compiled layers of a method, the outermost first.
 */
export function pipelineInterceptor(
  environment: Environment,
  layersOf: (method: string) => readonly Layer[],
): Interceptor {
  return (given, nextCall) => {
    const options = withRecord(given, environment);
    const layers = layersOf(options[recordKey].method);
    // grpc-js uses the methods of a call only; its type for interceptors also has private fields.
    return enter(layers, 0, options, nextCall, environment) as InterceptingCall;
  };
}

/** An interceptor of some parts, with the same options for all methods. Without any it passes every call on. */
export function interceptorOf(
  environment: Environment,
  ...parts: readonly (Part | undefined)[]
): Interceptor {
  const layers = compiled(environment, parts);
  return pipelineInterceptor(environment, () => layers);
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
  // The last layer is called the way grpc-js calls an interceptor, without a function in between.
  if (depth === layers.length - 1) return layer(options, nextCall);
  return layer(options, (below) =>
    enter(layers, depth + 1, withRecord(below, environment), nextCall, environment),
  );
}
