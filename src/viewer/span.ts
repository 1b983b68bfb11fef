import { rounded } from "../core/rounded.js";
import { conventional, decisionEvent, own, statusName } from "../telemetry/attributes.js";
import type { Attributes, CallRow, SpanView } from "./api.js";
import { keptText } from "./attributes.js";

/** What is kept of one span: the first so many events. */
export const maxEvents = 128;

/** The largest time that a `Date` can have, in milliseconds. */
const latestMs = 8.64e15;

/** A time since the epoch; 0 where no `Date` can have it. */
export function keptTime(ms: number): number {
  return Math.abs(ms) <= latestMs ? ms : 0;
}

/** Names of other instrumentations, and of conventions before 1.45, for what {@link conventional} names. */
const former = {
  system: "rpc.system",
  service: "rpc.service",
  responseCode: "rpc.response.status_code",
  grpcCode: "rpc.grpc.status_code",
} as const;

/** How many characters of a text, and how many policies, the row of a call has. It may be kept when its span is not. */
const maxRowText = 200;
const maxPolicies = 32;

/** Whether the span is one attempt of a call. */
export function isAttempt({ attributes }: Pick<SpanView, "attributes">): boolean {
  return attributes[own.attemptNumber] !== undefined;
}

/** The call that a span is about: one of a client over all its attempts, or one that a server received. */
export function callOf(span: SpanView): CallRow | undefined {
  const { traceId, spanId, service, kind, attributes, events, startMs, endMs } = span;
  if ((kind !== "client" && kind !== "server") || isAttempt(span)) return undefined;
  const method = methodOf(attributes);
  if (method === undefined) return undefined;
  const priority = textAt(attributes, own.callPriority);
  const reason = textAt(attributes, own.rejectionReason);
  const decisions = events.filter(({ name }) => name === decisionEvent);
  const deciding = decisions.map((event) => textAt(event.attributes, own.decisionPolicy) ?? "");
  const policies = [...new Set(deciding)].filter((policy) => policy !== "");
  const degraded = decisions.some(
    (event) =>
      event.attributes[own.decisionVerdict] === "fallback" &&
      event.attributes[own.decisionEnforced] !== false,
  );
  const attempts = attributes[own.callAttempts];
  return {
    id: `${traceId}-${spanId}`,
    traceId,
    spanId,
    service: rowText(service),
    side: kind,
    method: rowText(method),
    status: rowText(statusOf(span)),
    ...(priority === undefined ? {} : { priority: rowText(priority) }),
    ...(reason === undefined ? {} : { reason: rowText(reason) }),
    policies: policies.slice(0, maxPolicies).map(rowText),
    startMs,
    // The microseconds that the difference of two such numbers keeps.
    durationMs: rounded(endMs - startMs),
    attempts: typeof attempts === "number" ? attempts : 1,
    ...(degraded ? { degraded } : {}),
  };
}

function rowText(text: string): string {
  return keptText(text, maxRowText);
}

/** Whether the span is about telemetry that is sent: whoever watches calls does not mean those. */
export function isExport({ attributes }: SpanView): boolean {
  return methodOf(attributes)?.startsWith("opentelemetry.proto.collector.") === true;
}

/** The port at which an HTTP server was asked, if the span is about that. */
export function httpServerPort({ kind, attributes }: SpanView): number | undefined {
  const isHttp =
    attributes["http.request.method"] !== undefined || attributes["http.method"] !== undefined;
  if (kind !== "server" || !isHttp) return undefined;
  const port = attributes["server.port"] ?? attributes["net.host.port"];
  return typeof port === "number" ? port : undefined;
}

/** `pkg.Service/Method`; `undefined` where the span is about no remote call. */
function methodOf(attributes: Attributes): string | undefined {
  const method = textAt(attributes, conventional.method);
  if (method?.includes("/")) return method;
  const service = textAt(attributes, former.service);
  if (method === undefined) return service;
  return service === undefined ? method : `${service}/${method}`;
}

/** The name of the status code with which the call ended. */
export function statusOf({ attributes, status }: SpanView): string {
  const name = attributes[conventional.statusCode] ?? attributes[former.responseCode];
  if (typeof name === "string") return name;
  const code = attributes[former.grpcCode] ?? name;
  if (typeof code === "number") return statusName(code);
  return status === "error" ? "UNKNOWN" : "OK";
}

export function textAt(attributes: Attributes, key: string): string | undefined {
  const value = attributes[key];
  return typeof value === "string" && value !== "" ? value : undefined;
}
