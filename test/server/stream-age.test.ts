import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { Limit } from "../../src/core/limit.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../src/gen/weir/v1/conformance.js";
import { currentCall } from "../../src/grpc/inbound-call.js";
import { rejectionOf } from "../../src/grpc/rejection.js";
import * as server from "../../src/server.js";
import { echo, handlers, kinds, payload, scene, startCall } from "../scene.js";

const aging = { admission: { streams: { maxAgeMs: 10_000 } } } as const;
const streams = kinds.filter((kind) => kind !== "unary");

describe.each(streams)("a %s that has become old", (kind) => {
  it("is ended by the server, its handler is called off, and its slot is free again", async () => {
    const aborted: boolean[] = [];
    const made = await scene({
      client: { retry: false },
      server: aging,
      handlers: handlers(() => {
        const signal = currentCall()?.signal;
        signal?.addEventListener("abort", () => aborted.push(signal.aborted));
      }),
    });
    const { start, link, clock, weir } = made;
    const ended = await link.until(start(kind).ended, 1e9);
    expect(ended.code).toBe(Status.UNAVAILABLE);
    expect(rejectionOf(ended.error)).toMatchObject({ reason: "STREAM_AGED", local: false });
    expect(aborted).toEqual([true]);
    await clock.pass(100);
    const [admission] = weir.snapshot().policies.admission?.instances ?? [];
    expect(admission).toMatchObject({ streams: { running: 0, queued: 0 } });
    expect(clock.pending.refs).toBe(0);
  });

  it("that ends before that has its own end, and leaves no timer behind", async () => {
    const { call, clock } = await scene({ server: aging });
    expect((await call(kind)).code).toBe(Status.OK);
    await clock.pass(100);
    expect(clock.pending.refs).toBe(0);
  });

  it("says nothing of the server's health to the caller's breaker", async () => {
    const { call, weir } = await scene({
      client: { retry: false, breaker: { consecutiveFailures: 1 } },
      server: { admission: { streams: { maxAgeMs: 50 } } },
      handlers: handlers(() => {}),
    });
    await call(kind);
    const [breakers] = weir.snapshot().policies.breaker?.instances ?? [];
    expect(JSON.stringify(breakers)).toContain('"state":"closed"');
  });
});

it("streams that become old teach a limit nothing", async () => {
  const outcomes: string[] = [];
  const limit = {
    current: 10,
    record: (...[, , , outcome]: Parameters<Limit["record"]>) => outcomes.push(outcome),
  };
  const made = await scene({
    client: { retry: false },
    server: { admission: { streams: { limit, maxAgeMs: 50 } } },
    handlers: handlers(({ metadata }, answer) => {
      if (metadata.get("ends").length > 0) answer();
    }),
  });
  for (const kind of streams) await made.call(kind);
  expect(outcomes).toEqual([]);
  const ends = new Metadata();
  ends.set("ends", "1");
  for (const kind of streams) await made.call(kind, {}, ends);
  expect(outcomes).toEqual(["success", "success", "success"]);
});

describe("the age of streams", () => {
  it("lets a handler that writes on come to its end", async () => {
    let written = 0;
    let ended = false;
    const { link, client, clock } = await scene({
      client: { retry: false },
      server: { admission: { streams: { maxAgeMs: 1_000 } } },
      handlers: {
        ...echo,
        serverStream(call) {
          const write = () => {
            if (call.cancelled) {
              ended = true;
              return;
            }
            written += 1;
            call.write({ payload, sequence: written }, () => clock.schedule(100, write));
          };
          write();
        },
      },
    });
    const running = startCall(client, "serverStream", {}, new Metadata());
    const { code, received } = await link.until(running.ended, 1e9);
    expect(code).toBe(Status.UNAVAILABLE);
    // It ends up to a tenth sooner than it may, by chance.
    expect(received.length).toBeGreaterThanOrEqual(9);
    expect(received.length).toBeLessThanOrEqual(10);
    await clock.pass(1_000);
    expect(ended).toBe(true);
  });

  it("does not concern unary calls", async () => {
    const made = await scene({
      server: { admission: { streams: { maxAgeMs: 50 } } },
      handlers: handlers((_call, answer) => void made.clock.schedule(500, answer)),
    });
    expect((await made.call("unary")).code).toBe(Status.OK);
  });

  it("holds for admission as an interceptor of its own", async () => {
    const made = await scene({
      client: { retry: false },
      handlers: handlers(() => {}),
      ownServer: {},
    });
    const { clock, random } = made.transport;
    const alone = server.admission({ clock, random, streams: { maxAgeMs: 500 } });
    const transport = made.transport;
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: handlers(() => {}),
      clientOptions: {},
      serverInterceptors: [alone],
    });
    const running = startCall(
      link.client(ConformanceServiceClient),
      "bidiStream",
      {},
      new Metadata(),
    );
    expect((await link.until(running.ended, 1e9)).code).toBe(Status.UNAVAILABLE);
  });
});
