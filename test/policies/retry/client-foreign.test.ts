import { InterceptingCall, type Interceptor, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { breaker, context, retry } from "../../../src/client.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { failing, scene } from "../../scene.js";

/** Gives every failure that comes from below another code. */
function recoding(code: Status, how: "in place" | "in a copy"): Interceptor {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start(metadata, _listener, next) {
        next(metadata, {
          onReceiveStatus(status, pass) {
            if (status.code === Status.OK) pass(status);
            else if (how === "in a copy") pass({ ...status, code });
            else {
              status.code = code;
              pass(status);
            }
          },
        });
      },
    });
}

describe("an interceptor of one's own between retries and the breaker that changes a status", () => {
  it.each([
    ["in place", Status.UNAVAILABLE, Status.FAILED_PRECONDITION, 1],
    ["in a copy", Status.UNAVAILABLE, Status.FAILED_PRECONDITION, 1],
    ["in place", Status.NOT_FOUND, Status.UNAVAILABLE, 3],
    ["in a copy", Status.NOT_FOUND, Status.UNAVAILABLE, 3],
    ["in place", Status.UNAVAILABLE, Status.OK, 1],
    ["in a copy", Status.UNAVAILABLE, Status.OK, 1],
  ] as const)(
    "is believed: %s, from code %i to %i, %i attempts",
    async (how, from, to, attempts) => {
      const clock = new VirtualClock();
      const server = failing(10, { code: from, details: "failed" });
      const environment = { clock, random: seededRandom(1) };
      const { call } = await scene({
        clock,
        client: { retry: false, breaker: false },
        ownClient: {
          interceptors: [
            context(environment),
            retry({ maxAttempts: 3, idempotent: true, ...environment }),
            recoding(to, how),
            breaker(environment),
          ],
        },
        handlers: server.handlers,
      });
      await call("unary");
      expect(server.calls()).toBe(attempts);
    },
  );
});
