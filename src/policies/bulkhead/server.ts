import type { ServerInterceptor } from "@grpc/grpc-js";
import type { Clock } from "../../core/clock.js";
import type { ControlledPolicy, Mode } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import { boundedKey, Keyed } from "../../core/keyed.js";
import {
  InvalidOptionError,
  optionalFunction,
  readOptions,
  wholeNumber,
} from "../../core/options.js";
import {
  type GateAnswer,
  isQueued,
  isRefusal,
  type OnGranted,
  type Permit,
  permit,
  type Refusal,
  type WaitResult,
} from "../../core/permit.js";
import { priorityRank } from "../../core/priority.js";
import { Prospects, RetryAfterEstimate } from "../../core/queue/retry-after.js";
import type { ReportError } from "../../core/user-code.js";
import type { InboundCall } from "../../grpc/context/inbound-call.js";
import type { Environment, EnvironmentOptions } from "../../grpc/environment.js";
import {
  isExempt,
  type ServerPolicyOptions,
  serverGate,
  splitServerOptions,
} from "../../grpc/server/policy.js";
import { type QuotaCall, type QuotaOptions, quotaCall, quotaKey } from "../rate-limit/server.js";
import {
  Bulkhead,
  type BulkheadHooks,
  type BulkheadOptions,
  type BulkheadSnapshot,
  partitionOf,
  type ResolvedBulkheadOptions,
  resolveBulkheadOptions,
  weightOf,
} from "./bulkhead.js";
import {
  type PartitionOptions,
  type PartitionShares,
  resolvePartitions,
  unpartitioned,
} from "./partition-options.js";

/** Parts of a server that its calls share, so that one kind of calls, or one tenant, cannot take all of it. */
export interface ServerBulkheadOptions extends BulkheadOptions, BulkheadHooks<QuotaCall> {
  /**
   * What one bulkhead is for: all calls of the server, those of a service, of a method, of the address they come from,
   * or what a function says, such as the tenant. @defaultValue `server`
   */
  readonly key?: QuotaOptions["key"];
  /** How many keys have a bulkhead, from 1 to 1,000,000. Of more, the one used longest ago starts anew. @defaultValue 1,000 */
  readonly maxKeys?: number;
  /**
   * Parts of a bulkhead by name, with the shares that each can count on and borrow; `partition` says which a call
   * belongs to. @defaultValue no parts
   */
  readonly partitions?: Readonly<Record<string, PartitionOptions>>;
}

/** Checked and complete. */
interface Resolved {
  readonly limits: ResolvedBulkheadOptions;
  readonly shares: PartitionShares;
  readonly maxKeys: number;
  readonly keyOf: (call: QuotaCall) => string;
  readonly hooks: BulkheadHooks<QuotaCall>;
}

/** The part of one key, and when another try is worth it in it. */
interface Part {
  readonly bulkhead: Bulkhead;
  readonly prospects: Prospects;
}

/**
 * Bulkheads of a server by key, before admission. Refusals are RESOURCE_EXHAUSTED (`BULKHEAD_FULL`, `QUEUE_TIMEOUT`)
 * with pushback, or DEADLINE_EXCEEDED (`DEADLINE_EXPIRED`). Exempt: health, reflection, channelz, ORCA.
 */
export class ServerBulkheadPolicy implements ControlledPolicy, Gate<InboundCall> {
  readonly policy = "bulkhead";
  readonly takesSlot = true;
  mode: Mode;
  readonly #options: Resolved;
  readonly #parts: Keyed<Part>;
  readonly #clock: Clock;
  readonly #report: ReportError;
  readonly #retryAfterEstimate: RetryAfterEstimate;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(
    options: ServerBulkheadOptions,
    { clock, random, report }: Environment,
    prefix: string,
    mode: Mode = "enforce",
  ) {
    const resolved = resolve(options, prefix, report);
    const { limits, shares, maxKeys } = resolved;
    this.mode = mode;
    this.#options = resolved;
    this.#clock = clock;
    this.#report = report;
    this.#retryAfterEstimate = new RetryAfterEstimate(random, limits.maxWaitMs);
    const make = () => ({
      bulkhead: new Bulkhead(limits, clock, report, shares),
      prospects: new Prospects(this.#retryAfterEstimate, clock),
    });
    this.#parts = new Keyed(make, maxKeys, ({ bulkhead }) => bulkhead.inUse);
  }

  modeFor({ method }: InboundCall): Mode {
    return isExempt(method) ? "off" : this.mode;
  }

  enter(inbound: InboundCall, onGranted: OnGranted): GateAnswer {
    const { keyOf, hooks } = this.#options;
    const call = quotaCall(inbound);
    const part = this.#parts.get(boundedKey(keyOf(call)));
    const entry = part.bulkhead.enter(
      priorityRank[inbound.priority],
      inbound.deadlineMs,
      (turn, waitedMs) => onGranted(this.#timed(turn, part, inbound), waitedMs),
      weightOf(hooks.weight, call, this.#report, "bulkhead.weight"),
      partitionOf(hooks.partition, call, this.#report, "bulkhead.partition"),
    );
    return isQueued(entry) ? entry : this.#timed(entry, part, inbound);
  }

  /** Refuses those who wait and those who come, with `DRAINING`. */
  drain(): void {
    for (const [, { bulkhead }] of this.#parts.entries()) bulkhead.close("DRAINING");
  }

  snapshot(): Readonly<Record<string, BulkheadSnapshot>> {
    const entries = [...this.#parts.entries()];
    return Object.fromEntries(entries.map(([key, { bulkhead }]) => [key, bulkhead.snapshot()]));
  }

  /** A server's refusal says when another try is worth it, which is learnt from how long calls hold their permits. */
  #timed(
    turn: WaitResult,
    { bulkhead, prospects }: Part,
    { method, priority }: InboundCall,
  ): Permit | Refusal {
    if (!isRefusal(turn)) {
      const sinceMs = this.#clock.now();
      prospects.began(sinceMs);
      return permit((outcome, ending) => {
        const free = () => {
          prospects.ended(sinceMs);
          turn.settle(outcome);
        };
        if (ending?.worksOn === undefined) {
          this.#retryAfterEstimate.record(this.#clock.now() - sinceMs, method);
          free();
        } else {
          // What a handler works on for nobody takes its part of the server all the same.
          const { worksOn } = ending;
          this.#retryAfterEstimate.freeWhenOver(
            { worksOn, kind: method },
            sinceMs,
            this.#clock,
            free,
          );
        }
      });
    }
    if (turn.reason !== "BULKHEAD_FULL" && turn.reason !== "QUEUE_TIMEOUT") return turn;
    const { queued, maxConcurrent: atOnce } = bulkhead;
    const rank = priorityRank[priority];
    return { ...turn, retryAfterMs: prospects.retryAfterMs({ queued, atOnce, rank }) };
  }
}

const ownNames = ["key", "maxKeys", "partitions", "partition", "weight"];

function resolve(given: ServerBulkheadOptions, prefix: string, report: ReportError): Resolved {
  const options = readOptions(prefix, given);
  const { key, maxKeys = 1_000, partitions, partition, weight, ...numbers } = options;
  const limits = resolveBulkheadOptions(numbers, prefix, ownNames);
  optionalFunction(`${prefix}.weight`, weight);
  optionalFunction(`${prefix}.partition`, partition);
  if ((partitions === undefined) !== (partition === undefined)) {
    const missing = partitions === undefined ? "partitions" : "partition";
    const other = partitions === undefined ? "partition" : "partitions";
    throw new InvalidOptionError(`${prefix}.${missing}`, `given with ${other}`, undefined);
  }
  return {
    limits,
    shares:
      partitions === undefined
        ? unpartitioned
        : resolvePartitions(partitions, limits.maxConcurrent, `${prefix}.partitions`),
    maxKeys: wholeNumber(`${prefix}.maxKeys`, maxKeys, 1, 1_000_000),
    keyOf: quotaKey(key, report, `${prefix}.key`),
    hooks: {
      ...(weight === undefined ? {} : { weight }),
      ...(partition === undefined ? {} : { partition }),
    },
  };
}

/**
 * Bulkheads of a server as an interceptor of its own.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function bulkhead(
  options: ServerBulkheadOptions & ServerPolicyOptions & EnvironmentOptions = {},
): ServerInterceptor {
  const { mode, environment, priority, rest } = splitServerOptions(options, "bulkhead");
  const policy = new ServerBulkheadPolicy(rest, environment, "bulkhead", mode);
  return serverGate(environment, priority, [policy]);
}
