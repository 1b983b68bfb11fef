import { AsyncLocalStorage } from "node:async_hooks";
import { type Interceptor, Metadata } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import * as client from "../../../src/client.js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import type { CallKind } from "../../../src/grpc/types.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { loopbackTransport } from "../../../src/testing/loopback/loopback.js";
import type { Link, Transport } from "../../../src/testing/transport.js";
import { kinds } from "../../grpc/client/fake-call.js";
import { PlainCall } from "../../grpc/client/put-off-call.js";
import { message } from "../../grpc/client/replay-network.js";
import { echo, failing } from "../../scene.js";

/** What the application keeps for each request of its own. */
const requests = new AsyncLocalStorage<string>();

/** Notes of each call in which request's context its events were told. */
class Contexts {
  readonly wrong: string[] = [];
  events = 0;

  note(request: string, event: string): void {
    this.events += 1;
    const store = requests.getStore();
    if (store !== request) this.wrong.push(`${event} of ${request} in ${store}`);
  }
}

/** Makes a call for a request, and watches all that its surface tells. */
function callFor(
  surface: ConformanceServiceClient,
  kind: CallKind,
  request: string,
  contexts: Contexts,
): Promise<void> {
  return requests.run(request, () => {
    const note = (event: string) => () => contexts.note(request, event);
    const metadata = new Metadata();
    metadata.set("request", request);
    const write = (stream: { write(chunk: unknown, done: () => void): boolean; end(): void }) => {
      for (const sequence of [1, 2, 3]) stream.write(message(sequence), note("write"));
      stream.end();
    };
    const make = () => {
      switch (kind) {
        case "unary":
          return surface.unary(message(3), metadata, note("callback"));
        case "client-stream": {
          const call = surface
            .clientStream(metadata, note("callback"))
            .on("finish", note("finish"));
          write(call);
          return call.on("error", note("error"));
        }
        case "server-stream":
          return surface
            .serverStream(message(3), metadata)
            .on("data", note("data"))
            .on("end", note("end"))
            .on("error", note("error"));
        case "bidi": {
          const call = surface.bidiStream(metadata).on("data", note("data")).on("end", note("end"));
          write(call);
          return call.on("error", note("error"));
        }
      }
    };
    const call = make();
    call.on("metadata", note("metadata"));
    return new Promise((resolve) => {
      call.on("status", () => {
        contexts.note(request, "status");
        // What comes after the status, such as `end` and the callback, comes in its tick.
        setImmediate(resolve);
      });
    });
  });
}

async function open(
  transport: Transport,
  interceptors: readonly Interceptor[],
  implementation: ConformanceServiceServer = echo,
): Promise<{ link: Link; surface: ConformanceServiceClient }> {
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation,
    clientOptions: { interceptors: [...interceptors] },
  });
  return { link, surface: link.client(ConformanceServiceClient) };
}

describe.each(kinds)("what a %s call tells its caller", (kind) => {
  /** Four requests at once over a channel that is not connected yet, and four more when it is. */
  async function both(interceptors: readonly Interceptor[]): Promise<Contexts> {
    const { link, surface } = await open(loopbackTransport(), interceptors);
    const contexts = new Contexts();
    try {
      for (const channel of ["cold", "warm"]) {
        const calls = ["a", "b", "c", "d"].map((request) =>
          callFor(surface, kind, `${request} ${channel}`, contexts),
        );
        await link.until(Promise.all(calls));
      }
    } finally {
      await link.close();
    }
    expect(contexts.events).toBeGreaterThanOrEqual(8 * 3);
    return contexts;
  }

  it("is told in the context of whoever connected by grpc-js alone, and in the caller's own by us", async () => {
    expect((await both([])).wrong).not.toEqual([]);
    expect((await both([client.context()])).wrong).toEqual([]);
  });

  it("is told in the caller's own context after failed attempts, and each attempt starts in it", async () => {
    const transport = inMemoryTransport({ network: { latencyMs: 2 } });
    const { clock, random } = transport;
    const env = { clock, random };
    const contexts = new Contexts();
    let attempts = 0;
    const below: Interceptor = (options, nextCall) => {
      attempts += 1;
      contexts.note("one", `attempt ${attempts}`);
      return new PlainCall(options, nextCall);
    };
    const { link, surface } = await open(
      transport,
      [client.context(env), client.retry({ ...env, maxAttempts: 4 }), below],
      failing(3).handlers,
    );
    await link.until(callFor(surface, kind, "one", contexts));
    expect(attempts).toBe(4);
    expect(contexts.wrong).toEqual([]);
    await link.close();
  });

  it("is told in the caller's own context after a wait in a queue, and the call starts in it", async () => {
    const transport = inMemoryTransport({ network: { latencyMs: 2 } });
    const { clock, random } = transport;
    const env = { clock, random };
    const contexts = new Contexts();
    const started: (string | undefined)[] = [];
    const below: Interceptor = (options, nextCall) => {
      started.push(requests.getStore());
      return new PlainCall(options, nextCall);
    };
    const { link, surface } = await open(transport, [
      client.context(env),
      // Without the target, a call that waits makes the one below twice: once to learn its target.
      client.bulkhead({ ...env, target: "memory", maxConcurrent: 1, maxQueued: 5 }),
      below,
    ]);
    const labels = ["a", "b", "c"];
    await link.until(Promise.all(labels.map((label) => callFor(surface, kind, label, contexts))));
    expect(started).toEqual(labels);
    expect(contexts.wrong).toEqual([]);
    await link.close();
  });
});
