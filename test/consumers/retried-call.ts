// The program that every tool has to run: a real server and a real client with the toolkit, a call that is retried, and a
// name of each entry point. It is the same text for all module systems.
import { Client, credentials, Metadata, Server, ServerCredentials, status } from "@grpc/grpc-js";
import {
  type ClientPolicy,
  createWeir,
  currentCall,
  InvalidOptionError,
  priorityKey,
} from "grpc-weir";
import { retry } from "grpc-weir/client";
import { fileSource } from "grpc-weir/config";
import { clientSpans } from "grpc-weir/otel";
import { fromIoredis } from "grpc-weir/redis";
import { admission } from "grpc-weir/server";
import { VirtualClock } from "grpc-weir/testing";
import { consoleTree } from "grpc-weir/viewer";

export interface Outcome {
  readonly answer: string;
  /** How often the handler was called. */
  readonly runs: number;
  /** What `currentCall()` said in the handler. */
  readonly priority: string | undefined;
  readonly nonsense: boolean;
  readonly entryPoints: number;
}

const policy: ClientPolicy = { deadline: { defaultMs: 10_000 }, retry: { maxAttempts: 3 } };

export async function retriedCall(): Promise<Outcome> {
  const weir = createWeir();
  const seen: (string | undefined)[] = [];
  const server = new Server(weir.server({ admission: {} }));
  const bytes = (value: Buffer): Buffer => value;
  const paths = {
    path: "/consumers.Echo/Say",
    requestStream: false,
    responseStream: false,
  } as const;
  const say = {
    ...paths,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  };
  server.addService(
    { say },
    {
      say(call: { request: Buffer }, callback: (error: object | null, answer?: Buffer) => void) {
        seen.push(currentCall()?.priority);
        if (seen.length === 1) callback({ code: status.UNAVAILABLE, details: "not yet" });
        else callback(null, Buffer.from(`heard ${call.request.toString()}`));
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  const target = `127.0.0.1:${port}`;
  const client = new Client(target, credentials.createInsecure(), weir.client(policy));
  try {
    const metadata = new Metadata();
    metadata.set(priorityKey, "high");
    const answer = await new Promise<string>((resolve, reject) => {
      client.makeUnaryRequest(
        say.path,
        bytes,
        bytes,
        Buffer.from("hello"),
        metadata,
        (error, got) => (error === null ? resolve(String(got)) : reject(error)),
      );
    });
    const names = [
      createWeir,
      retry,
      fileSource,
      clientSpans,
      fromIoredis,
      admission,
      VirtualClock,
      consoleTree,
    ];
    const entryPoints = names.filter((name) => typeof name === "function").length;
    return {
      answer,
      runs: seen.length,
      priority: seen.at(-1),
      nonsense: refusesNonsense(),
      entryPoints,
    };
  } finally {
    client.close();
    server.forceShutdown();
    weir.close();
  }
}

/** What one entry point throws is an instance of what another exports. */
function refusesNonsense(): boolean {
  try {
    retry({ maxAttempts: -1 });
    return false;
  } catch (error) {
    return error instanceof InvalidOptionError;
  }
}
