import { bareCosts } from "./costs.js";
import type { LoadOptions } from "./load.js";
import type { NetworkOptions } from "./network.js";

/** What the handlers of an incident do. */
export type Work =
  /** They compute. */
  | { readonly kind: "cpu"; readonly ms: number }
  /** They compute a little, and wait for a dependency of their server's that serves `size` calls at a time. */
  | { readonly kind: "pool"; readonly size: number; readonly ms: number }
  /** They compute a little, and wait for something that serves any number of calls. */
  | { readonly kind: "wait"; readonly ms: number };

/** What handlers that wait compute, in milliseconds. */
export const computeMs = 0.1;

export interface IncidentPhase {
  /** `before` and `after` are normal times. */
  readonly name: "before" | "during" | "after";
  readonly ms: number;
  /** The load as a multiple of the usual one. @defaultValue 1 */
  readonly load?: number;
}

/** Something that happens to clients and servers, as data. */
export interface Incident {
  /** In lower case, with hyphens. */
  readonly name: string;
  /** What happens, in a sentence. */
  readonly what: string;
  /** What a person would want to happen. */
  readonly wanted: string;
  /** @defaultValue 1 */
  readonly servers?: number;
  /** @defaultValue 2 */
  readonly clients?: number;
  /** How many of the servers each client connects to. @defaultValue all */
  readonly subsetSize?: number;
  readonly work: Work;
  readonly load: LoadOptions;
  readonly phases: readonly IncidentPhase[];
  /** @defaultValue `round_robin` */
  readonly balancing?: "pick_first" | "round_robin";
  readonly network?: NetworkOptions;
  /** The right number for a fixed limit of running calls in each server. */
  readonly fixedLimit: number;
  /**
   * More is asked for than can be done: what is refused is a choice, and the fixed limit with the right number is a peer to
   * be measured by. @defaultValue false
   */
  readonly overload?: boolean;
  /** What happens besides the load, in any order. @defaultValue nothing */
  readonly events?: readonly IncidentEvent[];
}

/** Something that happens to a server at a time. */
export type IncidentEvent = {
  /** In milliseconds since the beginning of the first phase. */
  readonly atMs: number;
  /** Which server, from 0. @defaultValue every one */
  readonly server?: number;
} & (
  | {
      /**
       * - `kill`: the process dies.
       * - `start`: a new process takes its address.
       * - `cut`: its connections break.
       */
      readonly event: "kill" | "start" | "cut";
    }
  /** The process stops for so long, as for a garbage collection. */
  | { readonly event: "block"; readonly ms: number }
  /** The process gets this share of its CPU, above 0, up to 1. */
  | { readonly event: "squeeze"; readonly cpuShare: number }
  /** Its work takes so many times as long. */
  | { readonly event: "slow"; readonly factor: number }
  /** This share of the calls, from 0 to 1, fails with UNAVAILABLE when it would be answered. */
  | { readonly event: "fail"; readonly share: number }
);

/** How many calls a second so many servers can serve at most, without the toolkit. */
export function capacity(work: Work, servers = 1): number {
  const { accept, answer } = bareCosts.server;
  if (work.kind === "cpu") return (servers * 1_000) / (work.ms + accept + answer);
  const byCpu = 1_000 / (computeMs + accept + answer);
  if (work.kind === "wait") return servers * byCpu;
  return servers * Math.min(byCpu, (work.size * 1_000) / work.ms);
}
