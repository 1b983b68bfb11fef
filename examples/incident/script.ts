import type { Priority } from "grpc-weir";

/** How long every caller waits for its checkout. */
export const deadlineMs = 2_000;

/** Inventory reserves with so many hands at once; more work than that waits for one. */
export const inventorySlots = 5;

/** From the death of inventory until its replacement listens. */
export const outageMs = 1_000;

/** A part of the incident: what is sent, and how inventory is at that time. */
export interface Phase {
  readonly happens: string;
  readonly ms: number;
  readonly callsPerSecond: number;
  /** How long a reservation keeps a slot. */
  readonly serviceMs: number;
  /** Share of reservations that fail with UNAVAILABLE. */
  readonly failing: number;
  /** How often the network loses all connections to inventory; 0 for never. */
  readonly breaksEveryMs: number;
  /** Inventory is killed at the beginning, and started again. */
  readonly restart?: true;
}

/** When it is well, inventory can do 5 slots / 100 ms = 50 reservations a second. */
export const usual = { callsPerSecond: 24, serviceMs: 100, failing: 0, breaksEveryMs: 0 };

/** The incident. In each part inventory has another trouble, as services have them. */
export const phases: readonly Phase[] = [
  { ...usual, happens: "all is well", ms: 2_000 },
  { ...usual, happens: "inventory fails one call in four", ms: 3_000, failing: 0.25 },
  { ...usual, happens: "inventory is three times slower", ms: 4_000, serviceMs: 300 },
  { ...usual, happens: "the network breaks twice a second", ms: 3_000, breaksEveryMs: 500 },
  { ...usual, happens: "inventory is killed, back in a second", ms: 3_000, restart: true },
  { ...usual, happens: "twice the load that it can bear", ms: 6_000, callsPerSecond: 100 },
  { ...usual, happens: "all is well again", ms: 2_000 },
];

/** One checkout that will be sent. The same in all ways. */
export interface PlannedCall {
  readonly orderId: string;
  /** From the beginning of the incident. */
  readonly atMs: number;
  readonly priority: Priority;
  /** What happens at that time. */
  readonly phase: string;
}

/** A quarter critical, a quarter high, three eighths normal, an eighth low. */
const mix: readonly Priority[] = [
  ...Array<Priority>(2).fill("critical"),
  ...Array<Priority>(2).fill("high"),
  ...Array<Priority>(3).fill("normal"),
  "low",
];

/** The whole load: evenly spread with some unevenness, the mix kept in every eight calls. */
export function plan(seed: number): PlannedCall[] {
  const random = seededRandom(seed);
  const next = priorities(random);
  const calls: PlannedCall[] = [];
  let beginMs = 0;
  for (const { happens, ms, callsPerSecond } of phases) {
    const gapMs = 1_000 / callsPerSecond;
    for (let atMs = beginMs; atMs < beginMs + ms; atMs += gapMs) {
      const orderId = `order-${calls.length + 1}`;
      const priority = next();
      calls.push({ orderId, atMs: atMs + gapMs * random(), priority, phase: happens });
    }
    beginMs += ms;
  }
  return calls;
}

/** The priorities of one call after another, in the mix. */
export function priorities(random: () => number): () => Priority {
  let deck: Priority[] = [];
  return () => {
    if (deck.length === 0) deck = shuffled(mix, random);
    return deck.pop() ?? "normal";
  };
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const ordered = items.map((item) => ({ item, place: random() }));
  return ordered.sort((a, b) => a.place - b.place).map(({ item }) => item);
}

/** A number in [0, 1) that belongs to a text: chance that is the same in all ways. */
export function fate(text: string): number {
  let hash = 0x811c9dc5;
  for (const character of text) {
    hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193);
  }
  return seededRandom(hash)();
}

/** Mulberry32. Not that of `grpc-weir/testing`: the processes without the toolkit do not load it. */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
