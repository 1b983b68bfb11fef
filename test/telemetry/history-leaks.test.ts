import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type CallOptions, Metadata } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { ConformanceServiceServer } from "../../src/gen/weir/v1/conformance.js";
import { explain } from "../../src/telemetry/explain.js";
import { echo, failing, kinds, type Scene, scene } from "../scene.js";
import { startTracing, type TracingUnderTest } from "./tracing.js";

setFlagsFromString("--expose-gc");
const collectGarbage: () => void = runInNewContext("gc");
const turn = () => new Promise((resolve) => setImmediate(resolve));

let tracing: TracingUnderTest;
beforeEach(() => {
  tracing = startTracing();
});
afterEach(() => tracing.stop());

/** Makes a call and forgets all of it. What is left of it are weak references, by name. */
async function callAndForget({ call }: Scene, kind: (typeof kinds)[number]) {
  const metadata = new Metadata();
  metadata.set("x-tenant", "a");
  const options: CallOptions = { deadline: Number.POSITIVE_INFINITY };
  const ended = await call(kind, options, metadata);
  const { trailers, error } = ended;
  return {
    metadata: new WeakRef(metadata),
    options: new WeakRef(options),
    trailers: new WeakRef(trailers),
    ...(error === undefined ? {} : { error: new WeakRef(error) }),
  };
}

/** Handlers that note what they are given, weakly. */
function watching(inner: ConformanceServiceServer) {
  const seen: WeakRef<object>[] = [];
  const note = (...objects: object[]) => seen.push(...objects.map((each) => new WeakRef(each)));
  const handlers: ConformanceServiceServer = {
    unary(call, callback) {
      note(call, call.request, call.metadata);
      inner.unary(call, callback);
    },
    clientStream(call, callback) {
      note(call, call.metadata);
      inner.clientStream(call, callback);
    },
    serverStream(call) {
      note(call, call.request, call.metadata);
      inner.serverStream(call);
    },
    bidiStream(call) {
      note(call, call.metadata);
      inner.bidiStream(call);
    },
  };
  return { handlers, seen };
}

describe.each(kinds)("finished %s calls", (kind) => {
  it.each([
    ["that ended well", 0],
    ["that were retried", 1],
    ["that failed", 9],
  ])("%s hold nothing but their facts", async (_how, failures) => {
    const { handlers, seen } = watching(failures === 0 ? echo : failing(failures).handlers);
    const made = await scene({
      client: { retry: { idempotent: true, maxAttempts: 3 }, breaker: false },
      server: { admission: {} },
      handlers,
      history: { slowMs: 1 },
    });
    const left = await callAndForget(made, kind);
    // What grpc-js and the transport keep of the last call belongs to another one then.
    await made.call(kind);
    await made.call(kind);
    for (let round = 0; round < 5; round += 1) {
      await turn();
      collectGarbage();
    }
    const held = Object.entries(left).filter(([, weak]) => weak.deref() !== undefined);
    expect(held.map(([name]) => name)).toEqual([]);
    const servers = made.weir.history().last.filter(({ side }) => side === "server");
    expect(servers.length).toBeGreaterThan(2);
    // A stream of requests that its handler does not read is held by the transport, whoever keeps calls.
    const unread = failures > 0 && (kind === "clientStream" || kind === "bidiStream");
    const first = unread ? [] : seen.slice(0, 2);
    expect(first.filter((weak) => weak.deref() !== undefined)).toEqual([]);
    expect(explain(servers.at(-1))).toContain("Inbound call");
  });
});
