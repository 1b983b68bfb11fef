import {
  Metadata,
  ServerInterceptingCall,
  type ServerInterceptor,
  status as Status,
} from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../src/gen/weir/v1/conformance.js";
import { handlers, kinds, type SceneOptions, scene, startCall } from "../scene.js";

const everything: SceneOptions["server"] = {
  deadlineGuard: {},
  quota: [{ ratePerSecond: 1_000 }],
  bulkhead: { maxConcurrent: 4 },
  admission: { streams: { maxAgeMs: 10_000 } },
};

/** Statuses as handlers and interceptors that were written without types send them. */
const statuses = [
  ["a plain object for metadata", { code: 9, details: "mine", metadata: {} }, 9, "mine"],
  ["values in a plain object", { code: 9, details: "", metadata: { "x-one": "1" } }, 9, ""],
  ["null for metadata", { code: 9, details: "mine", metadata: null }, 9, "mine"],
  ["no metadata", { code: 9, details: "mine" }, 9, "mine"],
] as const;
const halves = [
  ["no code", { details: "mine" }, Status.UNKNOWN, "mine"],
  ["no details", { code: 9 }, 9, ""],
  ["nothing in it", {}, Status.UNKNOWN, "An interceptor ended the call without a status"],
] as const;
const none = [
  ["is null", null, Status.UNKNOWN, "An interceptor ended the call without a status"],
  ["is undefined", undefined, Status.UNKNOWN, "An interceptor ended the call without a status"],
] as const;

/** Sends this for whatever status it is to send. */
const sending =
  (given: unknown): ServerInterceptor =>
  (_method, call) =>
    new ServerInterceptingCall(call, { sendStatus: (_status, next) => next(given as never) });

describe.each(kinds)("the status of a %s", (kind) => {
  it.each(statuses)("that a handler gives with %s ends the call", async (what, given, code) => {
    const { call, clock, link } = await scene({
      client: { retry: false },
      server: everything,
      handlers: handlers(({ fail }) => fail(given as never)),
    });
    const ended = await call(kind, { deadline: clock.wallNow() + 1_000 });
    expect(ended).toMatchObject({ code, details: given.details });
    if (what === "values in a plain object") expect(ended.trailers.get("x-one")).toEqual(["1"]);
    await clock.pass(10);
    expect(link.inFlight()).toBe(0);
    expect(clock.pending.refs).toBe(0);
  });

  it.each([...statuses, ...halves, ...none])(
    "that an interceptor behind the toolkit's sends with %s ends the call",
    async (_what, given, code, details) => {
      const { call, clock, weir } = await scene({
        client: { retry: false },
        server: everything,
        ownServer: { interceptors: [sending(given)] },
      });
      const ended = await call(kind, { deadline: clock.wallNow() + 1_000 });
      expect(ended).toMatchObject({ code, details });
      await clock.pass(10);
      expect(JSON.stringify(weir.snapshot())).not.toMatch(/"running":[1-9]/);
      expect(clock.pending.refs).toBe(0);
    },
  );
});

describe.each(kinds)("a %s whose metadata an interceptor nearer the wire has lost", (kind) => {
  it.each([null, undefined, { "x-one": "1" }])("as %j reaches its handler", async (given) => {
    const losing: ServerInterceptor = (_method, call) =>
      new ServerInterceptingCall(call, {
        start: (next) => next({ onReceiveMetadata: (_metadata, on) => on(given as never) }),
      });
    const heard: unknown[] = [];
    const { transport, weir } = await scene();
    const { interceptors = [] } = weir.server(everything);
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: handlers(({ metadata }, answer) => {
        heard.push(metadata.getMap());
        answer();
      }),
      clientOptions: {},
      serverInterceptors: [losing, ...interceptors],
    });
    const client = link.client(ConformanceServiceClient);
    const { ended } = startCall(client, kind, {}, new Metadata());
    expect((await link.until(ended, 1e6)).code).toBe(Status.OK);
    expect(heard).toEqual([given ?? {}]);
  });
});
