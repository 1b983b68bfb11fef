import {
  Client,
  type ServiceError,
  type StatusObject,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { HandlerCall } from "../../src/lab/server.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { scene } from "./scene.js";

type Answer = "ok" | "error" | "never";
interface Case {
  readonly answer: Answer;
  readonly deadlineMs?: number;
  readonly crashAtMs?: number;
  readonly cancelAtMs?: number;
}

/** What the caller sees, without addresses and what differs with the latency. */
interface Seen {
  readonly code: number;
  readonly details: string;
  readonly metadata: readonly string[];
}

function seen({ code, details, metadata }: StatusObject): Seen {
  const text = details.replaceAll(/127\.0\.0\.1:\d+|server:1/g, "ADDRESS");
  return {
    code,
    details: text.replaceAll(/,(name resolution|metadata filters|LB pick): [\d.]+s/g, ""),
    // The lab does not tell the time in HTTP headers.
    metadata: Object.keys(metadata.getMap())
      .filter((key) => key !== "date")
      .toSorted(),
  };
}

const bytes = (message: Buffer) => message;
const method = {
  path: "/lab.Service/Method",
  requestStream: false,
  responseStream: false,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
} as const;

async function inMemory({ answer, deadlineMs, crashAtMs, cancelAtMs }: Case): Promise<Seen> {
  const transport = inMemoryTransport({ network: { latencyMs: 1 } });
  const link = await transport.open({
    service: { method },
    implementation: {
      method: (_call: unknown, respond: sendUnaryData<Buffer>) => {
        if (answer === "ok") respond(null, Buffer.from("lab"));
        if (answer === "error") respond({ code: status.NOT_FOUND, details: "not here" });
      },
    },
  });
  const client = link.client(Client);
  if (crashAtMs === 0) await link.crash();
  const ended = new Promise<StatusObject>((resolve) => {
    const deadline =
      deadlineMs === undefined ? {} : { deadline: transport.clock.wallNow() + deadlineMs };
    const { path, requestSerialize, responseDeserialize } = method;
    const call = client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      Buffer.from("lab"),
      deadline,
      (_error: ServiceError | null) => {},
    );
    call.on("status", resolve);
    if (cancelAtMs !== undefined) transport.clock.schedule(cancelAtMs, () => call.cancel());
  });
  if (crashAtMs !== undefined && crashAtMs > 0) {
    transport.clock.schedule(crashAtMs, () => void link.crash());
  }
  return seen(await link.until(ended));
}

async function inLab({
  answer,
  deadlineMs,
  crashAtMs,
  cancelAtMs,
}: Case): Promise<Seen | undefined> {
  const { world, clientProcess, client, server, call } = scene();
  const process = server((handled: HandlerCall) => {
    if (answer === "ok") handled.answer();
    if (answer === "error") handled.fail(status.NOT_FOUND, "not here");
  });
  if (crashAtMs !== undefined) world.at(crashAtMs, () => process.kill());
  const made = call(client(), deadlineMs === undefined ? {} : { deadlineMs });
  if (cancelAtMs !== undefined) {
    clientProcess.schedule(cancelAtMs, () => {
      made.call?.cancelWithStatus(status.CANCELLED, "Cancelled on client");
    });
  }
  await world.run(1_000);
  return made.ended && seen(made.ended);
}

describe("a call in the lab ends as one of grpc-js over the in-memory network", () => {
  it.each<[string, Case]>([
    ["when it is answered", { answer: "ok" }],
    ["when the handler fails", { answer: "error" }],
    ["at its deadline", { answer: "never", deadlineMs: 50 }],
    ["when nobody listens", { answer: "ok", crashAtMs: 0 }],
    ["when the server dies", { answer: "never", crashAtMs: 50 }],
    ["when it is cancelled", { answer: "never", cancelAtMs: 50 }],
  ])("%s", async (_, given) => {
    expect(await inLab(given)).toEqual(await inMemory(given));
  });
});
