import type { ClientOptions, ServerOptions } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../src/core/options.js";
import type { ClientPolicy } from "../src/pipeline/client.js";
import type { ServerPolicy } from "../src/pipeline/server.js";
import { createWeir } from "../src/weir.js";

/** What only a caller without types can give. */
const client = (policy: unknown, own?: unknown) =>
  createWeir().client(policy as ClientPolicy, own as ClientOptions | undefined);
const server = (policy: unknown, own?: unknown) =>
  createWeir().server(policy as ServerPolicy, own as ServerOptions | undefined);

function refusal(build: () => unknown): unknown {
  try {
    build();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe("nonsense in options that came through, or failed as a TypeError", () => {
  it.each<[string, () => unknown, string | RegExp]>([
    ["a policy of null", () => client({ retry: null }), "client.retry"],
    [
      "a policy of null that others look into",
      () => client({ retry: null, timeouts: { totalMs: 5_000 } }),
      "client.retry",
    ],
    ["own client options of null", () => client({}, null), /\bown\b/],
    ["own server options of null", () => server({}, null), /\bown\b/],
    ["a method of null", () => client({ methods: { "a.B/C": null } }), 'client.methods["a.B/C"]'],
    [
      "a method without its service",
      () => client({ methods: { Say: {} } }),
      'client.methods["Say"]',
    ],
    ["interceptors of a client in a text", () => client({}, { interceptors: "x" }), /interceptors/],
    [
      "interceptors of a client that are none",
      () => client({}, { interceptors: [1] }),
      /interceptors/,
    ],
    ["interceptors of a server in a text", () => server({}, { interceptors: "x" }), /interceptors/],
    [
      "interceptors of a server that are none",
      () => server({}, { interceptors: [1] }),
      /interceptors/,
    ],
    [
      "a wait for a server that is neither true nor false",
      () => client({ waitForReady: "yes" }),
      "client.waitForReady",
    ],
    [
      "the same of a method",
      () => client({ methods: { "a.B/C": { waitForReady: 1 } } }),
      'client.methods["a.B/C"].waitForReady',
    ],
    [
      "a token of a resumed response that is no function",
      () => client({ retry: { resume: { token: "position", request: () => ({}) } } }),
      "client.retry.resume.token",
    ],
    [
      "a resumed response without its request",
      () => client({ retry: { resume: { token: () => 1 } } }),
      "client.retry.resume.request",
    ],
    [
      "a judgement of statuses that is no function",
      () => client({ retry: { retryStatus: [14] } }),
      "client.retry.retryStatus",
    ],
    [
      "a judgement of responses that is no function",
      () => client({ retry: { retryResponse: true } }),
      "client.retry.retryResponse",
    ],
    [
      "a total time that the default wait before a retry does not fit",
      () => client({ timeouts: { totalMs: 50 } }),
      "client.timeouts.totalMs",
    ],
  ])("is refused with the option's name: %s", (_what, build, option) => {
    const error = refusal(build);
    expect(error).toBeInstanceOf(InvalidOptionError);
    if (!(error instanceof InvalidOptionError)) return;
    if (typeof option === "string") expect(error.option).toBe(option);
    else expect(error.option).toMatch(option);
    const text = error.message.slice(error.option.length);
    expect(error.message.startsWith(error.option)).toBe(true);
    expect(text).toMatch(/^ (must be |is not an option(;| here, but ))/);
  });

  it("is not seen in what makes sense", () => {
    const options = [
      client(undefined, undefined),
      server(undefined, undefined),
      client({ methods: { "a.B": {}, "a.B/C": {}, "Greeter/Say": {} } }),
      client({ timeouts: { totalMs: 50 }, retry: false }),
      client({ timeouts: { totalMs: 50 }, retry: { backoff: { baseMs: 10 } } }),
      client({}, { interceptors: [] }),
    ];
    for (const { interceptors } of options) expect(interceptors?.length).toBeGreaterThan(0);
  });
});
