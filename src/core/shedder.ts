import type { Priority } from "./priority.js";

/** What a shedder is told of a call. */
export interface ShedCall {
  readonly priority: Priority;
  /** Who is behind it, from 0 to 127: inside a priority the lower cohorts are shed first, the same ones everywhere. */
  readonly cohort: number;
}

/** How full a server is. */
export interface ServerLoad {
  /** (running + queued) / (limit + maxQueued), from 0 to 1, or a little above while critical calls use their headroom. */
  readonly load: number;
  readonly nowMs: number;
  /** The lowest priority that waits for a slot; `undefined` when nobody does. */
  readonly worstWaiting: Priority | undefined;
  /** The priority of the call has had less than the share of the turns that it is owed: its next call has one to come. */
  readonly owed: boolean;
}

/** Refuses calls before the queue, while there still is room for better ones. `critical` calls never reach it. */
export interface Shedder {
  /** Why the call is refused, for a person; `undefined` when it is not. Runs for each call. */
  judge(call: ShedCall, server: ServerLoad): string | undefined;
}
