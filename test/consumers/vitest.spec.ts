// Vitest, without any configuration.
import { expect, it } from "vitest";
import { retriedCall } from "./retried-call.js";

it("retries a call", async () => {
  expect(await retriedCall()).toEqual({
    answer: "heard hello",
    runs: 2,
    priority: "high",
    nonsense: true,
    entryPoints: 8,
  });
});
