// A server of an incident on real sockets, in a process of its own.
import {
  Server,
  ServerCredentials,
  type ServerInterceptingCall,
  type ServerInterceptor,
  type ServerOptions,
} from "@grpc/grpc-js";
import { obeyOrders } from "../../bench/peer.js";
import { computeMs, type Work } from "../../src/lab/incident.js";
import { createWeir } from "../../src/weir.js";
import { realService } from "./service.js";

export type ServerOrder =
  | { readonly do: "listen"; readonly work: Work; readonly policies: boolean }
  /** From now on, the CPU of calls is counted. */
  | { readonly do: "count" }
  /** Tells what a call has cost since then. */
  | { readonly do: "tell" }
  /** The phases begin at this time of the wall clock. */
  | { readonly do: "begin"; readonly epochMs: number }
  /** The work takes so many times as long. */
  | { readonly do: "slow"; readonly factor: number }
  | { readonly do: "end" };
export interface ServerAnswer {
  readonly port?: number;
  /** CPU for each call beside its handler, in milliseconds. */
  readonly costMs?: number;
  /** When each request came, in milliseconds since the phases began. */
  readonly arrivedMs?: readonly number[];
  readonly error?: string;
}

const arrived: number[] = [];
let server: Server | undefined;
let factor = 1;
let epochMs = Number.POSITIVE_INFINITY;

/** Calls whose handlers have run, and for how long these have held the event loop. */
let calls = 0;
let spunMs = 0;
let countedFromMs = 0;

/** Holds the event loop, as a handler does that computes. */
function spin(ms: number): void {
  const startMs = performance.now();
  while (performance.now() < startMs + ms);
  spunMs += performance.now() - startMs;
  calls += 1;
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

/** From half of the mean to one and a half, as in the lab. */
const drawn = (meanMs: number) => meanMs * factor * (0.5 + Math.random());

/**
 * Serves `size` pieces of work at a time, the others in their order. It stands for something outside of the process, so a
 * late timer makes its answer late, and not the next piece of work.
 */
function dependency(size: number, ms: number): (done: () => void) => void {
  const waiting: ((startMs: number) => void)[] = [];
  let free = size;
  const begin = (startMs: number, done: () => void) => {
    const endMs = startMs + drawn(ms);
    setTimeout(
      () => {
        const next = waiting.shift();
        if (next === undefined) free += 1;
        else next(endMs);
        done();
      },
      Math.max(0, endMs - performance.now()),
    );
  };
  return (done) => {
    if (free === 0) {
      waiting.push((startMs) => begin(startMs, done));
      return;
    }
    free -= 1;
    begin(performance.now(), done);
  };
}

function handlerOf(work: Work): (done: () => void) => void {
  if (work.kind === "stream") throw new Error("streams are not run on real sockets");
  if (work.kind === "cpu") {
    return (done) => {
      spin(drawn(work.ms));
      done();
    };
  }
  const wait = dependency(work.kind === "pool" ? work.size : Number.POSITIVE_INFINITY, work.ms);
  return (done) => {
    spin(computeMs);
    wait(done);
  };
}

function listen(work: Work, policies: boolean): Promise<number> {
  const handle = handlerOf(work);
  const options: ServerOptions = policies ? createWeir().server({ admission: {} }) : {};
  // Before all policies: what they refuse has come, too.
  const counting: ServerInterceptor = (_method, call) => {
    const atMs = Date.now() - epochMs;
    if (atMs >= 0) arrived.push(atMs);
    return call as ServerInterceptingCall;
  };
  const interceptors = [counting, ...(options.interceptors ?? [])];
  const made = new Server({ ...options, interceptors });
  server = made;
  made.addService(realService, {
    work: (call: { request: Buffer }, callback: (error: null, answer: Buffer) => void) =>
      handle(() => callback(null, call.request)),
  });
  return new Promise((resolve, reject) => {
    made.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) resolve(port);
      else reject(error);
    });
  });
}

obeyOrders<ServerOrder, ServerAnswer>(async (order) => {
  switch (order.do) {
    case "listen":
      return { port: await listen(order.work, order.policies) };
    case "count":
      calls = 0;
      spunMs = 0;
      countedFromMs = cpuMs();
      return {};
    case "tell":
      return { costMs: (cpuMs() - countedFromMs - spunMs) / calls };
    case "begin":
      ({ epochMs } = order);
      return {};
    case "slow":
      ({ factor } = order);
      return {};
    case "end":
      server?.forceShutdown();
      return { arrivedMs: arrived };
    default:
      return order satisfies never;
  }
});
