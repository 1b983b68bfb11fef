// A crowd of callers in a process of its own. Several of them make the load, each over a connection of its own.

import { type Calls, CooperatingCalls } from "./overload-calls.js";
import type { Column } from "./overload-columns.js";
import { FrameCalls } from "./overload-frames.js";
import type { MethodName } from "./overload-handlers.js";
import { Caller, type LoadResult, type RecoveryResult } from "./overload-load.js";
import { obeyOrders } from "./peer.js";

export type GeneratorOrder =
  | { readonly do: "connect"; readonly port: number; readonly column?: Column }
  | { readonly do: "hold" }
  | {
      readonly do: "closed";
      readonly method: MethodName;
      readonly callers: number;
      readonly seconds: number;
    }
  | { readonly do: "open" | "recover"; readonly perSecond: number; readonly seconds: number };
export interface GeneratorAnswer {
  readonly perSecond?: number;
  readonly load?: LoadResult;
  readonly recovery?: RecoveryResult;
  readonly error?: string;
}

let caller: Caller | undefined;

function present(): Caller {
  if (caller === undefined) throw new Error("not connected");
  return caller;
}

async function connect(port: number, column: Column | undefined): Promise<void> {
  caller?.close();
  const calls: Calls = column === "client" ? new CooperatingCalls(port) : new FrameCalls(port);
  await calls.ready();
  caller = new Caller(calls);
}

async function obey(order: GeneratorOrder): Promise<GeneratorAnswer> {
  switch (order.do) {
    case "connect":
      await connect(order.port, order.column);
      return {};
    case "hold":
      await present().hold();
      return {};
    case "closed":
      return { perSecond: await present().closed(order.method, order.callers, order.seconds) };
    case "open":
      return { load: await present().open(order) };
    case "recover":
      return { recovery: await present().recovery(order) };
    default:
      return order satisfies never;
  }
}

obeyOrders(obey);
