import { type Attributes, type Context, SpanKind } from "@opentelemetry/api";
import type { Wait } from "../core/wait.js";
import { own } from "./attributes.js";
import type { SpanTime } from "./spans.js";
import type { Tracing } from "./tracing.js";

/** A shorter wait, in milliseconds, has no span. */
const shortestMs = 1;

const names = {
  queue: "wait: queue",
  backoff: "wait: backoff",
  connection: "wait: connection",
  event_loop: "wait: event loop",
} as const satisfies Record<Wait["kind"], string>;

/** Makes the span of a wait that is over, as a child of the span of its call. */
export function makeWaitSpan(
  tracing: Tracing,
  parent: Context,
  time: SpanTime,
  { kind, policy, startedAtMs, endedAtMs }: Wait,
): void {
  if (endedAtMs - startedAtMs < shortestMs) return;
  const attributes: Attributes = { [own.waitKind]: kind };
  if (policy !== undefined) attributes[own.waitPolicy] = policy;
  const startTime = time.at(startedAtMs);
  const options = { kind: SpanKind.INTERNAL, startTime, attributes };
  const span = tracing.startSpan(names[kind], options, parent);
  if (span !== undefined) tracing.guard(() => span.end(time.at(endedAtMs)));
}
