import type { SpanView } from "../../../src/viewer/api.js";

/** A span from 0 to 100 ms, or as said. */
export function span(
  spanId: string,
  parentSpanId: string | undefined,
  [startMs, endMs]: readonly [number, number] = [0, 100],
  more: Partial<SpanView> = {},
): SpanView {
  return {
    traceId: "trace",
    spanId,
    ...(parentSpanId === undefined ? {} : { parentSpanId }),
    name: spanId,
    kind: "client",
    service: "web",
    scope: "grpc-weir",
    startMs,
    endMs,
    status: "unset",
    attributes: {},
    events: [],
    ...more,
  };
}

export function attempt(
  number: number,
  times: readonly [number, number],
  status: string,
  attributes: SpanView["attributes"] = {},
): SpanView {
  return span(`attempt${number}`, "call", times, {
    status: status === "OK" ? "unset" : "error",
    attributes: {
      "rpc.status_code": status,
      "weir.attempt.number": number,
      "weir.attempt.cause": "first",
      "weir.attempt.origin": "remote",
      ...attributes,
    },
  });
}

export function wait(
  parent: string,
  kind: string,
  times: readonly [number, number],
  policy?: string,
): SpanView {
  return span(`${kind} of ${parent}`, parent, times, {
    name: `wait: ${kind}`,
    kind: "internal",
    attributes: {
      "weir.wait.kind": kind,
      ...(policy === undefined ? {} : { "weir.wait.policy": policy }),
    },
  });
}
