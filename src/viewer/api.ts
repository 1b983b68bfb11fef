/** What the viewer's server and its page say to each other, as JSON. Times are milliseconds since the Unix epoch, with fractions. */

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md */
export type AttributeValue =
  | string
  | number
  | boolean
  | readonly (string | number | boolean | null)[];

export type Attributes = Readonly<Record<string, AttributeValue>>;

/**
 * One call: a client's span of it, or the span of a server whose caller's span is not known here.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export interface CallRow {
  /** `${traceId}-${spanId}` */
  readonly id: string;
  readonly traceId: string;
  readonly spanId: string;
  /** The resource attribute `service.name`. */
  readonly service: string;
  readonly side: "client" | "server";
  /** `pkg.Service/Method` */
  readonly method: string;
  /** The name of the status code, such as `OK`. Where the span does not tell it, `UNKNOWN` for an error and `OK` otherwise. */
  readonly status: string;
  readonly priority?: string;
  /** Why the call was refused, as a reason code. */
  readonly reason?: string;
  /** The policies that decided something about the call. */
  readonly policies: readonly string[];
  readonly startMs: number;
  readonly durationMs: number;
  readonly attempts: number;
  /** Answered from another source, such as a cache. */
  readonly degraded?: boolean;
}

export interface SpanEvent {
  readonly name: string;
  readonly atMs: number;
  readonly attributes: Attributes;
}

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md */
export interface SpanView {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: "client" | "server" | "internal" | "producer" | "consumer";
  readonly service: string;
  /** The instrumentation scope: who made the span. */
  readonly scope: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly status: "unset" | "ok" | "error";
  readonly statusMessage?: string;
  readonly attributes: Attributes;
  readonly events: readonly SpanEvent[];
}

/**
 * `GET /api/traces/<traceId>`
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export interface TraceView {
  readonly traceId: string;
  readonly spans: readonly SpanView[];
  /** Spans of this trace were dropped, because it has more than the viewer keeps of one. */
  readonly truncated: boolean;
}

/**
 * `GET /api/calls?method=&status=&priority=&policy=&reason=&service=&minMs=&q=&before=<id>&limit=`
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export interface CallsView {
  /** The newest first. */
  readonly calls: readonly CallRow[];
  /** How many kept calls fit the search, on other pages too. */
  readonly total: number;
  /** How many calls are kept. */
  readonly kept: number;
  /** How many calls were seen, and are not kept any more. */
  readonly dropped: number;
}

/**
 * One second of the board. Spans come in batches, some seconds after their calls: a point that has changed since is sent
 * again by `GET /api/live`, with the same `atMs`, and replaces the one before.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export interface BoardPoint {
  /** The end of the second. */
  readonly atMs: number;
  /** Calls that ended OK, by priority; `""` for none. */
  readonly goodput: Readonly<Record<string, number>>;
  /** Calls that ended otherwise and were not refused. */
  readonly failures: number;
  /** Refused calls, by reason code. */
  readonly refusals: Readonly<Record<string, number>>;
  /** Of the calls of this second; null without calls. */
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  /** The latest gauges, by service. */
  readonly queue: Readonly<Record<string, number>>;
  readonly limit: Readonly<Record<string, number>>;
  readonly running: Readonly<Record<string, number>>;
  /** By `service key`. */
  readonly breakers: Readonly<Record<string, BreakerState>>;
}

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md */
export type BreakerState = "closed" | "half-open" | "open";

/**
 * `GET /api/board`: the last 10 minutes, the oldest first.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export interface BoardView {
  readonly points: readonly BoardPoint[];
}

/**
 * `event: calls` of `GET /api/live`; the other events are `board` with a {@link BoardPoint}, and `demo` with a {@link DemoState}.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export interface LiveCalls {
  /** At most 200, the oldest first. */
  readonly calls: readonly CallRow[];
  /** How many more calls there were since the last event. */
  readonly skipped: number;
}

/**
 * `GET /api/demo`, which is 204 without a body where no demo runs, and the answer to `POST /api/demo`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export interface DemoState {
  readonly title: string;
  readonly running: boolean;
  readonly phase: string;
  readonly sliders: readonly DemoSlider[];
  /** What is compared, such as `bare`, `retryPolicy`, `weir`. */
  readonly ways: readonly { readonly name: string; readonly title: string }[];
  readonly seconds: readonly DemoSecond[];
  readonly table: readonly DemoPhase[];
}

export interface DemoSlider {
  readonly name: string;
  readonly label: string;
  readonly unit: string;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  readonly value: number;
}

export interface DemoSecond {
  readonly atMs: number;
  readonly phase: string;
  readonly ways: Readonly<Record<string, DemoCounts & { readonly p99Ms: number | null }>>;
}

export interface DemoPhase {
  readonly phase: string;
  readonly ways: Readonly<Record<string, DemoCounts>>;
}

export interface DemoCounts {
  readonly sent: number;
  readonly ok: number;
  readonly okCritical: number;
  readonly sentCritical: number;
}

/**
 * The body of `POST /api/demo`: new values of sliders by name, or a command.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export type DemoChange =
  | Readonly<Record<string, number>>
  | { readonly command: "start" | "stop" | "reset" };

/**
 * The body of every answer that is an error.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export interface ApiError {
  readonly error: string;
}
