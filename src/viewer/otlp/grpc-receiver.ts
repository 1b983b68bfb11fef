import { createServer, type Server as TcpServer } from "node:net";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import {
  type MetricsServiceServer,
  MetricsServiceService,
} from "../../gen/opentelemetry/proto/collector/metrics/v1/metrics_service.js";
import {
  type TraceServiceServer,
  TraceServiceService,
} from "../../gen/opentelemetry/proto/collector/trace/v1/trace_service.js";
import type { Recorder } from "../recorder.js";
import { maxMessageBytes, receiveMetrics, receiveTraces } from "./receiver.js";

/**
 * `TraceService/Export` and `MetricsService/Export`. The sockets are of a server of Node's, because those of a server of
 * grpc-js cannot be kept from holding the process.
 */
export function otlpGrpcServer(recorder: Recorder): TcpServer {
  const server = new Server({
    "grpc.max_receive_message_length": maxMessageBytes,
    // What the viewer receives is not to be seen in what it shows.
    "grpc.enable_channelz": 0,
  });
  const traces: TraceServiceServer = {
    export: ({ request }, done) => done(null, receiveTraces(recorder, request)),
  };
  const metrics: MetricsServiceServer = {
    export: ({ request }, done) => done(null, receiveMetrics(recorder, request)),
  };
  server.addService(TraceServiceService, traces);
  server.addService(MetricsServiceService, metrics);
  const connections = server.createConnectionInjector(ServerCredentials.createInsecure());
  const tcp = createServer((socket) => connections.injectConnection(socket));
  tcp.on("close", () => server.forceShutdown());
  return tcp;
}
