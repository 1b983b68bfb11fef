import type { Priority } from "grpc-weir";
import { seededRandom } from "grpc-weir/testing";

/** Inventory reserves with so many hands at once; more work than that waits for one. */
export const inventorySlots = 5;

/** A part of the incident: what is sent, and how inventory is at that time. */
export interface Phase {
  readonly name: string;
  /** For a person who watches. */
  readonly happens: string;
  readonly ms: number;
  readonly callsPerSecond: number;
  /** How long a reservation keeps a slot. */
  readonly serviceMs: number;
  /** Share of reservations that fail with UNAVAILABLE. */
  readonly failing: number;
  /** Inventory is killed at the beginning, and started again. */
  readonly restart?: true;
}

/** The whole incident, at one speed. */
export interface Script {
  /** 1 at full speed. At 2 everything takes twice as long, and half as many calls come in a second. */
  readonly stretch: number;
  /** How long every caller waits for its checkout. */
  readonly deadlineMs: number;
  /** From the death of inventory until its replacement listens. */
  readonly outageMs: number;
  readonly phases: readonly Phase[];
}

const usual = { callsPerSecond: 16, serviceMs: 160, failing: 0 };

/** When it is well, inventory can do 5 slots / 160 ms = 31 reservations a second. */
const atFullSpeed: readonly Phase[] = [
  { ...usual, name: "warm-up", happens: "all is well", ms: 800 },
  {
    ...usual,
    name: "slow",
    happens: "inventory has become two and a half times slower",
    ms: 2_000,
    serviceMs: 2.5 * usual.serviceMs,
  },
  {
    ...usual,
    name: "failing",
    happens: "inventory fails 25 % of its calls",
    ms: 1_500,
    failing: 0.25,
  },
  {
    ...usual,
    name: "restart",
    happens: "inventory is killed and started again",
    ms: 1_500,
    restart: true,
  },
  {
    ...usual,
    name: "spike",
    happens: "twice the calls that inventory can serve, and 5 % of them fail",
    ms: 4_000,
    callsPerSecond: 62,
    failing: 0.05,
  },
];

/** The incident, stretched in time for a machine that has other things to do as well. */
export function scriptAt(stretch: number): Script {
  return {
    stretch,
    deadlineMs: Math.round(750 * stretch),
    outageMs: Math.round(200 * stretch),
    phases: atFullSpeed.map((phase) => ({
      ...phase,
      ms: phase.ms * stretch,
      callsPerSecond: phase.callsPerSecond / stretch,
      serviceMs: phase.serviceMs * stretch,
    })),
  };
}

/** One checkout that will be sent. The same in both runs. */
export interface PlannedCall {
  readonly orderId: string;
  /** From the beginning of the incident. */
  readonly atMs: number;
  readonly priority: Priority;
  /** Name of the phase. */
  readonly phase: string;
}

/** 5 % critical, 20 % high, 45 % normal, 30 % low. */
const mix: readonly Priority[] = [
  "critical",
  ...Array<Priority>(4).fill("high"),
  ...Array<Priority>(9).fill("normal"),
  ...Array<Priority>(6).fill("low"),
];

/** The whole load: evenly spread with some unevenness, the mix kept in every twenty calls. */
export function plan(phases: readonly Phase[], seed: number): PlannedCall[] {
  const random = seededRandom(seed);
  const calls: PlannedCall[] = [];
  let deck: Priority[] = [];
  let beginMs = 0;
  for (const { name, ms, callsPerSecond } of phases) {
    const gapMs = 1_000 / callsPerSecond;
    for (let atMs = beginMs; atMs < beginMs + ms; atMs += gapMs) {
      if (deck.length === 0) deck = shuffled(mix, random);
      const orderId = `order-${calls.length + 1}`;
      const priority = deck.pop() ?? "normal";
      calls.push({ orderId, atMs: atMs + gapMs * random(), priority, phase: name });
    }
    beginMs += ms;
  }
  return calls;
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const ordered = items.map((item) => ({ item, place: random() }));
  return ordered.sort((a, b) => a.place - b.place).map(({ item }) => item);
}

/** A number in [0, 1) that belongs to a text: chance that is the same in both runs. */
export function fate(text: string): number {
  let hash = 0x811c9dc5;
  for (const character of text) {
    hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193);
  }
  return seededRandom(hash)();
}
