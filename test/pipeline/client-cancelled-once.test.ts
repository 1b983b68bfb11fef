import { InterceptingCall, type Interceptor, Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import * as client from "../../src/client.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../src/gen/weir/v1/conformance.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { handlers, kinds, startCall } from "../scene.js";

describe.each(kinds)("the cancellation of a %s", (kind) => {
  it.each([0, 1, 1_000])("comes once below gates, %d ms after the start", async (afterMs) => {
    const transport = inMemoryTransport();
    const heard: string[] = [];
    const below: Interceptor = (options, nextCall) =>
      new InterceptingCall(nextCall(options), {
        cancel(next) {
          heard.push("cancel");
          next();
        },
      });
    const { clock } = transport;
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: handlers(() => {}),
      clientOptions: {
        interceptors: [client.breaker({ clock }), client.bulkhead({ clock }), below],
      },
      serverInterceptors: [],
    });
    const running = startCall(link.client(ConformanceServiceClient), kind, {}, new Metadata());
    if (afterMs > 0) await link.pass(afterMs);
    running.cancel();
    expect((await link.until(running.ended)).code).toBe(Status.CANCELLED);
    await link.pass(10);
    expect(heard).toEqual(["cancel"]);
    expect(link.inFlight()).toBe(0);
  });
});
