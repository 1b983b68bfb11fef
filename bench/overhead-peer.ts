// One client or one server of the overhead bench, in a process of its own: its CPU time and its heap are its own, and
// its machine code is shaped by one variant only, as in a real service. The coordinator speaks to it over IPC.
import { GCProfiler, getHeapSpaceStatistics } from "node:v8";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { Echo, echoService, payload } from "./echo.js";
import {
  type Caller,
  callsMade,
  closedLoop,
  fixedRate,
  type Load,
  start,
} from "./overhead-load.js";
import {
  type ClientName,
  clients,
  recordedSpans,
  type ServerName,
  servers,
} from "./overhead-variants.js";
import { obeyOrders } from "./peer.js";

export type Order =
  | { readonly do: "serve"; readonly as: ServerName }
  /** What this process has done so far. */
  | { readonly do: "count" }
  | { readonly do: "connect"; readonly as: ClientName; readonly port: number }
  /** Makes a call that keeps a slot of the server. */
  | { readonly do: "hold"; readonly port: number }
  | { readonly do: "load"; readonly port: number; readonly load: Load }
  | { readonly do: "pace"; readonly port: number; readonly calls: number; readonly rate: number }
  | { readonly do: "watch-heap" }
  | { readonly do: "read-heap" }
  | { readonly do: "leave-heap" };

export interface Answer {
  readonly port?: number;
  /** Calls that have come to the handlers of a server since it began. */
  readonly calls?: number;
  /** Calls that a client has made since it began. */
  readonly made?: number;
  /** CPU time since the process began, or of the load, in microseconds. */
  readonly cpuUs?: number;
  readonly elapsedMs?: number;
  /** Calls of the load that were refused. */
  readonly refused?: number;
  /** Spans that were recorded since the process began. */
  readonly spans?: number;
  readonly tookMs?: readonly number[];
  readonly heap?: Heap;
  readonly error?: string;
}

/** What has happened to the heap since it is watched. */
export interface Heap {
  readonly allocatedBytes: number;
  /** Of what was allocated, how much has survived a minor collection. */
  readonly survivingShare: number;
  /** Minor collections that the share is of. */
  readonly collections: number;
}

const echo = new Echo();
const callers = new Map<number, Caller>();

function serve(as: ServerName): Promise<number> {
  const server = new Server(servers[as]());
  server.addService(echoService, { ...echo.handlers });
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) resolve(port);
      else reject(error);
    });
  });
}

function callerTo(port: number): Caller {
  const caller = callers.get(port);
  if (caller === undefined) throw new Error(`no client is connected to port ${port}`);
  return caller;
}

async function run(port: number, load: Load): Promise<Answer> {
  const caller = callerTo(port);
  const before = process.cpuUsage();
  const startedMs = performance.now();
  const refused = await closedLoop(load, (done) => start(caller, load, done));
  const elapsedMs = performance.now() - startedMs;
  const { user, system } = process.cpuUsage(before);
  return { cpuUs: user + system, elapsedMs, refused };
}

/** Bytes in use in the young generation, where new objects are. */
function youngBytes(spaces: readonly { spaceName: string; spaceUsedSize: number }[]): number {
  return spaces.reduce(
    (sum, { spaceName, spaceUsedSize }) => sum + (spaceName.startsWith("new_") ? spaceUsedSize : 0),
    0,
  );
}

function youngBytesNow(): number {
  return youngBytes(
    getHeapSpaceStatistics().map(({ space_name, space_used_size }) => ({
      spaceName: space_name,
      spaceUsedSize: space_used_size,
    })),
  );
}

/**
 * Reads the counters of V8's heap before and after each collection (`GCProfiler`): no sampling, and no flags. What is in
 * the young generation before a collection and was not there after the last one has been allocated between them. What a
 * minor collection leaves there has survived its first collection; the next one moves it to the old generation. Memory
 * outside of V8's heap, such as that of buffers, is in neither.
 */
class HeapWatch {
  readonly #profiler = new GCProfiler();
  #lastBytes = youngBytesNow();
  #allocatedBytes = 0;
  #collectedBytes = 0;
  #survivingBytes = 0;
  #collections = 0;
  /** The first collection finds what was there before, and is not counted. */
  #first = true;

  constructor() {
    this.#profiler.start();
  }

  read(): Heap {
    const { statistics } = this.#profiler.stop();
    for (const { gcType, beforeGC, afterGC } of statistics) {
      const allocated = youngBytes(beforeGC.heapSpaceStatistics) - this.#lastBytes;
      this.#lastBytes = youngBytes(afterGC.heapSpaceStatistics);
      this.#allocatedBytes += allocated;
      if (gcType === "Scavenge" && !this.#first) {
        this.#collections += 1;
        this.#collectedBytes += allocated;
        this.#survivingBytes += this.#lastBytes;
      }
      this.#first = false;
    }
    this.#profiler.start();
    return {
      allocatedBytes: this.#allocatedBytes + youngBytesNow() - this.#lastBytes,
      survivingShare: this.#survivingBytes / this.#collectedBytes,
      collections: this.#collections,
    };
  }

  stop(): void {
    this.#profiler.stop();
  }
}

let heapWatch: HeapWatch | undefined;

async function obey(order: Order): Promise<Answer> {
  switch (order.do) {
    case "serve":
      return { port: await serve(order.as) };
    case "count": {
      const { user, system } = process.cpuUsage();
      return {
        cpuUs: user + system,
        calls: echo.calls,
        made: callsMade(),
        spans: await recordedSpans(),
      };
    }
    case "connect":
      callers.set(order.port, clients[order.as](`127.0.0.1:${order.port}`));
      return {};
    case "hold":
      callerTo(order.port).unary("hold", payload, () => {});
      // It is there before the next call of the same connection, which waits for an answer.
      return {};
    case "load":
      return run(order.port, order.load);
    case "pace": {
      const caller = callerTo(order.port);
      const load: Load = { kind: "unary", calls: order.calls, concurrent: 0, messages: 1 };
      const tookMs = await fixedRate(order.rate, order.calls, (done) => start(caller, load, done));
      return { tookMs };
    }
    case "watch-heap":
      heapWatch = new HeapWatch();
      return {};
    case "read-heap":
      return heapWatch === undefined
        ? { error: "the heap is not watched" }
        : { heap: heapWatch.read() };
    case "leave-heap":
      heapWatch?.stop();
      heapWatch = undefined;
      return {};
    default:
      return order satisfies never;
  }
}

obeyOrders(obey);
