import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Client, type ClientReadableStream, credentials } from "@grpc/grpc-js";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createWeir } from "../../../src/weir.js";
import { startTracing, type TracingUnderTest } from "../../telemetry/tracing.js";

/** Debian's, for which there is a package `python3-grpcio`. */
const python = "/usr/bin/python3";

/** In CI nothing is skipped: there the tests fail without it. */
function canRun(): boolean {
  try {
    execFileSync(python, ["-c", "import grpc"], { stdio: "ignore" });
    return true;
  } catch {
    return "CI" in process.env;
  }
}

const request = Buffer.from("request");
const same = (bytes: Buffer) => bytes;
const pathOf = (kind: string) => `/compat.Echo/${kind}`;

/** A call of each kind; gives what the server answered. */
const calls = {
  Unary: (client) =>
    answerTo((answered) => {
      client.makeUnaryRequest(pathOf("Unary"), same, same, request, answered);
    }),
  ClientStream: (client) =>
    answerTo((answered) => {
      client.makeClientStreamRequest(pathOf("ClientStream"), same, same, answered).end(request);
    }),
  ServerStream: (client) =>
    firstOf(client.makeServerStreamRequest(pathOf("ServerStream"), same, same, request)),
  BidiStream(client) {
    const call = client.makeBidiStreamRequest(pathOf("BidiStream"), same, same);
    call.end(request);
    return firstOf(call);
  },
} as const satisfies Record<string, (client: Client) => Promise<string>>;

function answerTo(
  call: (answered: (error: Error | null, answer?: Buffer) => void) => void,
): Promise<string> {
  return new Promise((resolve, reject) => {
    call((error, answer) => (error === null ? resolve(String(answer)) : reject(error)));
  });
}

async function firstOf(call: ClientReadableStream<Buffer>): Promise<string> {
  const answers: unknown[] = await call.toArray();
  return String(answers[0]);
}

describe.runIf(canRun())("a server in Python", () => {
  let server: ChildProcess;
  let address: string;
  let client: Client;
  let tracing: TracingUnderTest;

  beforeAll(async () => {
    const program = fileURLToPath(new URL("server.py", import.meta.url));
    const started = spawn(python, [program], { stdio: ["pipe", "pipe", "inherit"] });
    server = started;
    const [port]: unknown[] = await once(createInterface(started.stdout), "line");
    address = `127.0.0.1:${String(port)}`;
  });

  afterAll(async () => {
    const ended = once(server, "exit");
    server.stdin?.end();
    await ended;
  });

  beforeEach(() => {
    tracing = startTracing();
    const retry = { idempotent: true, backoff: { baseMs: 5, jitter: "none" } } as const;
    const options = createWeir().client({ breaker: false, retry });
    client = new Client(address, credentials.createInsecure(), options);
  });

  afterEach(() => {
    client.close();
    expect(tracing.open()).toEqual([]);
    tracing.stop();
  });

  it.each(Object.entries(calls))(
    "is told of the attempt by which a %s call reaches it",
    async (kind, call) => {
      const answer = await call(client);
      const [made] = tracing.calls();
      const [refused, answered, ...others] = tracing.attempts();
      expect(made?.name).toBe(`compat.Echo/${kind}`);
      expect(others).toEqual([]);
      const parentOf = (span: typeof answered) =>
        `00-${made?.spanContext().traceId}-${span?.spanContext().spanId}-01`;
      expect(answer).toBe(parentOf(answered));
      expect(refused?.status.message).toBe(`not now ${parentOf(refused)}`);
    },
  );
});
