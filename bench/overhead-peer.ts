// One side of the overhead bench, in a process of its own: its CPU time is its own, and its machine code is
// shaped by one variant only, as in a real service. The coordinator starts it and speaks to it over IPC.
import { Client, credentials, Server, ServerCredentials } from "@grpc/grpc-js";
import { createWeir } from "grpc-weir";
import { echoHandlers, echoService } from "./echo.js";
import { deadlineMs, type Load, runLoad } from "./overhead-load.js";
import { obeyOrders } from "./peer.js";

export type Variant = "bare" | "weir";
export type Order =
  | { readonly do: "listen" }
  | { readonly do: "cpu" }
  | { readonly do: "load"; readonly port: number; readonly load: Load };
export interface Answer {
  readonly port?: number;
  /** CPU time since the process began, or of the load, in microseconds. */
  readonly cpuUs?: number;
  readonly elapsedMs?: number;
  /** Calls of the load that a policy refused. */
  readonly refused?: number;
  readonly error?: string;
}

/** Far above what is under way: the policies are passed through, and never in the way. */
const large = 1_000_000;

const variant: Variant = process.argv[2] === "weir" ? "weir" : "bare";
const clients = new Map<string, Client>();

function cpuUs(since?: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return user + system;
}

function listen(): Promise<number> {
  const options = variant === "weir" ? createWeir().server({ admission: { limit: large } }) : {};
  const server = new Server(options);
  server.addService(echoService, echoHandlers);
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) resolve(port);
      else reject(error);
    });
  });
}

function clientFor(port: number, withDeadline: boolean): Client {
  const key = `${port} ${withDeadline}`;
  const present = clients.get(key);
  if (present !== undefined) return present;
  const policy = {
    bulkhead: { maxConcurrent: large },
    ...(withDeadline ? { deadline: { defaultMs: deadlineMs } } : {}),
  };
  const options = variant === "weir" ? createWeir().client(policy) : {};
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), options);
  clients.set(key, client);
  return client;
}

async function load(port: number, work: Load): Promise<Answer> {
  const withDeadline = work.kind === "deadline";
  const client = clientFor(port, withDeadline);
  // Without the toolkit the application sets the deadline; with it, the policy does.
  const options =
    withDeadline && variant === "bare" ? () => ({ deadline: Date.now() + deadlineMs }) : () => ({});
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  const refused = await runLoad(client, work, options);
  return { cpuUs: cpuUs(cpu), elapsedMs: performance.now() - startedMs, refused };
}

async function obey(order: Order): Promise<Answer> {
  switch (order.do) {
    case "listen":
      return { port: await listen() };
    case "cpu":
      return { cpuUs: cpuUs() };
    case "load":
      return load(order.port, order.load);
    default:
      return order satisfies never;
  }
}

obeyOrders(obey);
