import { Metadata, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { loopbackTransport } from "../../../src/testing/loopback/loopback.js";
import { kinds } from "../../grpc/client/fake-call.js";
import { relaunching } from "../../grpc/client/relaunching-call.js";
import {
  type AttemptPlan,
  callWith,
  message,
  openPlanned,
} from "../../grpc/client/replay-network.js";

const streamsRequest = (kind: string) => kind === "client-stream" || kind === "bidi";
const request = Array.from({ length: 8 }, (_, index) => message(index + 1, 1_000));

describe.each([
  ["in memory", inMemoryTransport],
  ["over loopback", loopbackTransport],
] as const)("a call of several attempts, %s", (_way, makeTransport) => {
  it.each(kinds)("gives the answer of a single attempt, for %s", async (kind) => {
    const single = kind === "unary" || kind === "client-stream";
    const plan: AttemptPlan[] = [{ failAfter: 0 }, { failAfter: 3, headers: single }];
    const transport = makeTransport();
    const { interceptor } = relaunching(transport.clock, { attempts: 3, waitMs: 5 });
    const own = await openPlanned(transport, interceptor, plan);
    const plain = await openPlanned(transport, undefined, []);
    try {
      const metadata = new Metadata();
      metadata.set("k", "v");
      const got = await own.link.until(callWith(own.client, kind, request, metadata).ended);
      const wanted = await plain.link.until(callWith(plain.client, kind, request).ended);
      expect(got.responses).toEqual(wanted.responses);
      expect(got.statuses.map(({ code }) => code)).toEqual([status.OK]);
      expect(got.headers).toBe(1);
      expect(got.writes).toEqual(streamsRequest(kind) ? request.map(() => 1) : []);
      expect(own.handled.at(-1)?.requests).toEqual(plain.handled.at(-1)?.requests);
      expect(own.handled.at(-1)?.halfClosed).toBe(plain.handled.at(-1)?.halfClosed);
      expect(own.handled.map((each) => each.metadata.get("k"))).toEqual([["v"], ["v"], ["v"]]);
      const previous = own.handled.map((each) => each.metadata.get("grpc-previous-rpc-attempts"));
      expect(previous).toEqual([[], ["1"], ["2"]]);
      expect(metadata.getMap()).toEqual({ k: "v" });
      await own.link.pass(20);
      expect(own.link.inFlight()).toBe(0);
    } finally {
      await own.link.close();
      await plain.link.close();
    }
  });

  it.each(["client-stream", "bidi"] as const)(
    "sends a request that outgrew the buffer whole, and fails with its one attempt, for %s",
    async (kind) => {
      const transport = makeTransport();
      const limits = { maxBufferBytes: 1 << 20, maxBufferMessages: 3 };
      const { interceptor } = relaunching(transport.clock, { limits });
      const { link, client, handled } = await openPlanned(transport, interceptor, [
        {},
        { failAfter: 8 },
      ]);
      try {
        const fine = await link.until(callWith(client, kind, request).ended);
        expect(fine.responses).toEqual(request.map(({ sequence }) => sequence));
        const failed = await link.until(callWith(client, kind, request).ended);
        expect(failed.statuses.map(({ code }) => code)).toEqual([status.UNAVAILABLE]);
        expect(handled).toHaveLength(2);
        expect(handled[1]?.requests).toEqual(request);
      } finally {
        await link.close();
      }
    },
  );
});

/** Handlers that neither read nor answer. */
const deaf: ConformanceServiceServer = {
  unary() {},
  clientStream() {},
  serverStream() {},
  bidiStream() {},
};

describe("the flow of a call that can be replayed", () => {
  /** How many of 200 messages of 10 kB a writer gets rid of to a server that does not read. */
  async function accepted(replayed: boolean): Promise<number> {
    const transport = inMemoryTransport();
    const { interceptor } = relaunching(transport.clock, {
      limits: { maxBufferBytes: 1 << 30, maxBufferMessages: 1e6 },
    });
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: deaf,
      clientOptions: {
        ...(replayed ? { interceptors: [interceptor] } : {}),
        "grpc.per_rpc_retry_buffer_size": 1,
      },
    });
    const call = link.client(ConformanceServiceClient).bidiStream();
    call.on("error", () => {});
    let written = 0;
    for (let index = 1; index <= 200; index++) {
      call.write(message(index, 10_000), () => {
        written += 1;
      });
    }
    await link.pass(1_000);
    const before = written;
    call.cancel();
    await link.pass(10);
    await link.close();
    return before;
  }

  it("stops the writer when the server does not read, as without replay", async () => {
    const plain = await accepted(false);
    expect(plain).toBeLessThan(50);
    expect(Math.abs((await accepted(true)) - plain)).toBeLessThanOrEqual(1);
  });

  it("stops the server when the caller does not read, and gives it all it asks for later", async () => {
    const transport = inMemoryTransport();
    const { interceptor } = relaunching(transport.clock);
    let sent = 0;
    const pushing: ConformanceServiceServer = {
      ...deaf,
      serverStream(call) {
        const more = () => {
          if (sent === 200) call.end();
          else {
            sent += 1;
            call.write(message(sent, 10_000), more);
          }
        };
        more();
      },
    };
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: pushing,
      clientOptions: { interceptors: [interceptor] },
    });
    const call = link.client(ConformanceServiceClient).serverStream(message(1));
    const got: number[] = [];
    await link.pass(1_000);
    expect(sent).toBeLessThan(60);
    call.on("data", ({ sequence }: { sequence: number }) => got.push(sequence));
    await link.until(new Promise((resolve) => call.on("status", resolve)));
    expect(got).toEqual(Array.from({ length: 200 }, (_, index) => index + 1));
    await link.close();
  });
});
