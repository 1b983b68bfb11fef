import { seededRandom } from "../testing/clock/seeded-random.js";

/**
 * The servers that one of many clients connects to: deterministic subsetting, as in the book on site reliability
 * engineering by Google. As many clients as there are subsets share all servers among them, in an order of their own, so
 * that all servers have about the same number of clients.
 *
 * @param client The number of the client, from 0.
 * @param size How many servers each client connects to. At least one, and at most all.
 * @returns The numbers of the servers, in the order in which the client has them.
 */
export function subsetOf(client: number, servers: number, size: number): readonly number[] {
  // Each client has them in another order, as from DNS.
  if (size >= servers) return Array.from({ length: servers }, (_, at) => (at + client) % servers);
  const subsets = Math.floor(servers / size);
  const round = Math.floor(client / subsets);
  const order = shuffled(servers, round + 1);
  const from = (client % subsets) * size;
  return order.slice(from, from + size);
}

function shuffled(count: number, seed: number): number[] {
  const random = seededRandom(seed);
  const order = Array.from({ length: count }, (_, index) => index);
  for (let last = count - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    const moved = order[last] ?? 0;
    order[last] = order[other] ?? 0;
    order[other] = moved;
  }
  return order;
}
