import type { ClientOptions, Metadata, ServerInterceptor, StatusObject } from "@grpc/grpc-js";
import { originOf } from "../../src/grpc/status/origin.js";
import type { ClientCall } from "../../src/grpc/types.js";
import type { ChannelSetup } from "../../src/lab/channel.js";
import { LabClient } from "../../src/lab/client.js";
import type { ClientCosts, ServerCosts } from "../../src/lab/costs.js";
import { Network, type NetworkOptions } from "../../src/lab/network.js";
import { LabProcess } from "../../src/lab/process.js";
import {
  type Handler,
  type HandlerCall,
  LabServer,
  type ServerSetup,
} from "../../src/lab/server.js";
import { World } from "../../src/lab/world.js";

/** Nothing costs anything, so that times are those of network and timers alone. */
const free: { readonly client: ClientCosts; readonly server: ServerCosts } = {
  client: { send: 0, receive: 0, message: 0, cancel: 0 },
  server: { connect: 0, accept: 0, answer: 0, message: 0, refuse: 0, cancel: 0 },
};

/** How a call has ended, as its caller sees it. */
export interface Ended {
  readonly code: number;
  readonly details: string;
  readonly atMs: number;
  readonly response: string | undefined;
  readonly metadata: Metadata;
  /** As a policy reads it that knows no more than status, peer and target. */
  readonly origin: string;
}

/** A world with a client. Messages take 1 ms, unless it is said how long. */
export function scene(latencyMs: NetworkOptions["latencyMs"] = 1, rest: NetworkOptions = {}) {
  const world = new World();
  const network = new Network(world, { latencyMs, ...rest });
  const clientProcess = new LabProcess(world, "client");
  const client = (
    addresses: readonly string[] = ["server:1"],
    setup: Partial<ChannelSetup> = {},
    options: ClientOptions = {},
  ) =>
    new LabClient({
      network,
      process: clientProcess,
      addresses,
      balancing: "pick_first",
      costs: free.client,
      options,
      ...setup,
    });
  const labServer = (
    handler: Handler = (call) => call.answer(),
    address = "server:1",
    interceptors: (process: LabProcess) => readonly ServerInterceptor[] = () => [],
    setup: Partial<ServerSetup> = {},
  ) => {
    const process = new LabProcess(world, address);
    const { server: costs } = free;
    const its = interceptors(process);
    const given = { network, process, address, costs, interceptors: its, handler };
    return new LabServer({ ...given, ...setup });
  };
  const server = (...given: Parameters<typeof labServer>) => labServer(...given).process;
  /** Makes a call at a time, and runs the world until `untilMs`. */
  const call = (
    of: LabClient,
    { atMs = world.nowMs, deadlineMs, ...rest }: CallOptions = {},
  ): { readonly ended: Ended | undefined; readonly call: ClientCall | undefined } => {
    const made: { ended: Ended | undefined; call: ClientCall | undefined } = {
      ended: undefined,
      call: undefined,
    };
    clientProcess.deliver(atMs, () => {
      const deadline = deadlineMs === undefined ? {} : { deadline: deadlineOf(deadlineMs) };
      made.call = of.request(
        { method: "lab.Service/Method", ...deadline, ...rest },
        (status, response) => {
          made.ended = endOf(status, response, of, made.call);
        },
      );
    });
    return made;
  };
  const deadlineOf = (inMs: number) => clientProcess.wallNow() + inMs;
  const endOf = (
    { code, details, metadata }: StatusObject,
    response: Buffer | undefined,
    of: LabClient,
    made: ClientCall | undefined,
  ): Ended => ({
    code,
    details,
    metadata,
    atMs: clientProcess.now(),
    response: response?.toString(),
    origin: originOf(
      { code, details, metadata },
      {
        sawHeaders: false,
        peer: made?.getPeer() ?? of.channel.getTarget(),
        target: of.channel.getTarget(),
      },
    ),
  });
  return { world, network, clientProcess, client, labServer, server, call };
}

interface CallOptions {
  readonly atMs?: number;
  readonly deadlineMs?: number;
  readonly method?: string;
  readonly metadata?: Metadata;
}

/** A handler that never answers, and keeps its calls. */
export function hangingHandler() {
  const calls: HandlerCall[] = [];
  return { calls, handler: (call: HandlerCall) => void calls.push(call) };
}
