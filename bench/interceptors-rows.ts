import type { ClientOptions, ServerInterceptor } from "@grpc/grpc-js";
import { createWeir } from "grpc-weir";
import { breaker, bulkhead, context, deadline, retry } from "grpc-weir/client";
import { admission, deadlineGuard, context as serverContext } from "grpc-weir/server";

/** What stands in the way of the calls of one row: something on the client, or on the server. */
export interface Row {
  readonly name: string;
  readonly client?: ClientOptions;
  readonly server?: readonly ServerInterceptor[];
}

/** Far above what is under way: a policy is passed through, and never in the way. */
const large = 1_000_000;

export const bare: Row = { name: "bare grpc-js" };

/** An interceptor that stands alone makes the call record itself; its row includes that. */
export const rows: readonly Row[] = [
  bare,
  { name: "client context", client: { interceptors: [context()] } },
  { name: "client deadline, none set", client: { interceptors: [deadline()] } },
  { name: "client deadline, 10 s", client: { interceptors: [deadline({ defaultMs: 10_000 })] } },
  { name: "client retry", client: { interceptors: [retry()] } },
  { name: "client breaker", client: { interceptors: [breaker()] } },
  { name: "client bulkhead", client: { interceptors: [bulkhead({ maxConcurrent: large })] } },
  { name: "client pipeline", client: createWeir().client({ bulkhead: { maxConcurrent: large } }) },
  { name: "server context", server: [serverContext()] },
  { name: "server deadlineGuard", server: [deadlineGuard()] },
  { name: "server admission", server: [admission({ limit: large })] },
  {
    name: "server pipeline",
    server: createWeir().server({ admission: { limit: large } }).interceptors ?? [],
  },
];
