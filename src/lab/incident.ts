import { bareCosts } from "./costs.js";
import type { LoadOptions } from "./load.js";
import type { NetworkOptions } from "./network.js";
import type { ColdCalls, CpuQuota } from "./process.js";

/** What the handlers of an incident do. */
export type Work =
  /** They compute. */
  | { readonly kind: "cpu"; readonly ms: number }
  /** They compute a little, and wait for a dependency of their server's that serves `size` calls at a time. */
  | {
      readonly kind: "pool";
      readonly size: number;
      readonly ms: number;
      /** A handler whose caller has left stops and gives its place in the pool to the next one. @defaultValue false: it goes on */
      readonly stopsWhenCancelled?: boolean;
    }
  /** They compute a little, and wait for something that serves any number of calls. */
  | { readonly kind: "wait"; readonly ms: number }
  /** They answer with a stream of so many messages, one each `everyMs` milliseconds. */
  | { readonly kind: "stream"; readonly messages: number; readonly everyMs: number };

/** What handlers that wait compute, in milliseconds. */
export const computeMs = 0.1;

export interface IncidentPhase {
  /** `before` and `after` are normal times. */
  readonly name: "before" | "during" | "after";
  readonly ms: number;
  /** The load as a multiple of the usual one. @defaultValue 1 */
  readonly load?: number;
}

/** Servers that those before them call. */
export interface Tier {
  /** @defaultValue 1 */
  readonly servers?: number;
  readonly work: Work;
  /** The right number for a fixed limit of running calls in each server. */
  readonly fixedLimit: number;
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
  /** Methods whose handlers do something else, by name, as `lab.Service/Method`. @defaultValue none */
  readonly works?: Readonly<Record<string, Work>>;
  /**
   * The tiers behind the servers. A handler does its own work, calls the next tier with the deadline of `load`, and ends
   * as that call ends. @defaultValue none
   */
  readonly behind?: readonly Tier[];
  readonly load: LoadOptions;
  /** Users of another kind beside those of `load`. @defaultValue none */
  readonly others?: readonly LoadOptions[];
  readonly phases: readonly IncidentPhase[];
  /** @defaultValue `round_robin` */
  readonly balancing?: "pick_first" | "round_robin";
  readonly network?: NetworkOptions;
  /** The right number for a fixed limit of running calls in each server. */
  readonly fixedLimit: number;
  /** So many of the servers, the first ones, have no policies, whoever is compared. @defaultValue 0 */
  readonly bareServers?: number;
  /** How long clients take to resolve the name of the target, in milliseconds. @defaultValue 0 */
  readonly resolveMs?: number;
  /** The greatest age of a connection, in milliseconds; what runs on it then may end. @defaultValue for ever */
  readonly maxConnectionAgeMs?: number;
  /**
   * The code of a process of a server is not compiled when it starts. In its first `ms` milliseconds, everything costs it
   * `factor` times as much CPU; or its first call costs `extraMs` milliseconds more, and each one less, down to nothing after
   * `calls`. @defaultValue it is compiled
   */
  readonly coldStart?: { readonly ms: number; readonly factor: number } | ColdCalls;
  /**
   * More is asked for than can be done: what is refused is a choice, and the fixed limit with the right number is a peer to
   * be measured by. @defaultValue false
   */
  readonly overload?: boolean;
  /** Under overload, whether there is room for all critical calls. @defaultValue true */
  readonly criticalFits?: boolean;
  /** The overload is brought by `others`, and those of `load` should lose next to nothing. @defaultValue false */
  readonly fair?: boolean;
  /** What happens besides the load, in any order. @defaultValue nothing */
  readonly events?: readonly IncidentEvent[];
}

/** Something that happens at a time: to servers, or to the processes of clients. */
export type IncidentEvent = {
  /** In milliseconds since the beginning of the first phase. */
  readonly atMs: number;
} & (ServerEvent | ClientEvent);

export type ServerEvent = {
  /** Which server of its tier, from 0. @defaultValue every one */
  readonly server?: number;
  /** 0 for those that clients call, and 1 for the first tier behind them. @defaultValue 0 */
  readonly tier?: number;
} & (
  | {
      /**
       * - `kill`: the process dies.
       * - `start`: a new process takes its address.
       * - `drain`: it takes no more calls, ends those that it has, and exits.
       * - `cut`: its connections break.
       * - `vanish`: nothing gets to it and back any more, and nobody is told.
       * - `appear`: the way to it is free again.
       * - `hang`: what its handlers wait for does not answer any more.
       * - `resume`: it answers again, also what was asked meanwhile.
       */
      readonly event: "kill" | "start" | "drain" | "cut" | "vanish" | "appear" | "hang" | "resume";
    }
  /** The process stops for so long, as for a garbage collection. */
  | { readonly event: "block"; readonly ms: number }
  /** The process gets this share of its CPU, above 0, up to 1. */
  | { readonly event: "squeeze"; readonly cpuShare: number }
  /** The process gets so much CPU in each period, and stops when it is used up; `null` for as much as there is. */
  | { readonly event: "quota"; readonly quota: CpuQuota | null }
  /** Its work, or that for one method, takes so many times as long. */
  | { readonly event: "slow"; readonly factor: number; readonly method?: string }
  /** This share of its calls, or of those of one method, from 0 to 1, fails with UNAVAILABLE when it would be answered. */
  | { readonly event: "fail"; readonly share: number; readonly method?: string }
  /** Its wall clock is set so much ahead, or back where it is negative. */
  | { readonly event: "step-server-clock"; readonly ms: number }
  /** Messages to it and back take so much longer. */
  | { readonly event: "delay"; readonly ms: number }
);

export type ClientEvent = {
  /** Which client, from 0: those of `load`, and then those of `others`. @defaultValue every one */
  readonly client?: number;
} & (
  | {
      /**
       * - `tokens-fail`: call credentials cannot get a token.
       * - `tokens-work`: they can again.
       */
      readonly event: "tokens-fail" | "tokens-work";
    }
  /** Its wall clock is set so much ahead, or back where it is negative. */
  | { readonly event: "step-clock"; readonly ms: number }
);

/** How many calls a second so many servers can serve at most, without the toolkit. */
export function capacity(work: Work, servers = 1): number {
  const { accept, answer } = bareCosts.server;
  if (work.kind === "cpu") return (servers * 1_000) / (work.ms + accept + answer);
  const byCpu = 1_000 / (computeMs + accept + answer);
  if (work.kind === "wait" || work.kind === "stream") return servers * byCpu;
  return servers * Math.min(byCpu, (work.size * 1_000) / work.ms);
}
