import { AsyncLocalStorage } from "node:async_hooks";
import type { EventEmitter } from "node:events";
import {
  Metadata,
  type ServerDuplexStream,
  ServerInterceptingCall,
  type ServerInterceptor,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
} from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { currentInbound } from "../../../src/grpc/context/inbound-call.js";
import * as server from "../../../src/server.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { loopbackTransport } from "../../../src/testing/loopback/loopback.js";
import type { Transport } from "../../../src/testing/transport.js";
import { kinds } from "../../grpc/client/fake-call.js";
import { callWith, type Message, message } from "../../grpc/client/replay-network.js";

/** What a server interceptor of the user's own keeps for each request. */
const requests = new AsyncLocalStorage<string>();

const labelOf = (metadata: Metadata | undefined) => String(metadata?.get("request")[0]);

/** The user's own interceptor, nearest the wire: its context is in force for all events of its call. */
const keeping: ServerInterceptor = (_method, call) => {
  let label = "none yet";
  return new ServerInterceptingCall(call, {
    start: (next) =>
      next({
        onReceiveMetadata(metadata, forward) {
          label = labelOf(metadata);
          requests.run(label, () => forward(metadata));
        },
        onReceiveMessage: (received, forward) => requests.run(label, () => forward(received)),
        onReceiveHalfClose: (forward) => requests.run(label, () => forward()),
      }),
  });
};

/** Notes of each call whether our record, and the user's own context, are those of the call. */
class Contexts {
  readonly wrong: string[] = [];
  readonly events = new Set<string>();

  note(request: string, event: string, own: boolean): void {
    this.events.add(event);
    const inbound = labelOf(currentInbound()?.metadata);
    if (inbound !== request) this.wrong.push(`${event} of ${request} in ${inbound}`);
    const kept = requests.getStore();
    if (own && kept !== request) this.wrong.push(`${event} of ${request} with ${kept}`);
  }
}

type Call =
  | ServerUnaryCall<Message, Message>
  | ServerReadableStream<Message, unknown>
  | ServerWritableStream<Message, Message>
  | ServerDuplexStream<Message, Message>;

function isReader(call: Call): call is ServerReadableStream<Message, unknown> {
  return "read" in call;
}

/** Handlers that watch every event, and answer after a timer. */
function watched(contexts: Contexts, own: boolean): ConformanceServiceServer {
  const watch = (call: Call, answer: () => void) => {
    const request = labelOf(call.metadata);
    const note = (event: string) => () => contexts.note(request, event, own);
    note("handler")();
    const emitter: EventEmitter = call;
    emitter.on("cancelled", () => contexts.note(request, "cancelled", false));
    const finish = () => {
      setTimeout(() => {
        note("timer")();
        void Promise.resolve()
          .then(note("promise"))
          .then(() => answer());
      }, 5);
    };
    if (isReader(call)) {
      call.on("data", note("data"));
      call.on("end", () => {
        note("end")();
        finish();
      });
    } else finish();
  };
  return {
    unary: (call, callback) => watch(call, () => callback(null, call.request)),
    serverStream: (call) =>
      watch(call, () => {
        call.write(message(1));
        call.end();
      }),
    clientStream: (call, callback) =>
      watch(call, () => callback(null, { payload: Buffer.alloc(0), sequences: [1] })),
    bidiStream: (call) => watch(call, () => call.end()),
  };
}

async function run(
  transport: Transport,
  kind: (typeof kinds)[number],
  interceptors: readonly ServerInterceptor[],
  contexts: Contexts,
  own: boolean,
): Promise<void> {
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation: watched(contexts, own),
    serverInterceptors: interceptors,
  });
  try {
    const client = link.client(ConformanceServiceClient);
    const calls = ["a", "b", "c"].map((request) => {
      const metadata = new Metadata();
      metadata.set("request", request);
      return callWith(client, kind, [message(1), message(2)], metadata).ended;
    });
    const results = await link.until(Promise.all(calls));
    expect(results.map(({ statuses }) => statuses[0]?.code)).toEqual([0, 0, 0]);
    await link.pass(20);
  } finally {
    await link.close();
  }
}

const streams = (kind: string) => kind === "client-stream" || kind === "bidi";

describe.each(kinds)("a handler of a %s call", (kind) => {
  const events = [
    "handler",
    "timer",
    "promise",
    "cancelled",
    ...(streams(kind) ? ["data", "end"] : []),
  ];

  it("finds the record of its own call in every event", async () => {
    const contexts = new Contexts();
    await run(loopbackTransport(), kind, [server.context()], contexts, false);
    expect(contexts.wrong).toEqual([]);
    expect([...contexts.events].toSorted()).toEqual(events.toSorted());
  });

  it("finds it after its call has waited in a queue, and the user's own context too", async () => {
    const contexts = new Contexts();
    const interceptors = [
      keeping,
      server.context(),
      server.admission({ limit: 1, maxQueued: 5, maxWaitMs: 10_000 }),
    ];
    await run(loopbackTransport(), kind, interceptors, contexts, true);
    expect(contexts.wrong).toEqual([]);
    expect([...contexts.events].toSorted()).toEqual(events.toSorted());
  });
});

describe("a server policy without a context interceptor", () => {
  it("starts the handler of a call that has waited in the context of that call", async () => {
    const started: (string | undefined)[] = [];
    const transport = inMemoryTransport();
    const { clock } = transport;
    const implementation: ConformanceServiceServer = {
      ...watched(new Contexts(), false),
      // Of the four kinds this one, and bidi, start when the metadata is let through.
      clientStream(call, callback) {
        started.push(requests.getStore());
        call.resume();
        clock.schedule(10, () => callback(null, { payload: Buffer.alloc(0), sequences: [] }));
      },
    };
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation,
      serverInterceptors: [keeping, server.admission({ clock, limit: 1, maxQueued: 5 })],
    });
    const client = link.client(ConformanceServiceClient);
    const calls = ["a", "b", "c"].map((request) => {
      const metadata = new Metadata();
      metadata.set("request", request);
      return callWith(client, "client-stream", [message(1)], metadata).ended;
    });
    await link.until(Promise.all(calls));
    expect(started).toEqual(["a", "b", "c"]);
    await link.close();
  });
});
