import { type ClientOptions, Metadata, type MetadataOptions, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { StatusOrigin } from "../../../src/core/status.js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import type { NetworkOptions } from "../../../src/testing/in-memory/network.js";
import { loopbackTransport } from "../../../src/testing/loopback/loopback.js";
import type { Transport } from "../../../src/testing/transport.js";
import { echo } from "../../testing/in-memory/scene.js";
import { type Seen, watching } from "./origin-watch.js";

interface Scenario {
  readonly origin: StatusOrigin;
  readonly handlers?: Partial<ConformanceServiceServer>;
  readonly channel?: ClientOptions;
  /** The server is gone before the call. */
  readonly dead?: boolean;
  /** The server goes this long after the start of the call. */
  readonly crashMs?: number;
  readonly cancelMs?: number;
  readonly deadlineMs?: number;
  readonly metadata?: MetadataOptions;
  readonly payload?: Buffer;
}

const silent: Partial<ConformanceServiceServer> = { unary() {} };
const failure = { code: status.UNAVAILABLE, details: "not now" };

/** What a transport that is only modelled must tell as grpc-js over sockets does. */
const scenarios: Readonly<Record<string, Scenario>> = {
  "an answer in trailers alone": {
    origin: "remote",
    handlers: { unary: (_call, callback) => callback(failure) },
  },
  "an answer after headers": {
    origin: "remote",
    handlers: {
      unary(call, callback) {
        call.sendMetadata(new Metadata());
        callback(failure);
      },
    },
  },
  "an answer that passes on a text of grpc-js": {
    origin: "remote",
    handlers: {
      unary: (_call, callback) => callback({ ...failure, details: "Connection dropped" }),
    },
  },
  "a server that is gone": { origin: "never-sent", dead: true },
  "a server that goes during the call": { origin: "transport", handlers: silent, crashMs: 200 },
  "a caller who cancels at once": { origin: "caller", cancelMs: 0 },
  "a caller who cancels later": { origin: "caller", handlers: silent, cancelMs: 200 },
  "a deadline that had passed": { origin: "deadline", deadlineMs: -5 },
  "a deadline during the call": { origin: "deadline", handlers: silent, deadlineMs: 300 },
  "a deadline while there is no connection": {
    origin: "deadline",
    dead: true,
    deadlineMs: 300,
    metadata: { waitForReady: true },
  },
  "a request over the limit": {
    origin: "local-limit",
    channel: { "grpc.max_send_message_length": 5 },
    payload: Buffer.alloc(100),
  },
  "an answer over the limit": {
    origin: "local-limit",
    channel: { "grpc.max_receive_message_length": 5 },
    payload: Buffer.alloc(100),
  },
};

async function endOver(transport: Transport, scenario: Scenario): Promise<Seen> {
  let seen: Seen | undefined;
  let target = "";
  const implementation: ConformanceServiceServer = { ...echo };
  Object.assign(implementation, scenario.handlers);
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation,
    clientOptions: {
      ...scenario.channel,
      interceptors: [
        watching(
          () => target,
          (told) => {
            seen = told;
          },
        ),
      ],
    },
  });
  try {
    if (scenario.dead === true) await link.crash();
    const client = link.client(ConformanceServiceClient);
    target = client.getChannel().getTarget();
    const { deadlineMs, cancelMs, crashMs } = scenario;
    const call = client.unary(
      { payload: scenario.payload ?? Buffer.alloc(0), sequence: 1 },
      new Metadata(scenario.metadata),
      deadlineMs === undefined ? {} : { deadline: transport.clock.wallNow() + deadlineMs },
      () => {},
    );
    if (cancelMs === 0) call.cancel();
    else if (cancelMs !== undefined) transport.clock.schedule(cancelMs, () => call.cancel());
    if (crashMs !== undefined) transport.clock.schedule(crashMs, () => void link.crash());
    await link.until(new Promise((resolve) => call.on("status", resolve)));
  } finally {
    await link.close();
  }
  if (seen === undefined) throw new Error("the call ended unseen");
  return seen;
}

/** The text without its numbers: ports and times differ from run to run. */
const worded = ({ status: { details } }: Seen) =>
  details.replaceAll(/\d+\.\d+s/g, "T").replaceAll(/:\d{4,5}/g, ":PORT");

describe("the origin of a status is the same in memory as over sockets", () => {
  it.each(Object.entries(scenarios))("for %s", async (_name, scenario) => {
    const real = await endOver(loopbackTransport(), scenario);
    const modelled = await endOver(inMemoryTransport(), scenario);
    expect([real.origin, modelled.origin]).toEqual([scenario.origin, scenario.origin]);
    expect(status[modelled.status.code]).toBe(status[real.status.code]);
    expect(modelled.evidence.sawHeaders).toBe(real.evidence.sawHeaders);
    // Where the time went depends on how long each step took, and a broken connection has words of its own
    // for each way to break.
    if (scenario.origin !== "deadline" && scenario.crashMs === undefined)
      expect(worded(modelled)).toBe(worded(real));
  });
});

describe("the origin of a fault of the modelled network", () => {
  const off = { "grpc.enable_retries": 0 };
  it.each<[string, NetworkOptions, StatusOrigin, string]>([
    ["a refused stream", { refusal: 1 }, "refused", "Stream refused by server"],
    [
      "a reset stream",
      { reset: 1 },
      "transport",
      "Received RST_STREAM with code 2 (Internal server error)",
    ],
  ])("is that of the real one, for %s", async (_name, network, origin, details) => {
    const seen = await endOver(inMemoryTransport({ network }), { origin, channel: off });
    expect(seen.status.details).toBe(details);
    expect(seen.origin).toBe(origin);
  });
});
