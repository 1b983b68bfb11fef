import type { IncomingMessage, Server, ServerResponse } from "node:http";
import {
  ExportMetricsServiceRequest,
  ExportMetricsServiceResponse,
} from "../../gen/opentelemetry/proto/collector/metrics/v1/metrics_service.js";
import {
  ExportTraceServiceRequest,
  ExportTraceServiceResponse,
} from "../../gen/opentelemetry/proto/collector/trace/v1/trace_service.js";
import {
  bodyOf,
  HttpError,
  localServer,
  mediaTypeOf,
  sendJson,
  targetOf,
  textOf,
} from "../local-http.js";
import type { Recorder } from "../recorder.js";
import { metricsFromJson, tracesFromJson } from "./json.js";
import { maxMessageBytes, receiveMetrics, receiveTraces } from "./receiver.js";

/** `POST /v1/traces` and `POST /v1/metrics`, in Protobuf and JSON. */
export function otlpHttpServer(recorder: Recorder): Server {
  const endpoints = new Map<string, Endpoint>([
    ["/v1/traces", tracesOf(recorder)],
    ["/v1/metrics", metricsOf(recorder)],
  ]);
  return localServer(async (request, response) => {
    const endpoint = endpoints.get(targetOf(request).path);
    if (endpoint === undefined) {
      throw new HttpError(404, "OTLP is received at /v1/traces and /v1/metrics.");
    }
    if (request.method !== "POST") {
      response.setHeader("allow", "POST");
      throw new HttpError(405, "OTLP is received by POST.");
    }
    await receive(endpoint, request, response);
  });
}

interface Endpoint {
  /** @throws what is wrong with the body. */
  protobuf(body: Buffer): Uint8Array;
  /** @throws what is wrong with the text. */
  json(text: string): object;
}

async function receive(
  endpoint: Endpoint,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const type = mediaTypeOf(request);
  const isJson = type === "application/json";
  if (!isJson && type !== "application/x-protobuf") {
    throw new HttpError(415, "The body is application/x-protobuf or application/json.");
  }
  const body = await bodyOf(request, maxMessageBytes);
  if (isJson) {
    const answer = understood(() => endpoint.json(body.toString()));
    sendJson(response, 200, answer);
    return;
  }
  const answer = understood(() => endpoint.protobuf(body));
  response.writeHead(200, { "content-type": type, "content-length": answer.length });
  response.end(answer);
}

function understood<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new HttpError(400, `The body is no message of OTLP: ${textOf(error)}.`);
  }
}

function tracesOf(recorder: Recorder): Endpoint {
  return {
    protobuf: (body) => {
      const answer = receiveTraces(recorder, ExportTraceServiceRequest.decode(body));
      return ExportTraceServiceResponse.encode(answer).finish();
    },
    json: (text) => {
      const { partialSuccess } = receiveTraces(recorder, tracesFromJson(text));
      if (partialSuccess === undefined) return {};
      const { rejectedSpans, errorMessage } = partialSuccess;
      return { partialSuccess: { rejectedSpans: String(rejectedSpans), errorMessage } };
    },
  };
}

function metricsOf(recorder: Recorder): Endpoint {
  return {
    protobuf: (body) => {
      const answer = receiveMetrics(recorder, ExportMetricsServiceRequest.decode(body));
      return ExportMetricsServiceResponse.encode(answer).finish();
    },
    json: (text) => {
      receiveMetrics(recorder, metricsFromJson(text));
      return {};
    },
  };
}
