import { status as Status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { value } from "../../src/policies/fallback/client-providers.js";
import { staleCache } from "../../src/policies/fallback/stale-cache/client-cache.js";
import { fallbackScene, message } from "../policies/fallback/client-scene.js";
import { failing } from "../scene.js";
import { decisionsOf, idOf, parentIdOf, startTracing, type TracingUnderTest } from "./tracing.js";

describe("the span of a call with a fallback", () => {
  let tracing: TracingUnderTest;
  beforeEach(() => {
    tracing = startTracing();
  });
  afterEach(() => tracing.stop());

  it("says who answered, and that nobody could", async () => {
    let silent = false;
    const made = await fallbackScene({
      providers: [value(() => (silent ? undefined : message(1)))],
    });
    await made.call("unary");
    silent = true;
    await made.call("unary");
    const [answered, unanswered] = tracing.calls();
    expect(decisionsOf(answered)).toEqual(["fallback fallback"]);
    expect(answered?.events[0]?.attributes).toMatchObject({
      "weir.decision.detail": "value, instead of UNAVAILABLE",
    });
    expect(answered?.attributes["rpc.status_code"]).toBe("OK");
    expect(decisionsOf(unanswered)).toEqual(["fallback stop FALLBACK_UNANSWERED"]);
    expect(unanswered?.events[0]?.attributes).toMatchObject({
      "weir.decision.detail": "value: nothing",
    });
  });

  it("that opened a shared call has its attempts", async () => {
    const made = await fallbackScene(
      { providers: [staleCache({ shared: true })] },
      { handlers: failing(1).handlers },
      { retry: { maxAttempts: 2, idempotent: true } },
    );
    expect((await made.call("unary")).code).toBe(Status.OK);
    const [call] = tracing.calls();
    expect(call?.attributes["weir.call.attempts"]).toBe(2);
    expect(decisionsOf(call)).toEqual(["retry retry"]);
    expect(tracing.attempts().map((each) => parentIdOf(each))).toEqual([idOf(call), idOf(call)]);
  });
});
