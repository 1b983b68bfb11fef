import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import type { Fleet, Member } from "./fleet.js";
import type { CallResult, Conditions, SpanRecord, Tally } from "./messages.js";
import { outageMs, type PlannedCall, phases } from "./script.js";

export interface RunResult {
  readonly calls: readonly CallResult[];
  /** By how much one of the processes did not get to run, at most. */
  readonly lateMs: number;
  readonly spans: readonly SpanRecord[];
  /** The processes, which go on. */
  readonly shop: Member;
  readonly inventory: Member;
}

/** The processes of one run, started, connected and warm. */
export interface Cast {
  readonly inventory: Member;
  readonly inventoryPort: number;
  /** Loaded beforehand, so that the outage is as long as the script says on any machine. */
  readonly replacement: Member;
  readonly shop: Member;
}

export async function assemble(fleet: Fleet): Promise<Cast> {
  const [inventory, replacement, shop] = await Promise.all([
    fleet.start("inventory"),
    fleet.start("inventory"),
    fleet.start("shop"),
  ]);
  const inventoryPort = await listen(inventory, 0);
  shop.tell({ type: "open", inventory: `127.0.0.1:${inventoryPort}` });
  await shop.next("opened");
  // Opens all connections, and has the code compiled: nobody has an incident in the first second of a process.
  await prime(shop, 600);
  const [calm] = phases;
  if (calm !== undefined) become(inventory, calm);
  await prime(shop, 48);
  return { inventory, inventoryPort, replacement, shop };
}

/**
 * Plays the whole incident once.
 *
 * @param onTally Told several times a second what has become of the calls.
 */
export async function play(
  cast: Cast,
  plan: readonly PlannedCall[],
  onTally: (tally: Tally) => void,
): Promise<RunResult> {
  const { inventory, inventoryPort, replacement, shop } = cast;
  const spans: SpanRecord[] = [];
  let lateMs = 0;
  const members = [inventory, replacement, shop];
  for (const member of members) {
    member.on((message) => {
      if (message.type === "spans") spans.push(...message.spans);
      else if (message.type === "late") lateMs = Math.max(lateMs, message.ms);
      else if (message.type === "tally") onTally(message);
    });
  }

  const results = shop.next("results");
  // Seen before it is awaited below, in case the director fails first.
  results.catch(() => {});
  shop.tell({ type: "begin", calls: plan });
  let current = inventory;
  let endMs = performance.now();
  for (const phase of phases) {
    endMs += phase.ms;
    if (phase.restart) {
      const backMs = performance.now() + outageMs;
      await current.kill();
      await sleep(Math.max(0, backMs - performance.now()));
      current = replacement;
      await listen(current, inventoryPort);
    }
    become(current, phase);
    await sleep(Math.max(0, endMs - performance.now()));
  }
  const { calls } = await results;

  await Promise.all([shop, current].map(sendSpans));
  return { calls, lateMs, spans, shop, inventory: current };
}

async function sendSpans(member: Member): Promise<void> {
  const sent = member.next("sent");
  member.tell({ type: "send" });
  await sent;
}

async function listen(member: Member, port: number): Promise<number> {
  const listening = member.next("listening");
  member.tell({ type: "listen", port });
  return (await listening).port;
}

export function become(member: Member, { serviceMs, failing, breaksEveryMs }: Conditions): void {
  member.tell({ type: "conditions", serviceMs, failing, breaksEveryMs });
}

async function prime(shop: Member, calls: number): Promise<void> {
  const primed = shop.next("primed");
  shop.tell({ type: "prime", calls });
  await primed;
}

export async function stop(member: Member): Promise<void> {
  member.expectEnd();
  member.tell({ type: "stop" });
  await member.exited;
}
