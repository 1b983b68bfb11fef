import { type Interceptor, Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { hedge, retry } from "../../src/client.js";
import { PlainCall } from "../grpc/client/put-off-call.js";
import { handlers, kinds, scene } from "../scene.js";

class NotSetUp extends PlainCall {
  protected override begin(): void {
    this.finish({
      code: Status.UNAVAILABLE,
      details: "Getting metadata from plugin failed with error: no token",
      metadata: new Metadata(),
    });
  }
}

/** Call credentials that fail for these attempts of a call. */
function failingFor(...numbers: readonly number[]): Interceptor {
  let attempts = 0;
  return (options, nextCall) => {
    attempts += 1;
    const Call = numbers.includes(attempts) ? NotSetUp : PlainCall;
    return new Call(options, nextCall);
  };
}

const policies = { retry: false, breaker: false } as const;

describe.each(kinds)("a %s whose call credentials fail", (method) => {
  it("ends with that, and is not tried again", async () => {
    const interceptors = [retry({ idempotent: true }), failingFor(1)];
    const { call, decisions } = await scene({ client: policies, ownClient: { interceptors } });
    expect((await call(method)).details).toMatch(/no token$/);
    expect(decisions).toEqual([]);
  });

  it("for a retry, ends with what the server said", async () => {
    const interceptors = [retry({ idempotent: true }), failingFor(2)];
    const { call } = await scene({
      client: policies,
      ownClient: { interceptors },
      handlers: handlers(({ fail }) => fail({ code: Status.UNAVAILABLE, details: "not now" })),
    });
    expect((await call(method)).details).toBe("not now");
  });

  it("for a hedge, is answered by the attempt that is under way", async () => {
    let calls = 0;
    const interceptors = [hedge({ delayMs: 50, retry: { idempotent: true } }), failingFor(2)];
    const { call, clock } = await scene({
      client: policies,
      ownClient: { interceptors },
      handlers: handlers((_call, answer) => {
        calls += 1;
        clock.schedule(200, answer);
      }),
    });
    expect((await call(method)).code).toBe(Status.OK);
    expect(calls).toBe(1);
  });
});
