import {
  type CallOptions,
  type ClientOptions,
  credentials,
  Metadata,
  Server,
  type ServerOptions,
  type status as Status,
} from "@grpc/grpc-js";
import type { DecisionEvent } from "../../../src/core/decision.js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import { createWeir, type Weir } from "../../../src/weir.js";
import {
  type Ended,
  type Method,
  payload,
  type Running,
  startCall,
  withResolvers,
} from "../../scene.js";
import { listen } from "./listen.js";

/** What the server does with one attempt. */
export interface Act {
  /** How long it takes its time first. */
  readonly afterMs?: number;
  /** Response headers go out at once, ahead of everything else. */
  readonly headers?: true;
  /** The values of `grpc-retry-pushback-ms` on a failure. */
  readonly pushback?: string | readonly string[];
  /** OK when absent; no end at all with `never`. */
  readonly end?: Status | "never";
}

/** One attempt, as the server saw it. */
export interface Arrival {
  readonly atMs: number;
  /** `grpc-previous-rpc-attempts`. */
  readonly previous: string | undefined;
  /** Sequence numbers of the messages that have come. */
  readonly messages: number[];
  cancelled: boolean;
}

export interface A6 {
  readonly weir: Weir;
  readonly client: ConformanceServiceClient;
  readonly arrivals: readonly Arrival[];
  readonly decisions: readonly DecisionEvent[];
  readonly start: (method: Method, options?: CallOptions) => Running;
  readonly call: (method: Method, options?: CallOptions) => Promise<Ended & { ms: number }>;
  /** Another server with the same script, called by a client of the same weir. */
  readonly beside: () => Promise<A6>;
  /** Milliseconds between the arrivals of attempts one after another. */
  readonly gaps: () => number[];
  /** Tokens left in the retry throttle of the only target. */
  readonly tokens: (policy?: "retry" | "hedge") => number | undefined;
}

export const serverSaid = "the server's own words";

const open: { close(): void }[] = [];

/** For `afterEach`. */
export function closeAll(): void {
  for (const one of open.splice(0).reverse()) one.close();
}

/** A bare server that plays a script, attempt by attempt, and a client of a weir. The last act repeats. */
export async function a6(policy: ClientPolicy, script: readonly Act[]): Promise<A6> {
  const decisions: DecisionEvent[] = [];
  const weir = createWeir({ onDecision: (decision) => decisions.push(decision) });
  return stage({ weir, decisions, policy, script });
}

/** A client of a weir for an address. */
export function connect(
  weir: Weir,
  policy: ClientPolicy,
  address: string,
  own: ClientOptions = {},
): ConformanceServiceClient {
  const insecure = credentials.createInsecure();
  const client = new ConformanceServiceClient(address, insecure, weir.client(policy, own));
  open.push(client);
  return client;
}

/** Starts a server and gives its address. */
export async function serve(
  implementation: ConformanceServiceServer,
  options: ServerOptions = {},
): Promise<string> {
  const server = new Server(options);
  server.addService(ConformanceServiceService, implementation);
  const port = await listen(server);
  open.push({ close: () => server.forceShutdown() });
  return `127.0.0.1:${port}`;
}

async function stage(
  given: Pick<A6, "weir" | "decisions"> & {
    readonly policy: ClientPolicy;
    readonly script: readonly Act[];
  },
): Promise<A6> {
  const { weir, decisions, policy, script } = given;
  const arrivals: Arrival[] = [];
  const client = connect(weir, policy, await serve(player(script, arrivals)));
  // Hedges and retries wait for a connection, which is another's subject.
  await new Promise<void>((resolve, reject) => {
    client.waitForReady(Date.now() + 10_000, (error) => (error ? reject(error) : resolve()));
  });
  const start: A6["start"] = (method, options = {}) =>
    startCall(client, method, options, new Metadata());
  return {
    weir,
    client,
    arrivals,
    decisions,
    start,
    call: async (...args) => {
      const beganMs = performance.now();
      const ended = await start(...args).ended;
      return { ...ended, ms: performance.now() - beganMs };
    },
    beside: () => stage(given),
    gaps: () => arrivals.slice(1).map(({ atMs }, index) => atMs - (arrivals[index]?.atMs ?? 0)),
    tokens: (name = "retry") => tokensOf(weir, name),
  };
}

function tokensOf(weir: Weir, name: "retry" | "hedge"): number | undefined {
  const [instance] = weir.snapshot().policies[name]?.instances ?? [];
  return Object.values(instance?.budgets ?? {})[0]?.tokens?.left;
}

interface Played {
  readonly metadata: Metadata;
  sendMetadata(metadata: Metadata): void;
  on(event: "cancelled", listener: () => void): unknown;
}

interface Failure {
  readonly code: Status;
  readonly details: string;
  readonly metadata: Metadata;
}

function player(script: readonly Act[], arrivals: Arrival[]): ConformanceServiceServer {
  const play = (call: Played, fail: (failure: Failure) => void, answer: () => void): Arrival => {
    const { afterMs = 0, headers, pushback = [], end } = script[arrivals.length] ?? last(script);
    const [previous] = call.metadata.get("grpc-previous-rpc-attempts");
    const arrival: Arrival = {
      atMs: performance.now(),
      previous: previous?.toString(),
      messages: [],
      cancelled: false,
    };
    arrivals.push(arrival);
    // grpc-js says so of every call that has ended.
    let ended = false;
    call.on("cancelled", () => {
      arrival.cancelled = !ended;
    });
    if (headers) call.sendMetadata(new Metadata());
    if (end === "never") return arrival;
    const metadata = new Metadata();
    for (const value of [pushback].flat()) metadata.add("grpc-retry-pushback-ms", value);
    const done = () => {
      ended = true;
      if (end === undefined) answer();
      else fail({ code: end, details: serverSaid, metadata });
    };
    if (afterMs > 0) setTimeout(done, afterMs);
    else done();
    return arrival;
  };
  return {
    unary: (call, callback) => {
      const { request } = call;
      play(call, callback, () => callback(null, request)).messages.push(request.sequence);
    },
    clientStream(call, callback) {
      const { promise: ended, resolve: end } = withResolvers<void>();
      const { messages } = play(call, callback, () => {
        void ended.then(() => callback(null, { payload, sequences: messages }));
      });
      call.on("data", ({ sequence }: { sequence: number }) => messages.push(sequence));
      call.on("end", end);
    },
    serverStream(call) {
      const { sequence: count } = call.request;
      play(call, emitter(call), () => {
        for (let sequence = 1; sequence <= count; sequence++) call.write({ payload, sequence });
        call.end();
      }).messages.push(count);
    },
    bidiStream(call) {
      const { promise: ended, resolve: end } = withResolvers<void>();
      const { messages } = play(call, emitter(call), () => {
        void ended.then(() => {
          for (const sequence of messages) call.write({ payload, sequence });
          call.end();
        });
      });
      call.on("data", ({ sequence }: { sequence: number }) => messages.push(sequence));
      call.on("end", end);
    },
  };
}

function emitter(call: { emit(event: "error", error: Failure): unknown }) {
  return (failure: Failure) => {
    call.emit("error", failure);
  };
}

function last(script: readonly Act[]): Act {
  return script[script.length - 1] ?? {};
}
