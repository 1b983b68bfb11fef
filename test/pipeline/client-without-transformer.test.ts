import { InterceptingCall, type Interceptor, Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../src/gen/weir/v1/conformance.js";
import { rejectionOf } from "../../src/grpc/status/rejection.js";
import { breaker } from "../../src/policies/breaker/client.js";
import { bulkhead } from "../../src/policies/bulkhead/client.js";
import { timeouts } from "../../src/policies/deadline/client-attempt-timeouts.js";
import { retry } from "../../src/policies/retry/client.js";
import {
  type InMemoryTransport,
  inMemoryTransport,
} from "../../src/testing/in-memory/in-memory.js";
import { createWeir } from "../../src/weir.js";
import { echo, failing, handlers, kinds, type Method, startCall } from "../scene.js";

/** Clients of two servers with the same interceptors, and nothing else of what `weir.client()` gives. */
async function two(
  make: (transport: InMemoryTransport, report: (error: unknown) => void) => readonly Interceptor[],
  first: ConformanceServiceServer = echo,
) {
  const transport = inMemoryTransport();
  const errors: unknown[] = [];
  const interceptors = [...make(transport, (error) => errors.push(error))];
  const service = ConformanceServiceService;
  const clientOptions = { interceptors };
  const one = await transport.open({ service, implementation: first, clientOptions });
  const other = await transport.open({ service, implementation: echo, clientOptions });
  const [a, b] = [one, other].map((link) => {
    const client = link.client(ConformanceServiceClient);
    return (method: Method, metadata = new Metadata()) =>
      link.until(startCall(client, method, {}, metadata).ended, 1e6);
  });
  if (a === undefined || b === undefined) throw new Error("two links");
  return { a, b, transport, errors, links: [one, other] as const };
}

const broken = () => failing(1e9, { code: Status.INTERNAL, details: "broken" }).handlers;

describe.each(kinds)("interceptors that know no channel (%s)", (method) => {
  it.each([
    [
      "of weir.client()",
      ({ clock, random }: InMemoryTransport, onError: (error: unknown) => void) =>
        createWeir({ clock, random, onError }).client({}).interceptors ?? [],
    ],
    [
      "of weir.client(), without retries",
      ({ clock, random }: InMemoryTransport, onError: (error: unknown) => void) =>
        createWeir({ clock, random, onError }).client({
          retry: false,
          timeouts: { attemptMs: 500 },
        }).interceptors ?? [],
    ],
    [
      "that stand alone",
      ({ clock, random }: InMemoryTransport, onError: (error: unknown) => void) => [
        breaker({ clock, random, onError }),
      ],
    ],
    [
      "that stand alone, above timeouts",
      ({ clock, random }: InMemoryTransport, onError: (error: unknown) => void) => [
        retry({ clock, random, onError }),
        breaker({ clock, random, onError }),
        timeouts({ attemptMs: 1_000, clock, onError }),
      ],
    ],
  ])("%s tell targets apart", async (_name, make) => {
    const { a, b, errors } = await two(make, broken());
    let opened = 0;
    for (let times = 0; times < 12; times += 1) {
      if (rejectionOf((await a(method)).error ?? {})?.reason === "BREAKER_OPEN") opened += 1;
    }
    expect(opened).toBeGreaterThan(0);
    expect((await b(method)).code).toBe(Status.OK);
    expect(errors).toEqual([]);
  });

  it("go by the target that one of them is told", async () => {
    const targets: string[] = [];
    const { a } = await two(
      ({ clock, random }, onError) => [
        retry({ clock, random, onError, target: "orders", maxAttempts: 2 }),
        breaker({
          clock,
          onError,
          key: ({ target }) => {
            targets.push(target);
            return target;
          },
        }),
      ],
      failing(1).handlers,
    );
    expect((await a(method)).code).toBe(Status.OK);
    expect(new Set(targets)).toEqual(new Set(["orders"]));
  });

  it("leave no call behind where one waits for its turn, or is refused", async () => {
    const { links, transport } = await two(
      ({ clock }) => [bulkhead({ maxConcurrent: 1, maxQueued: 1, maxWaitMs: 5_000, clock })],
      handlers((_call, answer) => transport.clock.schedule(100, answer)),
    );
    const [link] = links;
    const client = link.client(ConformanceServiceClient);
    const calls = [1, 2, 3].map(() => startCall(client, method, {}, new Metadata()));
    const ended = await link.until(Promise.all(calls.map((call) => call.ended)), 1e6);
    expect(ended.map(({ code }) => code).toSorted((a, b) => a - b)).toEqual([
      0,
      0,
      Status.RESOURCE_EXHAUSTED,
    ]);
    await link.pass(10);
    expect(link.inFlight()).toBe(0);
    expect(transport.clock.pending.refs).toBe(0);
  });

  it("bound the wait for a connection by what the call tells of its peer", async () => {
    const { a, links, transport, errors } = await two(({ clock }, onError) => [
      timeouts({ connectionMs: 200, clock, onError }),
    ]);
    // With a connection the time is no bound.
    expect((await a(method)).code).toBe(Status.OK);
    await links[0].crash();
    await links[0].pass(10);
    const beganMs = transport.clock.now();
    const ended = await a(method, new Metadata({ waitForReady: true }));
    expect(rejectionOf(ended.error ?? {})?.reason).toBe("CONNECTION_TIMEOUT");
    expect(transport.clock.now() - beganMs).toBe(200);
    expect(errors).toEqual([]);
  });

  it("warn once where they stand on one that does not tell its peer", async () => {
    class Mute extends InterceptingCall {
      override getPeer(): string {
        return "unknown";
      }
    }
    const { a, errors } = await two(({ clock }, onError) => [
      breaker({ clock, onError }),
      timeouts({ connectionMs: 200, clock, onError }),
      (options, nextCall) => new Mute(nextCall(options)),
    ]);
    for (let times = 0; times < 3; times += 1) expect((await a(method)).code).toBe(Status.OK);
    expect(errors.map(String)).toEqual([
      expect.stringContaining("is not known: calls to all servers share"),
      expect.stringContaining("does nothing: the interceptor knows neither"),
    ]);
  });
});

describe("the option target", () => {
  it("is a text, and stands in interceptors that stand alone only", () => {
    expect(() => breaker({ target: "" })).toThrow("breaker.target must be the name of a target");
    const misplaced: object = { breaker: { target: "orders" } };
    expect(() => createWeir().client(misplaced)).toThrow("client.breaker.target must be absent");
  });
});
