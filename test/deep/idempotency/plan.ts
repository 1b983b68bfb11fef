import type { Random } from "../../../src/core/clock.js";

export const methods = ["Place", "PlaceHedged"] as const;

/** A call that a client has to bring to an answer, however often it has to send it. */
export interface PlannedCall {
  readonly method: (typeof methods)[number];
  readonly caller: string;
  readonly key: string;
  readonly request: string;
}

/** How many calls of each kind stand in a plan. */
export interface PlanCounts {
  /** Orders with a key of their own. */
  orders: number;
  /** The same call from two clients of the same caller. */
  duplicates: number;
  /** Another caller with the same key. */
  otherCallers: number;
  /** Another request with the same key, by the same caller. */
  otherRequests: number;
  /** Another method with the same key, by the same caller. */
  otherMethods: number;
}

const callers = ["anna", "ben", "cleo"];
const goods = ["boots", "umbrella", "coat", "hat"];

/**
 * What each client has to send, in this order. Calls that belong together stand at about the same place, so that they
 * meet. The same chance gives the same plan.
 */
export function plan(
  random: Random,
  orders: number,
  clients: number,
): { readonly calls: readonly PlannedCall[][]; readonly counts: PlanCounts } {
  const calls: PlannedCall[][] = Array.from({ length: clients }, () => []);
  const counts = { orders: 0, duplicates: 0, otherCallers: 0, otherRequests: 0, otherMethods: 0 };
  const oneOf = <T>(all: readonly T[], but?: T): T => {
    const left = all.filter((each) => each !== but);
    const found = left[Math.floor(random() * left.length)];
    if (found === undefined) throw new Error("nothing is left to choose from");
    return found;
  };
  for (let n = 0; n < orders; n += 1) {
    const order: PlannedCall = {
      method: oneOf(methods),
      caller: oneOf(callers),
      key: `order-${n}`,
      request: oneOf(goods),
    };
    const client = Math.floor(random() * clients);
    const send = (by: number, call: PlannedCall) => calls[by % clients]?.push(call);
    send(client, order);
    counts.orders += 1;
    const kind = random();
    if (kind < 0.15) {
      send(client + 1, order);
      counts.duplicates += 1;
    } else if (kind < 0.18) {
      send(client, order);
      counts.duplicates += 1;
    } else if (kind < 0.22) {
      send(client + 1, { ...order, caller: oneOf(callers, order.caller) });
      counts.otherCallers += 1;
    } else if (kind < 0.26) {
      send(client + 1, { ...order, request: oneOf(goods, order.request) });
      counts.otherRequests += 1;
    } else if (kind < 0.28) {
      send(client + 1, { ...order, method: oneOf(methods, order.method) });
      counts.otherMethods += 1;
    }
  }
  return { calls, counts };
}
