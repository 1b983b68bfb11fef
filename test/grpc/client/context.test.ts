import { Metadata } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { Priority } from "../../../src/core/priority.js";
import { prioritized, withPriority } from "../../../src/grpc/context/ambient-priority.js";
import { currentCall } from "../../../src/grpc/context/inbound-call.js";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import { echo, path, type Scene, scene } from "../../scene.js";

const priority: Priority = "high";

/** A scene whose server notes the priority of each call, and how callers have marked it. */
async function noting(client: ClientPolicy): Promise<Scene & { readonly seen: string[] }> {
  const seen: string[] = [];
  const made: Scene = await scene({
    client,
    server: {},
    handlers: {
      ...echo,
      unary(call, callback) {
        const marked = call.metadata.get("x-request-priority").join();
        seen.push(`${currentCall()?.priority} ${marked}`);
        echo.unary(call, callback);
      },
      // Makes a call of its own.
      serverStream(call) {
        made.client.unary(call.request, () => call.end());
      },
    },
  });
  return { ...made, seen };
}

describe("the priority in the policies of a client", () => {
  it("is that of calls to which nobody gave one", async () => {
    const { call, seen } = await noting({ priority });

    await call("unary");

    expect(seen).toEqual(["high high"]);
  });

  it("is set for a service, and for a method before that", async () => {
    const service = { "weir.v1.ConformanceService": { priority } };
    const ofService = await noting({ priority: "low", methods: service });
    const ofMethod = await noting({
      methods: { ...service, [path.unary.slice(1)]: { priority: "critical" } },
    });

    await ofService.call("unary");
    await ofMethod.call("unary");

    expect([...ofService.seen, ...ofMethod.seen]).toEqual(["high high", "critical critical"]);
  });

  it("gives way to the metadata and the options of a call, and to withPriority", async () => {
    const { call, seen, weir } = await noting({ priority });

    await call("unary", {}, prioritized("low"));
    await call("unary", weir.with({}, { priority: "critical" }));
    await withPriority("normal", () => call("unary"));

    expect(seen).toEqual(["low low", "critical critical", "normal normal"]);
  });

  it("gives way to the inbound call, if that is marked", async () => {
    const { call, seen } = await noting({ methods: { [path.unary.slice(1)]: { priority } } });

    await call("serverStream", {}, prioritized("low"));
    await call("serverStream", {}, new Metadata());

    expect(seen).toEqual(["low low", "high high"]);
  });
});
