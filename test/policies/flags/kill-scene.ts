import { type ClientOptions, Metadata } from "@grpc/grpc-js";
import type { DecisionEvent } from "../../../src/core/decision.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import type { ServerPolicy } from "../../../src/pipeline/server.js";
import { type StaticFlags, staticFlags } from "../../../src/policies/flags/source.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { createWeir, type Weir } from "../../../src/weir.js";
import { echo, type Method, type SceneOptions, startCall } from "../../scene.js";

/** The service that all scenes call. */
export const service = "weir.v1.ConformanceService";

/**
 * A client and a server with a weir and flags each, so that one of them can be switched off and the other not.
 *
 * @param handlers Are made with the clock of the scene.
 */
export async function apart(
  options: {
    readonly client?: ClientPolicy;
    readonly ownClient?: ClientOptions;
    readonly server?: ServerPolicy;
    readonly handlers?: (
      clock: ReturnType<typeof inMemoryTransport>["clock"],
    ) => NonNullable<SceneOptions["handlers"]>;
  } = {},
) {
  const transport = inMemoryTransport();
  const { clock, random } = transport;
  const side = () => {
    const decisions: DecisionEvent[] = [];
    const flags: StaticFlags = staticFlags();
    const onDecision = (decision: DecisionEvent) => void decisions.push(decision);
    const weir: Weir = createWeir({ clock, random, flags, onDecision });
    return { weir, flags, decisions };
  };
  const [caller, server] = [side(), side()];
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation: options.handlers?.(clock) ?? echo,
    clientOptions: caller.weir.client(options.client, options.ownClient),
    serverInterceptors: server.weir.server(options.server).interceptors ?? [],
  });
  const client = link.client(ConformanceServiceClient);
  const start = (method: Method) => startCall(client, method, {}, new Metadata());
  return {
    caller,
    server,
    link,
    clock,
    start,
    call: (method: Method) => link.until(start(method).ended, 1e9),
  };
}
