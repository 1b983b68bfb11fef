import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { ServerStreamRequest } from "../../src/gen/weir/v1/conformance.js";
import type { ClientPolicy } from "../../src/pipeline/client.js";
import type { RetryPolicyOptions } from "../../src/policies/retry/client-policy.js";
import {
  echo,
  failing,
  handlers,
  kinds,
  payload,
  type Running,
  type Scene,
  scene,
  withResolvers,
} from "../scene.js";

const quick = { backoff: { baseMs: 10, jitter: "none" } } as const;
const slow = { backoff: { baseMs: 100, jitter: "none" } } as const;
const resume: NonNullable<RetryPolicyOptions["resume"]> = {
  token: (message) => (message as { sequence: number }).sequence,
  request: (first, token) => ({
    ...(first as ServerStreamRequest),
    sequence: Number(token) + 1,
  }),
};

/** Extra attempts that the budgets still count. */
function extras({ weir }: Scene): number[] {
  const instances = weir.snapshot().policies.retry?.instances ?? [];
  return instances
    .flatMap((one) => Object.values(one.budgets))
    .map(({ ratio }) => ratio?.extras ?? Number.NaN);
}

/** A call that has ended is nowhere any more. */
async function expectNothingLeft(world: Scene): Promise<void> {
  await world.link.pass(10);
  expect(world.weir.snapshot().waiting).toBe(0);
  expect(world.clock.pending.refs).toBe(0);
  expect(world.link.inFlight()).toBe(0);
  expect(extras(world)).toEqual([0]);
}

describe("a server stream that is resumed", () => {
  it("loses nothing to a reader that comes late", async () => {
    let attempts = 0;
    const world = await scene({
      client: { retry: { ...quick, maxAttempts: 5, resume } },
      handlers: {
        ...echo,
        serverStream: (call) => {
          attempts += 1;
          const from = call.request.sequence;
          call.write({ payload, sequence: from });
          if (attempts > 2) {
            call.write({ payload, sequence: from + 1 });
            call.end();
          } else {
            world.clock.schedule(10, () =>
              call.emit("error", { code: Status.UNAVAILABLE, details: "broke" }),
            );
          }
        },
      },
    });
    const { client, clock, link } = world;
    const received: number[] = [];
    const { promise, resolve } = withResolvers<Status>();
    const stream = client.serverStream({ payload, sequence: 1 });
    stream.on("error", () => {}).on("status", ({ code }) => resolve(code));
    clock.schedule(500, () => {
      stream.on("data", ({ sequence }: { sequence: number }) => received.push(sequence));
    });
    expect(await link.until(promise)).toBe(Status.OK);
    expect(received).toEqual([1, 2, 3, 4]);
    expect(attempts).toBe(3);
  });

  it("ends with the last remote status when a policy of ours refuses to go on", async () => {
    let attempts = 0;
    const world = await scene({
      client: {
        breaker: {
          consecutiveFailures: 1,
          outcome: ({ code }) => (code === Status.UNAVAILABLE ? "failure" : undefined),
        },
        retry: { ...quick, maxAttempts: 5, resume },
      },
      handlers: {
        ...echo,
        serverStream: (call) => {
          attempts += 1;
          call.write({ payload, sequence: 1 });
          world.clock.schedule(10, () =>
            call.emit("error", { code: Status.UNAVAILABLE, details: "the server's own" }),
          );
        },
      },
    });
    const ended = await world.call("serverStream");
    expect([ended.code, ended.details]).toEqual([Status.UNAVAILABLE, "the server's own"]);
    expect(ended.received).toEqual([1]);
    expect(attempts).toBe(1);
    await expectNothingLeft(world);
  });
});

describe.each([
  ["unary", [3]],
  ["clientStream", [1, 2, 3]],
] as const)("an OK of a %s that retryResponse does not want", (method, response) => {
  const unwanted: RetryPolicyOptions = { ...slow, idempotent: true, retryResponse: () => true };

  it("is what the caller gets when the bulkhead refuses the retry", async () => {
    const server = failing(0);
    const world = await scene({
      handlers: server.handlers,
      client: { breaker: false, bulkhead: { maxConcurrent: 1, maxQueued: 0 }, retry: unwanted },
    });
    const { start, client, link } = world;
    const running = start(method);
    await link.pass(50);
    // Takes the only place while the call waits for its retry, and keeps it.
    const other = client.bidiStream();
    other.on("error", () => {}).on("data", () => {});
    const ended = await link.until(running.ended);
    expect([ended.code, ended.received]).toEqual([Status.OK, response]);
    other.cancel();
    await expectNothingLeft(world);
  });

  it("is what the caller gets when the breaker refuses the retry", async () => {
    let calls = 0;
    const world = await scene({
      client: { breaker: { consecutiveFailures: 1 }, retry: unwanted },
      handlers: handlers(({ fail }, answer) => {
        calls += 1;
        if (calls === 1) answer();
        else fail({ code: Status.UNAVAILABLE, details: "not now" });
      }),
    });
    const { start, link } = world;
    const running = start(method);
    await link.pass(50);
    expect((await link.until(start(method).ended)).code).toBe(Status.UNAVAILABLE);
    const ended = await link.until(running.ended);
    expect([ended.code, ended.received]).toEqual([Status.OK, response]);
    expect(calls).toBe(2);
    await expectNothingLeft(world);
  });

  it("is not asked of retryStatus", async () => {
    const asked: Status[] = [];
    const server = failing(1);
    const { call } = await scene({
      handlers: server.handlers,
      client: {
        retry: {
          ...unwanted,
          ...quick,
          retryStatus: ({ code }) => {
            asked.push(code);
            return true;
          },
        },
      },
    });
    const ended = await call(method);
    expect([ended.code, ended.received]).toEqual([Status.OK, response]);
    expect(server.calls()).toBe(3);
    expect(asked).toEqual([Status.UNAVAILABLE]);
  });
});

describe.each(kinds)("a hook that cancels its own %s", (method) => {
  const metadata = new Metadata();
  metadata.set("grpc-retry-pushback-ms", "100000");
  const later = { code: Status.UNAVAILABLE, details: "later", metadata };

  it("leaves nothing behind when it is told of the retry (onDecision)", async () => {
    const server = failing(99, later);
    const world = await scene({ handlers: server.handlers });
    let running: Running | undefined;
    // The scene's observer keeps what it is told here.
    world.decisions.push = ({ verdict }) => {
      if (verdict === "retry") running?.cancel();
      return 0;
    };
    running = world.start(method);
    expect((await world.link.until(running.ended)).code).toBe(Status.CANCELLED);
    expect(server.calls()).toBe(1);
    await expectNothingLeft(world);
  });

  it("leaves nothing behind when it is asked about the status (retryStatus)", async () => {
    const server = failing(99, later);
    let running: Running | undefined;
    const client: ClientPolicy = {
      retry: {
        retryStatus: () => {
          running?.cancel();
          return true;
        },
      },
    };
    const world = await scene({ handlers: server.handlers, client });
    running = world.start(method);
    expect((await world.link.until(running.ended)).code).toBe(Status.CANCELLED);
    expect(server.calls()).toBe(1);
    await expectNothingLeft(world);
  });
});

describe.each(kinds)("a retry of %s that the breaker refuses", (method) => {
  it("gives its budget back", async () => {
    const server = failing(99);
    const world = await scene({
      handlers: server.handlers,
      client: { breaker: { consecutiveFailures: 1 }, retry: quick },
    });
    expect((await world.call(method)).code).toBe(Status.UNAVAILABLE);
    expect(server.calls()).toBe(1);
    await expectNothingLeft(world);
  });
});
