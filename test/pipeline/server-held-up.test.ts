import { status as Status } from "@grpc/grpc-js";
import { expect, it } from "vitest";
import type { Clock } from "../../src/core/clock.js";
import type { Gate } from "../../src/core/gate.js";
import { type Outcome, permit } from "../../src/core/permit.js";
import type { InboundCall } from "../../src/grpc/context/inbound-call.js";
import { environmentOf } from "../../src/grpc/environment.js";
import { serverPipeline } from "../../src/grpc/server/pipeline-call.js";
import { priorityReader } from "../../src/grpc/server/priority.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { handlers, kinds, scene } from "../scene.js";

it.each(kinds.flatMap((kind) => [0, 500].map((lateMs) => [kind, lateMs] as const)))(
  "a %s call that is told %d ms late that its time is over counts only where that was the handler's doing",
  async (kind, lateMs) => {
    const outcomes: Outcome[] = [];
    let aheadMs = 0;
    let real: Clock = new VirtualClock();
    const clock: Clock = {
      now: () => real.now() + aheadMs,
      wallNow: () => real.wallNow(),
      schedule: (...args) => real.schedule(...args),
      afterPoll: (task) => real.afterPoll(task),
    };
    const environment = environmentOf(
      { clock, random: undefined, onDecision: undefined, onError: undefined },
      "test",
    );
    const gate: Gate<InboundCall> = {
      policy: "admission",
      modeFor: () => "enforce",
      enter: () => permit((outcome) => outcomes.push(outcome)),
    };
    const priority = priorityReader(undefined, environment, "test");
    const interceptor = serverPipeline(environment, { priority, gates: [gate] });
    const world = await scene({
      ownServer: { interceptors: [interceptor] },
      handlers: handlers(() => {
        // The process stands still, and finds the deadline past when it goes on.
        aheadMs = lateMs;
      }),
    });
    real = world.clock;
    const options = { deadline: world.clock.wallNow() + 100 };
    expect((await world.call(kind, options)).code).toBe(Status.DEADLINE_EXCEEDED);
    await world.link.pass(10);
    expect(outcomes).toEqual([lateMs > 0 ? "ignored" : "failure"]);
  },
);
