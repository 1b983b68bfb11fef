import { PortError, type PortUse } from "../viewer/listener.js";
import { type TraceViewer, traceViewer, usualPorts } from "../viewer/trace-viewer.js";
import { CommandError, readArguments, type Terminal, UsageError } from "./terminal.js";

export const viewUsage = `Usage: grpc-weir view [options]

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

/**
 * Shows the page until the program is stopped.
 *
 * @throws CommandError
 */
export async function view(args: readonly string[], terminal: Terminal): Promise<void> {
  const asked = read(args);
  if (asked === "help") {
    terminal.stdout.write(viewUsage);
    return;
  }
  const viewer = await open(asked);
  const stopped = untilStopped(terminal);
  terminal.stdout.write(greeting(viewer));
  await stopped;
  await viewer.close();
}

function read(args: readonly string[]): Ports | "help" {
  const port = { type: "string" } as const;
  const { values, positionals } = readArguments(args, {
    port,
    "otlp-grpc-port": port,
    "otlp-http-port": port,
  });
  if (values.help === true) return "help";
  if (positionals.length > 0) {
    throw new UsageError(`view takes options only, not ${positionals.join(" ")}`);
  }
  const ports: Ports = {};
  for (const flag of Object.values(flags)) {
    const text = values[flag];
    if (text !== undefined) ports[flag] = portOf(flag, text);
  }
  return ports;
}

function portOf(flag: string, text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65_535) return port;
  throw new UsageError(`--${flag} is a port from 0 to 65535, not ${JSON.stringify(text)}`);
}

async function open(ports: Ports): Promise<TraceViewer> {
  try {
    return await traceViewer({
      port: ports.port ?? usualPorts.page,
      otlp: {
        grpcPort: ports["otlp-grpc-port"] ?? usualPorts.otlpGrpc,
        httpPort: ports["otlp-http-port"] ?? usualPorts.otlpHttp,
      },
      keepProcessAlive: true,
    });
  } catch (error) {
    if (!(error instanceof PortError)) throw error;
    const text = `${error.message}: --${flags[error.use]} names another one, 0 any.`;
    throw new CommandError(1, text);
  }
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
