import type { Server } from "node:net";
import { type Clock, systemClock } from "../core/clock.js";
import { isRecord, oneOf, optionalFunction, readOptions, wholeNumber } from "../core/options.js";
import { ask, finite, type ReportError, userClock, warn } from "../core/user-code.js";
import { type BoardSample, breakerStates } from "./board.js";
import { type Demo, RunningDemo } from "./demo.js";
import { Listener, PortError, type PortUse } from "./listener.js";
import { LiveFeed } from "./live-feed.js";
import { loopback } from "./local-http.js";
import { otlpGrpcServer } from "./otlp/grpc-receiver.js";
import { otlpHttpServer } from "./otlp/http-receiver.js";
import { pageFiles } from "./page-files.js";
import { pageServer } from "./page-server.js";
import { Recorder } from "./recorder.js";
import { RecordingSpanProcessor, type ViewerSpanProcessor } from "./span-processor.js";
import type { StoreLimits } from "./trace-store.js";

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md */
export interface OtlpPorts {
  /** The port for OTLP over gRPC, from 0 to 65,535; 0 for any. @defaultValue 4317 */
  readonly grpcPort?: number;
  /** The port for OTLP over HTTP, from 0 to 65,535; 0 for any. @defaultValue 4318 */
  readonly httpPort?: number;
}

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md */
export interface TraceViewerOptions {
  /** The port of the page, from 0 to 65,535; 0 for any. @defaultValue 4319, or any if that one is in use */
  readonly port?: number;
  /**
   * Whether the viewer also receives OTLP, from other processes of this machine, and at which ports.
   * @defaultValue false
   */
  readonly otlp?: boolean | OtlpPorts;
  /**
   * What this process says of itself for the board: it is asked each second. Not needed where the metrics of the toolkit are
   * sent to the viewer by OTLP.
   */
  readonly sample?: () => BoardSample;
  /** A demo that the page shows and controls. */
  readonly demo?: Demo;
  /** How much is kept. */
  readonly limits?: StoreLimits;
  /** Whether the process stays alive for the viewer. @defaultValue false */
  readonly keepProcessAlive?: boolean;
  /** The source of time. @defaultValue that of the process */
  readonly clock?: Clock;
  /** Told of errors of the functions that you hand in, and of spans that cannot be read. @defaultValue a warning of the process */
  readonly onError?: ReportError;
}

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md */
export interface TraceViewer {
  /** Where the page is, such as `http://127.0.0.1:4319`. */
  readonly url: string;
  /** Where OTLP is received, for `OTEL_EXPORTER_OTLP_ENDPOINT`; absent without `otlp`. */
  readonly otlp?: { readonly grpc: string; readonly http: string };
  /** Give it to the tracer provider of this process. */
  readonly spanProcessor: ViewerSpanProcessor;
  /** Closes the ports at once, and takes no more spans. May be called again: all calls wait for the same end. */
  close(): Promise<void>;
}

/** Where the page is and OTLP is received, unless somebody says otherwise. */
export const usualPorts = { page: 4319, otlpGrpc: 4317, otlpHttp: 4318 } as const;

/**
 * Starts a page that shows the traces and calls of this process, and of others that send OTLP to it. It listens on
 * 127.0.0.1 only, keeps what it shows in memory, and sends nothing to anybody.
 *
 * @throws InvalidOptionError for an option out of its range.
 * @throws PortError when a port cannot be opened.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export async function traceViewer(options: TraceViewerOptions = {}): Promise<TraceViewer> {
  const resolved = readViewerOptions(options);
  const { clock, report, sample, keepsProcess, limits } = resolved;
  const live = new LiveFeed(clock);
  const demo = resolved.demo === undefined ? undefined : new RunningDemo(resolved.demo, report);
  const recorder = new Recorder(
    { limits, clock, sample: () => sampled() },
    {
      onCall: (call) => live.call(call),
      onPoints: (points) => {
        live.points(points);
        const news = live.listeners > 0 ? demo?.news() : undefined;
        if (news !== undefined) live.demo(news);
      },
    },
  );
  const spanProcessor = new RecordingSpanProcessor(recorder, report);
  const sampled = () => {
    if (sample === undefined) return undefined;
    const read = ask(sample, readSample, undefined, report, "traceViewer.sample");
    return read === undefined ? undefined : { sample: read, service: spanProcessor.service };
  };

  const listeners: Listener[] = [];
  const end = async () => {
    recorder.close();
    live.close();
    await spanProcessor.shutdown();
    await Promise.all(listeners.map((listener) => listener.close()));
  };
  let closed: Promise<void> | undefined;
  const close = () => {
    closed ??= end();
    return closed;
  };
  const open = async (server: Server, use: PortUse, port: number) => {
    const listener = await Listener.open(server, { use, port, keepsProcess });
    recorder.addOwnPort(listener.port);
    listeners.push(listener);
    return `http://${loopback}:${listener.port}`;
  };
  try {
    const files = await pageFiles();
    const page = () => pageServer({ files, recorder, live, demo });
    const url = await open(page(), "the page", resolved.port ?? usualPorts.page).catch((error) => {
      const taken = error instanceof PortError && error.code === "EADDRINUSE";
      if (!taken || resolved.port !== undefined) throw error;
      return open(page(), "the page", 0);
    });
    if (resolved.otlp === undefined) return { url, spanProcessor, close };
    const { grpcPort, httpPort } = resolved.otlp;
    const grpc = await open(otlpGrpcServer(recorder), "OTLP over gRPC", grpcPort);
    const http = await open(otlpHttpServer(recorder), "OTLP over HTTP", httpPort);
    return { url, otlp: { grpc, http }, spanProcessor, close };
  } catch (error) {
    await close();
    throw error;
  }
}

const optionNames = [
  "port",
  "otlp",
  "sample",
  "demo",
  "limits",
  "keepProcessAlive",
  "clock",
  "onError",
] as const satisfies readonly (keyof TraceViewerOptions)[];

function readViewerOptions(options: TraceViewerOptions) {
  const read = readOptions("traceViewer", options, optionNames);
  const report = optionalFunction("traceViewer.onError", read.onError) ?? warn;
  return {
    port: read.port === undefined ? undefined : portOf("traceViewer.port", read.port),
    otlp: readOtlp(read.otlp),
    sample: optionalFunction("traceViewer.sample", read.sample),
    demo: read.demo,
    limits: read.limits ?? {},
    keepsProcess: read.keepProcessAlive === true,
    clock: userClock(read.clock ?? systemClock, report),
    report,
  };
}

function readOtlp(otlp: boolean | OtlpPorts | undefined): Required<OtlpPorts> | undefined {
  if (otlp === undefined || otlp === false) return undefined;
  const ports =
    otlp === true ? {} : readOptions("traceViewer.otlp", otlp, ["grpcPort", "httpPort"]);
  return {
    grpcPort: portOf("traceViewer.otlp.grpcPort", ports.grpcPort ?? usualPorts.otlpGrpc),
    httpPort: portOf("traceViewer.otlp.httpPort", ports.httpPort ?? usualPorts.otlpHttp),
  };
}

function portOf(option: string, value: unknown): number {
  return wholeNumber(option, value, 0, 65_535);
}

/** Checks what `sample` returned. */
function readSample(answer: unknown): BoardSample {
  if (!isRecord(answer)) throw new TypeError("it must answer an object");
  const sample: { -readonly [K in keyof BoardSample]: BoardSample[K] } = {};
  for (const name of ["queue", "limit", "running"] as const) {
    if (answer[name] !== undefined) sample[name] = finite(answer[name]);
  }
  const { breakers } = answer;
  if (isRecord(breakers)) {
    sample.breakers = Object.fromEntries(
      Object.entries(breakers).map(([key, state]) => [
        key,
        oneOf("breakers", state, breakerStates),
      ]),
    );
  }
  return sample;
}
