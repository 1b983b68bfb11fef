import { type ReportError, reportSafely } from "../core/user-code.js";
import type { SpanView } from "./api.js";
import { keptAttributes, keptText } from "./attributes.js";
import { unknownService } from "./otlp/values.js";
import type { Recorder } from "./recorder.js";
import { keptTime, maxEvents } from "./span.js";

/**
 * A finished span of the SDK of OpenTelemetry; the `ReadableSpan` of its versions 2 and 3 is one.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export interface FinishedSpan {
  readonly name: string;
  readonly kind: number;
  readonly spanContext: () => { readonly traceId: string; readonly spanId: string };
  readonly parentSpanContext?: { readonly spanId: string } | undefined;
  /** Seconds since the epoch, and nanoseconds. */
  readonly startTime: readonly [number, number];
  readonly endTime: readonly [number, number];
  readonly status: { readonly code: number; readonly message?: string | undefined };
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly events: readonly {
    readonly name: string;
    readonly time: readonly [number, number];
    readonly attributes?: Readonly<Record<string, unknown>> | undefined;
  }[];
  readonly resource: { readonly attributes: Readonly<Record<string, unknown>> };
  readonly instrumentationScope: { readonly name: string };
}

/**
 * Give it to the tracer provider. It fits the `SpanProcessor` of versions 2 and 3 of the SDK.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export interface ViewerSpanProcessor {
  onStart(): void;
  onEnd(span: FinishedSpan): void;
  forceFlush(): Promise<void>;
  /** The spans that are shown already stay. */
  shutdown(): Promise<void>;
}

/** Hands finished spans to the recorder, and never throws into the SDK. */
export class RecordingSpanProcessor implements ViewerSpanProcessor {
  readonly #recorder: Recorder;
  readonly #report: ReportError;
  #open = true;
  /** The service that the spans of this process name. */
  service = "this process";

  constructor(recorder: Recorder, report: ReportError) {
    this.#recorder = recorder;
    this.#report = report;
  }

  onStart(): void {}

  onEnd(span: FinishedSpan): void {
    if (!this.#open) return;
    try {
      const view = spanViewOf(span);
      if (view.service !== unknownService) this.service = view.service;
      this.#recorder.record(view);
    } catch (error) {
      reportSafely(this.#report, error, "traceViewer.spanProcessor");
    }
  }

  async forceFlush(): Promise<void> {}

  async shutdown(): Promise<void> {
    this.#open = false;
  }
}

/** By number, as `SpanKind` of OpenTelemetry has them. */
const kinds = ["internal", "server", "client", "producer", "consumer"] as const;
/** As `SpanStatusCode` has them. */
const statuses = ["unset", "ok", "error"] as const;

export function spanViewOf(span: FinishedSpan): SpanView {
  const { traceId, spanId } = span.spanContext();
  const parentSpanId = span.parentSpanContext?.spanId;
  const service = span.resource.attributes["service.name"];
  const message = span.status.message ?? "";
  const startMs = epochMs(span.startTime);
  return {
    traceId,
    spanId,
    ...(parentSpanId === undefined ? {} : { parentSpanId }),
    name: keptText(span.name),
    kind: kinds[span.kind] ?? "internal",
    service: typeof service === "string" && service !== "" ? keptText(service) : unknownService,
    scope: span.instrumentationScope.name,
    startMs,
    endMs: Math.max(startMs, epochMs(span.endTime)),
    status: statuses[span.status.code] ?? "unset",
    ...(message === "" ? {} : { statusMessage: keptText(message) }),
    attributes: keptAttributes(Object.entries(span.attributes)),
    events: span.events.slice(0, maxEvents).map(({ name, time, attributes = {} }) => ({
      name: keptText(name),
      atMs: epochMs(time),
      attributes: keptAttributes(Object.entries(attributes)),
    })),
  };
}

function epochMs([seconds, nanoseconds]: readonly [number, number]): number {
  return keptTime(seconds * 1000 + nanoseconds / 1e6);
}
