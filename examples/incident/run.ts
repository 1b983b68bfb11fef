import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import type { Fleet, Member } from "./fleet.js";
import type { CallResult, SpanRecord } from "./messages.js";
import type { Progress } from "./progress.js";
import type { Phase, PlannedCall, Script } from "./script.js";

export interface RunResult {
  readonly calls: readonly CallResult[];
  readonly spans: readonly SpanRecord[];
}

/** The processes of one run, started and without work. */
export interface Cast {
  readonly inventory: Member;
  /** Loaded beforehand, so that the outage is as long as the script says on any machine. */
  readonly replacement: Member;
  readonly orders: Member;
  readonly edge: Member;
  readonly caller: Member;
}

export async function assemble(fleet: Fleet): Promise<Cast> {
  const [inventory, replacement, orders, edge, caller] = await Promise.all([
    fleet.start("inventory"),
    fleet.start("inventory"),
    fleet.start("orders"),
    fleet.start("edge"),
    fleet.start("caller"),
  ]);
  return { inventory, replacement, orders, edge, caller };
}

/** Plays the whole incident once. */
export async function play(
  cast: Cast,
  script: Script,
  plan: readonly PlannedCall[],
  progress: Progress,
): Promise<RunResult> {
  const { inventory, replacement, orders, edge, caller } = cast;
  const { phases, outageMs } = script;
  const spans: SpanRecord[] = [];
  const members = [inventory, replacement, orders, edge, caller];
  for (const member of members) {
    member.on((message) => {
      if (message.type === "spans") spans.push(...message.spans);
      else if (message.type === "tally") progress.counts(message);
    });
  }

  const inventoryPort = await listen(inventory, script, 0, "");
  const ordersPort = await listen(orders, script, 0, `127.0.0.1:${inventoryPort}`);
  const edgePort = await listen(edge, script, 0, `127.0.0.1:${ordersPort}`);
  caller.tell({ type: "prime", script, target: `127.0.0.1:${edgePort}`, calls: 120 });
  await caller.next("primed");

  const results = caller.next("results", 60_000);
  // Seen before it is awaited below, in case the director fails first.
  results.catch(() => {});
  caller.tell({ type: "begin", calls: plan });
  let current = inventory;
  let endMs = performance.now();
  for (const [index, phase] of phases.entries()) {
    progress.says(`${index + 1}/${phases.length} ${phase.happens}`);
    endMs += phase.ms;
    if (phase.restart) {
      await current.kill();
      await sleep(outageMs);
      current = replacement;
      become(current, phase);
      await listen(current, script, inventoryPort, "");
    } else become(current, phase);
    await sleep(Math.max(0, endMs - performance.now()));
  }
  progress.says("waiting for the last calls");
  const { calls } = await results;

  const alive = members.filter((member) => member !== inventory);
  await Promise.all(alive.map(stop));
  return { calls, spans };
}

async function listen(member: Member, script: Script, port: number, next: string): Promise<number> {
  const listening = member.next("listening");
  member.tell({ type: "listen", script, port, next });
  return (await listening).port;
}

function become(member: Member, { serviceMs, failing }: Phase): void {
  member.tell({ type: "conditions", serviceMs, failing });
}

async function stop(member: Member): Promise<void> {
  member.expectEnd();
  member.tell({ type: "stop" });
  await member.exited;
}
