import {
  type InterceptingCall,
  type Interceptor,
  Metadata,
  type NextCall,
  status as Status,
} from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import {
  breaker,
  bulkhead,
  context,
  deadline,
  hedge,
  retry,
  timeouts,
} from "../../../src/client.js";
import { PipelineCall } from "../../../src/grpc/client/pipeline-call.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import {
  callOf,
  ended,
  type FakeCall,
  failing,
  fakeBelow,
  Hearer,
  optionsOf,
  settled,
  Writes,
} from "./fake-call.js";

/** The call of a row of interceptors, the outermost first, that all stand alone. */
function rowOf(interceptors: readonly Interceptor[], nextCall: NextCall): InterceptingCall {
  let below = nextCall;
  for (const interceptor of interceptors.toReversed()) {
    const next = below;
    below = (options) => interceptor(options, next);
  }
  return below(optionsOf()) as InterceptingCall;
}

const wasStarted = ({ log }: FakeCall) => log.includes("start");

describe("retries below another interceptor that stands alone", () => {
  const others = {
    context: (clock: VirtualClock) => context({ clock }),
    deadline: (clock: VirtualClock) => deadline({ clock, defaultMs: 10_000 }),
    "retries that are off": (clock: VirtualClock) => retry({ clock, mode: "off" }),
    "hedges for methods that are idempotent": (clock: VirtualClock) =>
      hedge({ clock, delayMs: 50 }),
    timeouts: (clock: VirtualClock) => timeouts({ clock, firstResponseMs: 60_000 }),
    "timeouts of attempts": (clock: VirtualClock) => timeouts({ clock, attemptMs: 60_000 }),
    breaker: (clock: VirtualClock) => breaker({ clock }),
  } as const;

  /** What is made below for a call that fails, with each of its attempts. */
  async function madeFor(name: keyof typeof others): Promise<readonly FakeCall[]> {
    const clock = new VirtualClock();
    const { calls, nextCall } = fakeBelow(true);
    const retries = retry({ clock, maxAttempts: 3, idempotent: true });
    const call = rowOf([others[name](clock), retries], nextCall);
    call.start(new Metadata(), new Hearer());
    call.sendMessage("a");
    call.halfClose();
    for (let round = 0; round < 5; round += 1) {
      await settled();
      calls.at(-1)?.end(ended(Status.UNAVAILABLE, "not now"));
      clock.advance(1_000);
    }
    return calls;
  }

  it.each(Object.keys(others) as (keyof typeof others)[])(
    "make as many attempts as they say, and number them from the first on: %s",
    async (name) => {
      const sent = (await madeFor(name)).filter(wasStarted);
      const numbers = sent.map(({ metadata }) => metadata.get("grpc-previous-rpc-attempts"));
      expect(numbers).toEqual([[], ["1"], ["2"]]);
    },
  );

  it.each(["context", "deadline", "timeouts"] as const)(
    "make no call that is not sent, though the target is not known: %s",
    async (name) => {
      expect((await madeFor(name)).every(wasStarted)).toBe(true);
    },
  );
});

it("an interceptor below that sets a deadline where there is none does so for each attempt", async () => {
  const clock = new VirtualClock();
  const { calls, nextCall } = fakeBelow(true);
  const given: unknown[] = [];
  const withDefault: Interceptor = (options, next) => {
    given.push(options.deadline);
    options.deadline ??= clock.wallNow() + 500;
    return next(options) as InterceptingCall;
  };
  const call = rowOf([retry({ clock, idempotent: true }), withDefault], nextCall);
  call.start(new Metadata(), new Hearer());
  call.sendMessage("a");
  call.halfClose();
  await settled();
  callOf(calls).end(ended(Status.UNAVAILABLE, "not now"));
  clock.advance(5_000);
  await settled();
  expect(given).toEqual([undefined, undefined]);
});

it("a call without retries that has waited in a queue lets go of its request when that is sent", async () => {
  const clock = new VirtualClock();
  const { calls, nextCall } = fakeBelow(true);
  const queue = bulkhead({ clock, maxConcurrent: 1, maxQueued: 1 });
  const begun = ["a", "b"].map((message) => {
    const call = queue(optionsOf("server-stream"), nextCall);
    call.start(new Metadata(), new Hearer());
    call.sendMessage(message);
    call.halfClose();
    return call;
  });
  await settled();
  const kept = () => begun.map((call) => call instanceof PipelineCall && call.requests.at(0));
  expect(kept()).toEqual([undefined, expect.anything()]);
  calls.find(wasStarted)?.end(ended(Status.OK));
  await settled();
  expect(calls.filter(wasStarted)).toHaveLength(2);
  expect(kept()).toEqual([undefined, undefined]);
});

describe("a call that is cancelled while the call below is being made", () => {
  it.each([
    ["retry", (clock: VirtualClock) => retry({ clock })],
    ["deadline", (clock: VirtualClock) => deadline({ clock, defaultMs: 1_000 })],
    ["breaker", (clock: VirtualClock) => breaker({ clock })],
    ["timeouts", (clock: VirtualClock) => timeouts({ clock, attemptMs: 1_000 })],
  ] as const)("ends, and the call below is not sent: %s", async (_name, made) => {
    const clock = new VirtualClock();
    const { calls, nextCall } = fakeBelow(true);
    const row: { top?: InterceptingCall } = {};
    const cancelling: Interceptor = (options, next) => {
      row.top?.cancelWithStatus(Status.CANCELLED, "enough");
      return next(options) as InterceptingCall;
    };
    const call = rowOf([made(clock), cancelling], nextCall);
    row.top = call;
    const above = new Hearer();
    const writes = new Writes();
    call.start(new Metadata(), above);
    call.sendMessageWithContext(writes.context(), "a");
    call.halfClose();
    await settled();
    expect(above.heard).toEqual(failing("unary", Status.CANCELLED));
    expect(writes.counts).toEqual([1]);
    expect(calls.map(({ log }) => log)).toEqual([[expect.stringMatching(/^cancel /)]]);
    expect(clock.pending.refs + clock.pending.unrefs).toBe(0);
  });
});
