import { parseArgs } from "node:util";
import { PortError, type PortUse } from "../viewer/listener.js";
import { type TraceViewer, traceViewer, usualPorts } from "../viewer/trace-viewer.js";

/** What the program uses of its process. */
export interface Terminal {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  once(signal: "SIGINT" | "SIGTERM", listener: () => void): unknown;
  removeListener(signal: "SIGINT" | "SIGTERM", listener: () => void): unknown;
}

const usage = `Usage: grpc-weir view [options]

Shows the traces and calls that programs on this machine send by OTLP. Nothing leaves the machine.

Options:
  --port <port>            of the page (default ${usualPorts.page})
  --otlp-grpc-port <port>  receives OTLP over gRPC (default ${usualPorts.otlpGrpc})
  --otlp-http-port <port>  receives OTLP over HTTP (default ${usualPorts.otlpHttp})
  --help                   shows this

A port of 0 is any that is free. All ports are on 127.0.0.1.
`;

/** The options by what they are for. */
const flags = {
  "the page": "port",
  "OTLP over gRPC": "otlp-grpc-port",
  "OTLP over HTTP": "otlp-http-port",
} as const satisfies Record<PortUse, string>;

type Ports = Partial<Record<(typeof flags)[PortUse], number>>;

/** Arguments that make no sense. */
class UsageError extends Error {}

/**
 * Runs the program until it is stopped.
 *
 * @returns its exit code: 0 also when it is stopped by a signal, 1 when a port cannot be opened, 2 for wrong arguments.
 */
export async function run(args: readonly string[], terminal: Terminal): Promise<number> {
  const { stdout, stderr } = terminal;
  try {
    const asked = read(args);
    if (asked === "help") {
      stdout.write(usage);
      return 0;
    }
    const viewer = await open(asked);
    const stopped = untilStopped(terminal);
    stdout.write(greeting(viewer));
    await stopped;
    await viewer.close();
    return 0;
  } catch (error) {
    if (error instanceof UsageError) {
      stderr.write(`grpc-weir: ${error.message}\n\n${usage}`);
      return 2;
    }
    if (error instanceof PortError) {
      stderr.write(
        `grpc-weir: ${error.message}: --${flags[error.use]} names another one, 0 any.\n`,
      );
      return 1;
    }
    throw error;
  }
}

function read(args: readonly string[]): Ports | "help" {
  const { values, positionals } = parse(args);
  if (values.help === true) return "help";
  const [command, ...others] = positionals;
  if (command === undefined) throw new UsageError("a command is missing");
  if (command !== "view") throw new UsageError(`there is no command ${command}`);
  if (others.length > 0) throw new UsageError(`view takes options only, not ${others.join(" ")}`);
  const ports: Ports = {};
  for (const flag of Object.values(flags)) {
    const text = values[flag];
    if (text !== undefined) ports[flag] = portOf(flag, text);
  }
  return ports;
}

function parse(args: readonly string[]) {
  const port = { type: "string" } as const;
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        port,
        "otlp-grpc-port": port,
        "otlp-http-port": port,
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    const [reason = ""] = error instanceof Error ? error.message.split(/[.\n]/, 1) : [];
    throw new UsageError(reason.charAt(0).toLowerCase() + reason.slice(1));
  }
}

function portOf(flag: string, text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65_535) return port;
  throw new UsageError(`--${flag} is a port from 0 to 65535, not ${JSON.stringify(text)}`);
}

function open(ports: Ports): Promise<TraceViewer> {
  return traceViewer({
    port: ports.port ?? usualPorts.page,
    otlp: {
      grpcPort: ports["otlp-grpc-port"] ?? usualPorts.otlpGrpc,
      httpPort: ports["otlp-http-port"] ?? usualPorts.otlpHttp,
    },
    keepProcessAlive: true,
  });
}

function greeting({ url, otlp }: TraceViewer): string {
  return `Open ${url}

It shows what programs send to
  ${otlp?.grpc}  OTLP over gRPC
  ${otlp?.http}  OTLP over HTTP, Protobuf or JSON
for example with OTEL_EXPORTER_OTLP_ENDPOINT=${otlp?.http}

Ctrl+C ends it.
`;
}

/** Resolves at the first signal. A second one ends the process, as without this program. */
function untilStopped(terminal: Terminal): Promise<void> {
  return new Promise((resolve) => {
    const stop = () => {
      terminal.removeListener("SIGINT", stop);
      terminal.removeListener("SIGTERM", stop);
      resolve();
    };
    terminal.once("SIGINT", stop);
    terminal.once("SIGTERM", stop);
  });
}
