import { Server } from "@grpc/grpc-js";
import { type Context, type Span, SpanKind, trace } from "@opentelemetry/api";
import { rpcMethod } from "./semconv.js";

/** Instrumentation scope of OpenTelemetry's own instrumentation of grpc-js. */
const scope = "@opentelemetry/instrumentation-grpc";

/** What the SDK's spans tell, beside what the API promises. */
interface ReadableSpan extends Span {
  readonly name?: unknown;
  readonly kind?: unknown;
  readonly instrumentationScope?: { readonly name?: unknown };
}

/**
 * The span that OpenTelemetry's own instrumentation has made for this call, if it is at work. The toolkit's
 * interceptors run inside it; it serves as call span, because a call is to have one span of kind CLIENT.
 * The name is looked at, too: a call that an interceptor makes on the side stands inside as well.
 */
export function instrumentedSpan(active: Context, path: string): Span | undefined {
  const span: ReadableSpan | undefined = trace.getSpan(active);
  if (span?.instrumentationScope?.name !== scope || span.kind !== SpanKind.CLIENT) return undefined;
  return span.name === `grpc.${rpcMethod(path)}` && span.isRecording() ? span : undefined;
}

/**
 * OpenTelemetry's own instrumentation is at work on servers. It makes its span inside the handler, from the
 * metadata that the handler sees.
 */
export function serverInstrumented(): boolean {
  const register: unknown = Reflect.get(Server.prototype, "register");
  return typeof register === "function" && Reflect.get(register, "__wrapped") === true;
}
