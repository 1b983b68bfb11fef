// Calls of the four kinds on a cold channel, each retried once, from a client with the toolkit to a server with it. Prints
// the spans as JSON. It runs in a folder where one SDK of OpenTelemetry is installed beside the built package.
//
//   node spans.mjs <2|3> [instrumented] [commonjs]
//
// instrumented: OpenTelemetry's own instrumentation of grpc-js is there, too.
// commonjs: the application uses the CommonJS build of the API and of the SDK. The toolkit uses the other build of the API.
import { createRequire } from "node:module";

const [version, ...ways] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const load = ways.includes("commonjs") ? require : (name) => import(name);

let instrumentation;
if (ways.includes("instrumented")) {
  const { GrpcInstrumentation } = require("@opentelemetry/instrumentation-grpc");
  instrumentation = new GrpcInstrumentation();
}
// After the instrumentation, and by `require`, which is what it hooks into. The toolkit gets the same module.
const grpc = require("@grpc/grpc-js");
const { context, propagation, SpanKind, trace } = await load("@opentelemetry/api");
const { AsyncLocalStorageContextManager } = await load("@opentelemetry/context-async-hooks");
const { W3CTraceContextPropagator } = await load("@opentelemetry/core");
const { createWeir } = await import("grpc-weir");

const { provider, exporter } = await sdk();
trace.setGlobalTracerProvider(provider);
// As NodeSDK does: what was enabled before the SDK may know another build of the API.
instrumentation?.setTracerProvider(provider);
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
propagation.setGlobalPropagator(new W3CTraceContextPropagator());

async function sdk() {
  if (version === "3") {
    const { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } = await load(
      "@opentelemetry/sdk-trace",
    );
    const kept = new InMemorySpanExporter();
    const spanProcessors = [new SimpleSpanProcessor({ exporter: kept })];
    return { provider: new TracerProvider({ spanProcessors }), exporter: kept };
  }
  const { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } = await load(
    "@opentelemetry/sdk-trace-base",
  );
  const kept = new InMemorySpanExporter();
  const spanProcessors = [new SimpleSpanProcessor(kept)];
  return { provider: new BasicTracerProvider({ spanProcessors }), exporter: kept };
}

const bytes = { serialize: (value) => value, deserialize: (value) => value };
const method = (name, requestStream, responseStream) => ({
  path: `/compat.Echo/${name}`,
  requestStream,
  responseStream,
  requestSerialize: bytes.serialize,
  requestDeserialize: bytes.deserialize,
  responseSerialize: bytes.serialize,
  responseDeserialize: bytes.deserialize,
});
const service = {
  Unary: method("Unary", false, false),
  ClientStream: method("ClientStream", true, false),
  ServerStream: method("ServerStream", false, true),
  BidiStream: method("BidiStream", true, true),
};

const tracer = trace.getTracer("app");
const answer = Buffer.from("answer");
const asked = new Set();

/** Refuses the first attempt of each kind, and makes a span in the handler of every one. */
function failsOnce(name) {
  tracer.startSpan("work").end();
  if (asked.has(name)) return false;
  asked.add(name);
  return true;
}

const notNow = { code: grpc.status.UNAVAILABLE, details: "not now" };
const weir = createWeir();
const server = new grpc.Server(weir.server());
server.addService(service, {
  Unary: (_call, callback) => (failsOnce("Unary") ? callback(notNow) : callback(null, answer)),
  ClientStream(call, callback) {
    call.resume();
    if (failsOnce("ClientStream")) callback(notNow);
    else call.on("end", () => callback(null, answer));
  },
  ServerStream(call) {
    if (failsOnce("ServerStream")) call.emit("error", notNow);
    else call.end(answer);
  },
  BidiStream(call) {
    call.resume();
    if (failsOnce("BidiStream")) call.emit("error", notNow);
    else call.on("end", () => call.end(answer));
  },
});
const port = await new Promise((resolve, reject) => {
  const insecure = grpc.ServerCredentials.createInsecure();
  server.bindAsync("127.0.0.1:0", insecure, (error, bound) =>
    error ? reject(error) : resolve(bound),
  );
});

const Client = grpc.makeGenericClientConstructor(service, "Echo");
const client = new Client(
  `127.0.0.1:${port}`,
  grpc.credentials.createInsecure(),
  weir.client({
    breaker: false,
    retry: { idempotent: true, backoff: { baseMs: 5, jitter: "none" } },
  }),
);
const request = Buffer.from("request");
const ended = (call) => new Promise((resolve) => call.on("status", ({ code }) => resolve(code)));
const calls = {
  Unary: () => ended(client.Unary(request, () => {})),
  ClientStream() {
    const call = client.ClientStream(() => {});
    call.end(request);
    return ended(call);
  },
  ServerStream() {
    const call = client.ServerStream(request);
    call.resume().on("error", () => {});
    return ended(call);
  },
  BidiStream() {
    const call = client.BidiStream();
    call.resume().on("error", () => {});
    call.end(request);
    return ended(call);
  },
};

// All at once, on a channel that has no connection: grpc-js then runs their events in the context of the first.
const codes = await Promise.all(
  Object.entries(calls).map(([name, call]) => {
    const span = tracer.startSpan(`app ${name}`);
    return context.with(trace.setSpan(context.active(), span), async () => {
      const code = await call();
      span.end();
      return [name, code];
    });
  }),
);
client.close();
await new Promise((resolve) => server.tryShutdown(resolve));
await provider.forceFlush();

const ms = ([seconds, nanos]) => seconds * 1_000 + nanos / 1e6;
const spans = exporter.getFinishedSpans().map((span) => ({
  name: span.name,
  kind: SpanKind[span.kind],
  scope: span.instrumentationScope.name,
  traceId: span.spanContext().traceId,
  id: span.spanContext().spanId,
  parent: span.parentSpanContext?.spanId,
  startMs: ms(span.startTime),
  events: span.events.map(({ attributes }) => attributes?.["weir.decision.detail"]),
}));
console.log(JSON.stringify({ codes, spans }));
