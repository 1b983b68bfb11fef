import { Metadata } from "@grpc/grpc-js";
import type { Random } from "../core/clock.js";
import { type Priority, priorities } from "../core/priority.js";
import { priorityKey } from "../grpc/metadata.js";
import type { UnaryCall, UnaryEnd } from "./client.js";
import type { LabProcess } from "./process.js";
import type { Tally } from "./tally.js";
import type { World } from "./world.js";

/** The calls that users make. They do not wait for the answer to one call before they make the next. */
export interface LoadOptions {
  /** Calls in a second, on average, while the load is usual. */
  readonly perSecond: number;
  /** How long a caller waits for an answer, in milliseconds. */
  readonly deadlineMs: number;
  /** Methods, one of which is drawn for each call. @defaultValue `lab.Service/Work` */
  readonly methods?: readonly string[];
  /** The share of each priority, from 0 to 1. @defaultValue critical 0.1, high 0.2, normal 0.5, low 0.2 */
  readonly priorities?: Readonly<Record<Priority, number>>;
  /** Users who make their call again when it has failed. @defaultValue none */
  readonly reload?: ReloadOptions;
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
  unary(call: UnaryCall, ended: UnaryEnd): unknown;
}

/** A part of the time with a load of its own. */
export interface LoadPhase {
  readonly ms: number;
  /** The load as a multiple of the usual one. */
  readonly load: number;
}

const usualShares = { critical: 0.1, high: 0.2, normal: 0.5, low: 0.2 } as const;

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
  #phase = 0;
  #phaseEndsMs: number;
  #nextMs = 0;

  /** @param clients How many processes share the load. */
  constructor(
    world: World,
    options: LoadOptions,
    clients: number,
    process: LabProcess,
    caller: Caller,
    tally: Tally,
    phases: readonly LoadPhase[],
  ) {
    this.#options = options;
    this.#process = process;
    this.#caller = caller;
    this.#tally = tally;
    this.#random = world.newRandom();
    this.#phases = phases;
    this.#phaseEndsMs = phases[0]?.ms ?? 0;
    this.#perMs = options.perSecond / 1_000 / clients;
    const metadataOf = (priority: Priority) => {
      const metadata = new Metadata();
      metadata.set(priorityKey, priority);
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
      this.#call(atMs, this.#drawPriority(), this.#drawMethod(), reloads);
    });
  }

  #call(dueMs: number, priority: Priority, method: string, reloads: number): void {
    const process = this.#process;
    this.#tally.sent(dueMs, priority);
    const deadline = process.wallNow() + this.#options.deadlineMs;
    const metadata = this.#metadata[priority];
    this.#caller.unary({ method, metadata, deadline }, (status) => {
      this.#tally.ended(dueMs, process.now() - dueMs, priority, status);
      const { reload } = this.#options;
      if (status.code === 0 || reloads === 0 || reload === undefined) return;
      process.schedule(reload.afterMs, () => {
        this.#call(process.now(), priority, method, reloads - 1);
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
