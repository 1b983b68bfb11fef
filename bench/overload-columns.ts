import {
  ServerInterceptingCall,
  type ServerInterceptor,
  type ServerOptions,
  status,
} from "@grpc/grpc-js";
import { createWeir } from "grpc-weir";
import type { AdmissionOptions } from "grpc-weir/server";
import { type WorkName, works } from "./overload-handlers.js";

/** Who guards the server. With `client`, callers hold back too what the server would refuse. */
export const columns = {
  bare: "bare grpc-js",
  limit: "fixed limit",
  lag: "loop lag",
  weir: "grpc-weir",
  client: "grpc-weir, client too",
} as const;

export type Column = keyof typeof columns;

/** What stands before a server's handlers, with state of its own. */
export interface Guarding {
  readonly options: ServerOptions;
  close(): void;
}

export function guarding(column: Column, work: WorkName): Guarding {
  switch (column) {
    case "bare":
      return { options: {}, close: () => {} };
    case "limit":
      return { options: { interceptors: [plainLimit(works[work].knownLimit)] }, close: () => {} };
    case "lag":
      return loopLag();
    case "weir":
    case "client":
      return weirGuarding({});
  }
}

/** The same, refusing all calls but the one that holds the only slot. What then is measured is the refusal. */
export function refusing(column: "limit" | "weir"): Guarding {
  if (column === "weir") return weirGuarding({ limit: 1, maxQueued: 0 });
  return { options: { interceptors: [plainLimit(1)] }, close: () => {} };
}

function weirGuarding(admission: AdmissionOptions): Guarding {
  const weir = createWeir();
  return { options: weir.server({ admission }), close: () => weir.close() };
}

const refusal = { code: status.RESOURCE_EXHAUSTED, details: "too many calls" };

/** What one writes in ten lines: so many calls at once, and no more. */
function plainLimit(limit: number): ServerInterceptor {
  let running = 0;
  return (_method, call) => {
    let runs = false;
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, pass) => {
            runs = running < limit;
            if (!runs) return call.sendStatus(refusal);
            running += 1;
            pass(metadata);
          },
          onCancel: () => {
            if (runs) running -= 1;
            runs = false;
          },
        }),
    });
  };
}

/**
 * Refuses while the event loop is late, as toobusy-js does, with its numbers: the lateness of a timer of 500 ms, of
 * which each sample counts for a third; from 70 ms on a growing share is refused, and from 140 ms on everything.
 */
function loopLag(): Guarding {
  const everyMs = 500;
  const highMs = 70;
  let lagMs = 0;
  let lastMs = performance.now();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    lagMs += (Math.max(0, nowMs - lastMs - everyMs) - lagMs) / 3;
    lastMs = nowMs;
  }, everyMs);
  const refuse: ServerInterceptor = (_method, call) =>
    new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, pass) => {
            if (Math.random() < (lagMs - highMs) / highMs) call.sendStatus(refusal);
            else pass(metadata);
          },
        }),
    });
  return { options: { interceptors: [refuse] }, close: () => clearInterval(timer) };
}
