import { Metadata } from "@grpc/grpc-js";
import type { Random } from "../core/clock.js";
import { type Priority, priorities } from "../core/priority.js";
import { priorityKey } from "../grpc/metadata.js";
import type { ClientRequest, RequestEnd } from "./client.js";
import type { LabProcess } from "./process.js";
import type { Tally } from "./tally.js";
import type { OutcomeKind } from "./timeline.js";
import type { World } from "./world.js";

/** The calls that users make. They do not wait for the answer to one call before they make the next. */
export interface LoadOptions {
  /** Calls in a second, on average, while the load is usual. */
  readonly perSecond: number;
  /** How long a caller waits for an answer, in milliseconds. */
  readonly deadlineMs: number;
  /** Methods, as `lab.Service/Method`, one of which is drawn for each call. @defaultValue `lab.Service/Work` */
  readonly methods?: readonly string[];
  /** The share of each priority, from 0 to 1. @defaultValue critical 0.1, high 0.2, normal 0.5, low 0.2 */
  readonly priorities?: Readonly<Record<Priority, number>>;
  /** Users who make their call again when it has failed. @defaultValue none */
  readonly reload?: ReloadOptions;
  /** Who the callers are, in the metadata `x-tenant`. @defaultValue nobody says so */
  readonly tenant?: string;
  /** The load in each phase, as multiples of the usual one. @defaultValue what the phases say */
  readonly loads?: readonly number[];
  /**
   * The calls are made by so many client processes of their own, without any policies. @defaultValue the clients of the
   * incident make them
   */
  readonly bareClients?: number;
}

export interface ReloadOptions {
  /** The share of users who do, from 0 to 1. */
  readonly share: number;
  /** How long after the failure, in milliseconds. */
  readonly afterMs: number;
  /** How often at most. */
  readonly times: number;
}

/** Where calls are made: a client, or something around it that makes several calls of one. */
export interface Caller {
  request(call: ClientRequest, ended: RequestEnd): unknown;
}

export interface UsersSetup {
  readonly world: World;
  readonly options: LoadOptions;
  /** How many processes share the load. */
  readonly clients: number;
  readonly process: LabProcess;
  readonly caller: Caller;
  readonly tally: Tally;
  readonly phases: readonly LoadPhase[];
}

/** A part of the time with a load of its own. */
export interface LoadPhase {
  readonly ms: number;
  /** The load as a multiple of the usual one. */
  readonly load: number;
}

/** How many of the calls have each priority. */
export const usualShares = { critical: 0.1, high: 0.2, normal: 0.5, low: 0.2 } as const;

/**
 * The users of one client process. When a call is due is drawn beforehand (a Poisson process), and does not depend on what
 * became of other calls. A busy client makes it later; its user waits from when it was due.
 */
export class Users {
  readonly #options: LoadOptions;
  readonly #process: LabProcess;
  readonly #caller: Caller;
  readonly #tally: Tally;
  readonly #random: Random;
  readonly #phases: readonly LoadPhase[];
  readonly #perMs: number;
  readonly #metadata: Readonly<Record<Priority, Metadata>>;
  readonly #outcomes: OutcomeKind[] = [];
  #made = 0;
  #phase = 0;
  #phaseEndsMs: number;
  #nextMs = 0;

  constructor({ world, options, clients, process, caller, tally, phases }: UsersSetup) {
    this.#options = options;
    this.#process = process;
    this.#caller = caller;
    this.#tally = tally;
    this.#random = world.newRandom();
    const { loads } = options;
    this.#phases = phases.map(({ ms, load }, index) => ({ ms, load: loads?.[index] ?? load }));
    this.#phaseEndsMs = phases[0]?.ms ?? 0;
    this.#perMs = options.perSecond / 1_000 / clients;
    const metadataOf = (priority: Priority) => {
      const metadata = new Metadata();
      metadata.set(priorityKey, priority);
      if (options.tenant !== undefined) metadata.set("x-tenant", options.tenant);
      return metadata;
    };
    this.#metadata = {
      critical: metadataOf("critical"),
      high: metadataOf("high"),
      normal: metadataOf("normal"),
      low: metadataOf("low"),
    };
  }

  start(): void {
    this.#planNext();
  }

  /**
   * What became of each call, in the order in which they were due, without those of users who made it again. For the same
   * seed, the same place is the same call, whatever its policies.
   */
  get outcomes(): readonly (OutcomeKind | undefined)[] {
    return this.#outcomes;
  }

  #planNext(): void {
    let atMs = this.#nextMs;
    for (;;) {
      const phase = this.#phases[this.#phase];
      if (phase === undefined) return;
      atMs += -Math.log(1 - this.#random()) / (this.#perMs * phase.load);
      if (atMs < this.#phaseEndsMs) break;
      // What is drawn for the next phase does not depend on the time before it.
      atMs = this.#phaseEndsMs;
      this.#phase += 1;
      this.#phaseEndsMs += this.#phases[this.#phase]?.ms ?? 0;
    }
    this.#nextMs = atMs;
    this.#process.deliver(atMs, () => {
      this.#planNext();
      const { reload } = this.#options;
      const reloads = reload !== undefined && this.#random() < reload.share ? reload.times : 0;
      const place = this.#made;
      this.#made += 1;
      this.#call(atMs, this.#drawPriority(), this.#drawMethod(), reloads, place);
    });
  }

  /** @param place Where what becomes of it is noted; `undefined` for one that is made again. */
  #call(
    dueMs: number,
    priority: Priority,
    method: string,
    reloads: number,
    place: number | undefined,
  ): void {
    const process = this.#process;
    this.#tally.sent(dueMs, priority);
    const deadline = process.wallNow() + this.#options.deadlineMs;
    const metadata = this.#metadata[priority];
    this.#caller.request({ method, metadata, deadline }, (status) => {
      const outcome = this.#tally.ended(dueMs, process.now() - dueMs, priority, status);
      if (place !== undefined) this.#outcomes[place] = outcome;
      const { reload } = this.#options;
      if (status.code === 0 || reloads === 0 || reload === undefined) return;
      process.schedule(reload.afterMs, () => {
        this.#call(process.now(), priority, method, reloads - 1, undefined);
      });
    });
  }

  #drawPriority(): Priority {
    const shares = this.#options.priorities ?? usualShares;
    let left = this.#random();
    for (const priority of priorities) {
      left -= shares[priority];
      if (left < 0) return priority;
    }
    return "normal";
  }

  #drawMethod(): string {
    const { methods = ["lab.Service/Work"] } = this.#options;
    return methods[Math.floor(this.#random() * methods.length)] ?? "lab.Service/Work";
  }
}
