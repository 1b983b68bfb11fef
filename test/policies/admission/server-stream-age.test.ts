import type { EventEmitter } from "node:events";
import { Client, Metadata, status as Status } from "@grpc/grpc-js";
import { beforeEach, describe, expect, it } from "vitest";
import type { DecisionEvent } from "../../../src/core/decision.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { currentCall } from "../../../src/grpc/context/inbound-call.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { Limit } from "../../../src/policies/limits/limit.js";
import * as server from "../../../src/server.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { echo, handlers, kinds, path, payload, scene, startCall } from "../../scene.js";

const aging = { admission: { streams: { maxAgeMs: 10_000 } } } as const;
const streams = kinds.filter((kind) => kind !== "unary");

describe.each(streams)("a %s that has become old", (kind) => {
  it("is ended by the server, its handler is cancelled, and its slot is free again", async () => {
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

  it("is told so in its own call, also when it waited for its slot, and what it answers then goes nowhere", async () => {
    const told: (string | undefined)[] = [];
    const { start, link } = await scene({
      client: { retry: false },
      server: { admission: { streams: { limit: 1, maxQueued: 1, maxAgeMs: 1_000 } } },
      handlers: handlers((_call, answer) => {
        const call = currentCall();
        call?.signal.addEventListener("abort", () => {
          told.push(currentCall() === call ? call.method : undefined);
          answer();
        });
      }),
    });
    const calls = [start(kind), start(kind)];
    const ended = await link.until(Promise.all(calls.map((call) => call.ended)), 1e9);
    expect(ended.map(({ code }) => code)).toEqual([Status.UNAVAILABLE, Status.UNAVAILABLE]);
    expect(told).toEqual([path[kind], path[kind]]);
  });

  it("ends as that also when its handler fails as soon as the decision is known", async () => {
    let failNow: () => void = () => {};
    const { start, link, weir } = await scene({
      client: { retry: false },
      server: { admission: { streams: { limit: 1, maxAgeMs: 1_000 } } },
      handlers: handlers((call) => {
        failNow = () => call.fail({ code: Status.ABORTED, details: "gone" });
      }),
      onDecision: ({ reason }) => {
        if (reason === "STREAM_AGED") failNow();
      },
    });
    const ended = await link.until(start(kind).ended, 1e9);
    expect(rejectionOf(ended.error)).toMatchObject({ reason: "STREAM_AGED", local: false });
    const [admission] = weir.snapshot().policies.admission?.instances ?? [];
    expect(admission).toMatchObject({ streams: { running: 0 } });
  });

  it("is ended up to a tenth of its age sooner, by chance, lest all come back together", async () => {
    const { start, link, clock } = await scene({
      client: { retry: false },
      server: aging,
      handlers: handlers(() => {}),
    });
    const startedMs = clock.now();
    const ages = Array.from({ length: 20 }, () =>
      start(kind).ended.then(() => clock.now() - startedMs),
    );
    const ended = await link.until(Promise.all(ages), 1e9);
    expect(Math.min(...ended)).toBeGreaterThan(9_000);
    expect(Math.min(...ended)).toBeLessThan(9_300);
    expect(Math.max(...ended)).toBeGreaterThan(9_700);
    expect(Math.max(...ended)).toBeLessThan(10_010);
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

describe.each(streams)("the mode of admission, for a %s that has become old", (kind) => {
  const made = (mode: "observe" | "off" | "enforce") =>
    scene({
      client: { retry: false },
      server: { admission: { mode, streams: { maxAgeMs: 1_000 } } },
      handlers: handlers((_call, answer) => answers.push(answer)),
    });
  let answers: (() => void)[] = [];
  const aged = (decisions: readonly DecisionEvent[]) =>
    decisions.filter(({ reason }) => reason === "STREAM_AGED");

  beforeEach(() => {
    answers = [];
  });

  it("observe: it is said once that it would have been ended, and how it ended instead", async () => {
    const { start, link, clock, weir, decisions } = await made("observe");
    const { ended } = start(kind);
    await clock.pass(5_000);
    expect(aged(decisions)).toEqual([
      expect.objectContaining({ policy: "admission", verdict: "stop", enforced: false }),
    ]);
    const counts = { refused: 1, success: 0, failure: 0, ignored: 0 };
    expect(weir.observed().admission).toEqual({ STREAM_AGED: counts });
    for (const answer of answers) answer();
    expect((await link.until(ended, 1e9)).code).toBe(Status.OK);
    await clock.pass(100);
    expect(weir.observed().admission).toEqual({ STREAM_AGED: { ...counts, success: 1 } });
    expect(clock.pending.refs).toBe(0);
  });

  it("observe: how it would have ended is not known of one whose caller leaves", async () => {
    const { start, clock, weir } = await made("observe");
    const { cancel } = start(kind);
    await clock.pass(1_500);
    cancel();
    await clock.pass(100);
    const counts = { refused: 1, success: 0, failure: 0, ignored: 1 };
    expect(weir.observed().admission).toEqual({ STREAM_AGED: counts });
    expect(clock.pending.refs).toBe(0);
  });

  it("off: nothing is done and nothing is said", async () => {
    const { start, link, clock, weir, decisions } = await made("off");
    const { ended } = start(kind);
    await clock.pass(5_000);
    for (const answer of answers) answer();
    expect((await link.until(ended, 1e9)).code).toBe(Status.OK);
    await clock.pass(100);
    expect(aged(decisions)).toEqual([]);
    expect(weir.observed()).toEqual({});
    expect(clock.pending.refs).toBe(0);
  });

  it("holds as it is when the stream is old, and streams that were let be are looked at again", async () => {
    const { start, link, clock, weir } = await made("enforce");
    const admission = weir.policy("admission");
    const { ended } = start(kind);
    await clock.pass(500);
    admission.mode = "off";
    await clock.pass(1_000);
    expect(answers).toHaveLength(1);
    admission.mode = "enforce";
    const { code, error } = await link.until(ended, 1_000);
    expect(code).toBe(Status.UNAVAILABLE);
    expect(rejectionOf(error)).toMatchObject({ reason: "STREAM_AGED" });
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

  it("does not concern those who look into the server: the end of a health watch says that it is gone", async () => {
    const transport = inMemoryTransport();
    const { clock, random } = transport;
    const watch = {
      ...ConformanceServiceService.serverStream,
      path: "/grpc.health.v1.Health/Watch",
    };
    let ended = false;
    const link = await transport.open({
      service: { watch },
      implementation: {
        watch: (call: EventEmitter) => void call.on("cancelled", () => (ended = true)),
      },
      clientOptions: {},
      serverInterceptors: [server.admission({ clock, random, streams: { maxAgeMs: 500 } })],
    });
    const { requestSerialize, responseDeserialize } = watch;
    const call = link
      .client(Client)
      .makeServerStreamRequest(watch.path, requestSerialize, responseDeserialize, {
        payload,
        sequence: 1,
      });
    call.on("error", () => {});
    await clock.pass(2_000);
    expect(ended).toBe(false);
    call.cancel();
    await clock.pass(100);
    expect(ended).toBe(true);
  });

  it.each([
    ["observe", Status.OK],
    ["off", Status.OK],
    ["enforce", Status.UNAVAILABLE],
  ] as const)(
    "holds for admission as an interceptor of its own, in mode %s",
    async (mode, code) => {
      const transport = inMemoryTransport();
      const { clock, random } = transport;
      const link = await transport.open({
        service: ConformanceServiceService,
        implementation: handlers((_call, answer) => void clock.schedule(2_000, answer)),
        clientOptions: {},
        serverInterceptors: [server.admission({ clock, random, mode, streams: { maxAgeMs: 500 } })],
      });
      const client = link.client(ConformanceServiceClient);
      for (const kind of streams) {
        const { ended } = startCall(client, kind, {}, new Metadata());
        expect((await link.until(ended, 1e9)).code).toBe(code);
      }
    },
  );
});
