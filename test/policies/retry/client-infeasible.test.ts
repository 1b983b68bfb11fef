import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import { handlers, scene } from "../../scene.js";

/** A server whose calls take 200 ms, and then one that fails after 200 ms or hangs. */
async function slow(client: ClientPolicy, breaks: "fails" | "hangs", known = 100) {
  let nth = 0;
  const world = await scene({
    client,
    handlers: handlers((call, answer) => {
      nth += 1;
      if (nth <= known) world.clock.schedule(200, answer);
      else if (breaks === "fails") {
        world.clock.schedule(200, () => call.fail({ code: Status.UNAVAILABLE, details: "no" }));
      }
    }),
  });
  for (let served = 0; served < known; served += 1) await world.call("unary");
  return {
    ...world,
    attempts: () => nth - known,
    within: (ms: number) => world.call("unary", { deadline: world.clock.wallNow() + ms }),
  };
}

const retry = {
  idempotent: true,
  maxAttempts: 3,
  backoff: { baseMs: 10, jitter: "none" },
} as const;

describe("a retry that could not end in time by what such calls take", () => {
  it("is not sent, and the call ends at once with what its attempt ended with", async () => {
    const { within, attempts, decisions, clock } = await slow({ retry }, "fails");
    const beganMs = clock.now();
    const { code, details } = await within(300);
    expect([code, details, clock.now() - beganMs]).toEqual([Status.UNAVAILABLE, "no", 200]);
    expect(attempts()).toBe(1);
    expect(decisions.at(-1)).toMatchObject({ verdict: "stop", reason: "RETRY_INFEASIBLE" });
  });

  it("is sent where it can, and where nobody knows what they take", async () => {
    const patient = await slow({ retry }, "fails");
    await patient.within(2_000);
    expect(patient.attempts()).toBe(3);
    const cold = await slow({ retry }, "fails", 3);
    await cold.within(300);
    expect(cold.attempts()).toBe(2);
  });
});

it("a hedge that could not end in time is not sent, and the call waits for its attempt", async () => {
  const client = { retry: { idempotent: true }, hedge: { delayMs: 250 } };
  const { within, attempts, decisions } = await slow(client, "hangs");
  expect((await within(400)).code).toBe(Status.DEADLINE_EXCEEDED);
  expect(attempts()).toBe(1);
  expect(decisions).toContainEqual(
    expect.objectContaining({ policy: "hedge", verdict: "stop", reason: "RETRY_INFEASIBLE" }),
  );
});
