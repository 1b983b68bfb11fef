import { metrics } from "@opentelemetry/api";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { type Resource, resourceFromAttributes } from "@opentelemetry/resources";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import {
  BatchSpanProcessor,
  type ReadableSpan,
  type Span,
  type SpanExporter,
  type SpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { serviceOf } from "./traces.js";
import { kindOf } from "./tracing.js";

/** How often spans and metrics are sent, in milliseconds. */
const everyMs = 1_000;

/** Sends spans and metrics while the incident is played, as services do: over OTLP. */
export function live(otlp: string): {
  readonly spanProcessor: SpanProcessor;
  close(): Promise<void>;
} {
  const spanProcessor = new ByService(new OTLPTraceExporter({ url: `${otlp}/v1/traces` }));
  const meters = new MeterProvider({
    resource: resourceOf(process.argv[2] ?? ""),
    readers: [
      new PeriodicExportingMetricReader({
        exporter: new OTLPMetricExporter({ url: `${otlp}/v1/metrics` }),
        exportIntervalMillis: everyMs,
        exportTimeoutMillis: everyMs,
      }),
    ],
  });
  metrics.setGlobalMeterProvider(meters);
  return {
    spanProcessor,
    async close() {
      await Promise.allSettled([spanProcessor.shutdown(), meters.shutdown()]);
    },
  };
}

/** Says of each span which service it is from. Elsewhere each service has a process, and its SDK says so. */
class ByService implements SpanProcessor {
  readonly #batches: BatchSpanProcessor;
  readonly #services = new WeakMap<object, string>();
  /** Of the spans that have not ended, by id: a wait is of the service that its parent is of. */
  readonly #running = new Map<string, string>();

  constructor(exporter: SpanExporter) {
    const byService: SpanExporter = {
      export: (spans, done) => exporter.export(spans.map(this.#withResource), done),
      shutdown: () => exporter.shutdown(),
    };
    const options = { scheduledDelayMillis: everyMs, maxQueueSize: 20_000 };
    this.#batches = new BatchSpanProcessor(byService, options);
  }

  onStart(span: Span): void {
    const parent = span.parentSpanContext?.spanId ?? "";
    const named = serviceOf({ name: span.name, kind: kindOf(span) });
    const service = named === "" ? (this.#running.get(parent) ?? "") : named;
    this.#services.set(span, service);
    this.#running.set(span.spanContext().spanId, service);
  }

  onEnd(span: ReadableSpan): void {
    this.#running.delete(span.spanContext().spanId);
    this.#batches.onEnd(span);
  }

  readonly #withResource = (span: ReadableSpan): ReadableSpan =>
    Object.create(span, { resource: { value: resourceOf(this.#services.get(span) ?? "") } });

  forceFlush(): Promise<void> {
    return this.#batches.forceFlush();
  }

  shutdown(): Promise<void> {
    return this.#batches.shutdown();
  }
}

const resources = new Map<string, Resource>();

function resourceOf(service: string): Resource {
  const known = resources.get(service);
  if (known !== undefined) return known;
  const made = resourceFromAttributes({ "service.name": service });
  resources.set(service, made);
  return made;
}
