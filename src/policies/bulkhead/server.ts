import type { ServerInterceptor } from "@grpc/grpc-js";
import type { Clock } from "../../core/clock.js";
import type { ControlledPolicy, Mode } from "../../core/control.js";
import type { Gauges } from "../../core/gauges.js";
import { boundedKey, Keyed } from "../../core/keyed.js";
import { readOptions, wholeNumber } from "../../core/options.js";
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
import { type ServerGate, serverPipeline } from "../../grpc/server/pipeline-call.js";
import {
  callSeen,
  isExempt,
  type QuotaCall,
  type ServerCallKey,
  type ServerPolicyOptions,
  serverKeyOf,
  splitServerOptions,
} from "../../grpc/server/policy.js";
import {
  Bulkhead,
  type BulkheadOptions,
  type BulkheadsSnapshot,
  partitionOf,
  type ResolvedBulkheadOptions,
  type ResolvedSharing,
  resolveBulkheadOptions,
  resolveSharing,
  type SharingOptions,
  weightOf,
} from "./bulkhead.js";

/**
 * Bounds how many calls of one kind, or of one tenant, a server runs at once, so that none takes all of it.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/bulkhead.md#on-a-server
 */
export interface ServerBulkheadOptions extends BulkheadOptions, SharingOptions<QuotaCall> {
  /**
   * Which calls share a bulkhead: all of the server, those of one service, of one method, of one client address (`peer`), or
   * those for which a function returns the same text, such as the name of a tenant. @defaultValue `server`
   */
  readonly key?: ServerCallKey | ((call: QuotaCall) => string);
  /**
   * How many keys have a bulkhead, a whole number from 1 to 1,000,000. Beyond that, the one that was idle longest is
   * forgotten and starts anew. @defaultValue 1,000
   */
  readonly maxKeys?: number;
}

interface Resolved extends ResolvedSharing<QuotaCall> {
  readonly limits: ResolvedBulkheadOptions;
  readonly maxKeys: number;
  readonly keyOf: (call: QuotaCall) => string;
}

/** The bulkhead of one key, and the estimate of when its permits come free. */
interface Part {
  readonly bulkhead: Bulkhead;
  readonly prospects: Prospects;
}

/**
 * Bulkheads of a server by key, before admission. Refused calls end with RESOURCE_EXHAUSTED (`BULKHEAD_FULL`,
 * `QUEUE_TIMEOUT`) and pushback, or with DEADLINE_EXCEEDED (`DEADLINE_EXPIRED`). Exempt: health, reflection, channelz, ORCA.
 */
export class ServerBulkheadPolicy implements ControlledPolicy, ServerGate {
  readonly policy = "bulkhead";
  readonly takesSlot = true;
  readonly asksUser = true;
  mode: Mode;
  #options: Resolved;
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
    const { limits, maxKeys } = resolved;
    this.mode = mode;
    this.#options = resolved;
    this.#clock = clock;
    this.#report = report;
    this.#retryAfterEstimate = new RetryAfterEstimate(random, limits.maxWaitMs);
    const make = () => ({
      bulkhead: new Bulkhead(this.#options.limits, clock, report, this.#options.shares),
      prospects: new Prospects(this.#retryAfterEstimate, clock),
    });
    this.#parts = new Keyed(make, maxKeys, ({ bulkhead }) => bulkhead.inUse);
  }

  reconfigure(fresh: ServerBulkheadPolicy): void {
    this.#options = fresh.#options;
    const { limits, shares, maxKeys } = this.#options;
    for (const [, { bulkhead }] of this.#parts.entries()) bulkhead.reconfigure(limits, shares);
    this.#parts.resize(maxKeys);
  }

  modeFor({ method }: InboundCall): Mode {
    return isExempt(method) ? "off" : this.mode;
  }

  enter(inbound: InboundCall, onGranted: OnGranted): GateAnswer {
    const { keyOf, hooks } = this.#options;
    const call = callSeen(inbound);
    const part = this.#parts.get(boundedKey(keyOf(call)));
    const answer = part.bulkhead.enter(
      priorityRank[inbound.priority],
      inbound.deadlineMs,
      (result, waitedMs) => onGranted(this.#timed(result, part, inbound), waitedMs),
      weightOf(hooks.weight, call, this.#report, "bulkhead.weight"),
      partitionOf(hooks.partition, call, this.#report, "bulkhead.partition"),
    );
    return isQueued(answer) ? answer : this.#timed(answer, part, inbound);
  }

  /** Refuses the queued calls and all that come later, with `DRAINING`. */
  drain(): void {
    for (const [, { bulkhead }] of this.#parts.entries()) bulkhead.close("DRAINING");
  }

  measure(gauges: Gauges): void {
    for (const [key, { bulkhead }] of this.#parts.entries()) {
      bulkhead.measure(gauges, "server", { key, pool: "calls" });
    }
  }

  snapshot(): BulkheadsSnapshot {
    const entries = [...this.#parts.entries()];
    const numbers = entries.map(([key, { bulkhead }]) => [key, bulkhead.snapshot()] as const);
    return { bulkheads: Object.fromEntries(numbers) };
  }

  /** Measures how long calls hold their permits, and says in a refusal when another try is worth it. */
  #timed(
    result: WaitResult,
    { bulkhead, prospects }: Part,
    { method, priority }: InboundCall,
  ): Permit | Refusal {
    if (!isRefusal(result)) {
      const sinceMs = this.#clock.now();
      prospects.began(sinceMs);
      return permit((outcome, ending) => {
        const free = () => {
          prospects.ended(sinceMs);
          result.settle(outcome);
        };
        if (ending?.worksOn === undefined) {
          this.#retryAfterEstimate.record(this.#clock.now() - sinceMs, method);
          free();
        } else {
          // A handler that works on after its caller has left takes its part of the server all the same.
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
    if (result.reason !== "BULKHEAD_FULL" && result.reason !== "QUEUE_TIMEOUT") return result;
    const { queued, maxConcurrent: atOnce } = bulkhead;
    const rank = priorityRank[priority];
    return { ...result, retryAfterMs: prospects.retryAfterMs({ queued, atOnce, rank }) };
  }
}

const ownNames = ["mode", "key", "maxKeys", "partitions", "partition", "weight"];

function resolve(given: ServerBulkheadOptions, prefix: string, report: ReportError): Resolved {
  const options = readOptions(prefix, given);
  const { key, maxKeys = 1_000, partitions, partition, weight, ...numbers } = options;
  const limits = resolveBulkheadOptions(numbers, prefix, ownNames);
  return {
    limits,
    ...resolveSharing({ partitions, partition, weight }, limits.maxConcurrent, prefix),
    maxKeys: wholeNumber(`${prefix}.maxKeys`, maxKeys, 1, 1_000_000),
    keyOf: serverKeyOf(key, report, `${prefix}.key`),
  };
}

/**
 * Bulkheads of a server, as an interceptor of its own.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/bulkhead.md#on-a-server
 */
export function bulkhead(
  options: ServerBulkheadOptions & ServerPolicyOptions & EnvironmentOptions = {},
): ServerInterceptor {
  const { mode, environment, priority, rest } = splitServerOptions(options, "bulkhead");
  const policy = new ServerBulkheadPolicy(rest, environment, "bulkhead", mode);
  return serverPipeline(environment, { priority, gates: [policy] });
}
