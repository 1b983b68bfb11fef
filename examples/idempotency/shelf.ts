import type { Redis } from "ioredis";

// #region shelf
/**
 * The resource: a shelf, and who has taken what from it. For the key of an order it refuses a fencing token that is lower
 * than the last one, and it gives out the goods of an order once. In one step, as a database would in one transaction.
 */
const take = `
  local fence = tonumber(redis.call('HGET', KEYS[2], 'fence') or '0')
  if tonumber(ARGV[1]) < fence then return -1 end
  redis.call('HSET', KEYS[2], 'fence', ARGV[1])
  local left = redis.call('HGET', KEYS[2], 'left')
  if not left then
    left = redis.call('DECRBY', KEYS[1], ARGV[2])
    redis.call('HSET', KEYS[2], 'left', left)
  end
  return tonumber(left)
`;

/** @returns how many were left when the order was served; `undefined` when a later holder of its key was here. */
export async function takeFromShelf(
  redis: Redis,
  sku: string,
  order: string,
  quantity: number,
  fencingToken: number,
): Promise<number | undefined> {
  const left = await redis.eval(take, 2, `shelf:${sku}`, `taken:${order}`, fencingToken, quantity);
  return Number(left) < 0 ? undefined : Number(left);
}
// #endregion
