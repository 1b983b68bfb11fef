import type { ServerInterceptor } from "@grpc/grpc-js";
import { allBuiltFor, modes } from "../core/control.js";
import { DueList } from "../core/due-list.js";
import {
  durationMs,
  InvalidOptionError,
  nameText,
  oneOf,
  readOptions,
  unlessFalse,
  unlessOff,
} from "../core/options.js";
import type { Succession } from "../core/succession.js";
import { outsideClock } from "../grpc/context/async-context.js";
import type { Environment } from "../grpc/environment.js";
import {
  defaultRequestMs,
  type ServerGate,
  type ServerMeterPart,
  type ServerSpanPart,
  serverPipeline,
} from "../grpc/server/pipeline-call.js";
import { type ServerPolicyOptions, splitServerOptions } from "../grpc/server/policy.js";
import {
  type PriorityOptions,
  type PriorityReader,
  priorityReader,
} from "../grpc/server/priority.js";
import { type Relay, resolveRelay } from "../grpc/status/relay.js";
import { AdmissionPolicy, type ServerAdmissionOptions } from "../policies/admission/server.js";
import { BrownoutPolicy, type BrownoutPolicyOptions } from "../policies/brownout/server.js";
import { type ServerBulkheadOptions, ServerBulkheadPolicy } from "../policies/bulkhead/server.js";
import {
  DeadlineGuardPolicy,
  type DeadlineGuardPolicyOptions,
  deadlineGuards,
  FeasibilityPolicy,
  type GuardedServer,
} from "../policies/deadline/server.js";
import { DrainGate } from "../policies/drain/server.js";
import {
  type ServerFaultsOptions,
  ServerFaultsPolicy,
  serverFaultsInterceptors,
} from "../policies/faults/server.js";
import { serverKillGates } from "../policies/flags/server.js";
import {
  IdempotencyPolicy,
  type IdempotencyPolicyOptions,
} from "../policies/idempotency/server.js";
import { resolveServerIdempotencyOptions } from "../policies/idempotency/server-options.js";
import {
  type QuotaOptions,
  type QuotaPolicy,
  quotaPolicies,
} from "../policies/rate-limit/server.js";
import type { ClientPolicy } from "./client.js";
import type { BuiltByName, PreparedPolicies } from "./controls.js";
import type { ReportedServer, ServerWork } from "./load-report.js";

/**
 * The policies of a server. `false` leaves a policy out.
 *
 * @typeParam Service The generated type of the service, such as `typeof StockServiceService`, or a union of several. With it
 *   names of methods are checked while compiling.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export interface ServerPolicy<Service = unknown> {
  /** What snapshots call the policies of this server. @defaultValue `server` */
  readonly name?: string;
  /** How priorities and cohorts are read. They may be given in `admission` instead, but not in both. */
  readonly priority?: PriorityOptions<Service>;
  /**
   * Refuses calls that have no time left. @defaultValue on: calls whose deadline has passed are refused, and those that
   * have too little time left by what is learnt of their handlers are only recorded
   */
  readonly deadlineGuard?: DeadlineGuardPolicyOptions | false;
  /**
   * How long a request of a single message may take to arrive, in milliseconds, from 1 ms to 24 days; `false` for no
   * bound. Then the call ends with DEADLINE_EXCEEDED (reason `REQUEST_TIMEOUT`). Only where there is a bulkhead or
   * admission: the call takes no slot of them until its request is complete. Only recorded while both observe.
   * @defaultValue 60_000
   */
  readonly requestMs?: number | false;
  /** What happens to statuses that handlers pass on from services below. @defaultValue `mark` */
  readonly relay?: Relay;
  /**
   * One quota, or several that a call passes in their order. When a later policy refuses the call, its tokens come
   * back.
   * @defaultValue off: how many calls a caller may make is for you to decide
   */
  readonly quota?: QuotaOptions | readonly QuotaOptions[] | false;
  /**
   * Runs calls of the methods that it names once for each idempotency key, and answers later calls with the key as the first
   * was answered. Before bulkhead and admission.
   * @defaultValue off: whether a method takes keys, and whose they are, is for you to say
   */
  readonly idempotency?: IdempotencyPolicyOptions<Service> | false;
  /**
   * Bounds how many calls of each kind, method or tenant run at once, with shares that each can count on. Before
   * admission.
   * @defaultValue off
   */
  readonly bulkhead?: (ServerBulkheadOptions & Pick<ServerPolicyOptions, "mode">) | false;
  /** Sheds load that the server cannot serve in time. @defaultValue off; with `{}` the limit is learnt */
  readonly admission?: (ServerAdmissionOptions & ServerPolicyOptions<Service>) | false;
  /** Optional work that handlers leave out under pressure: `currentCall()?.shouldSkip(name)`. @defaultValue off */
  readonly brownout?: (BrownoutPolicyOptions & Pick<ServerPolicyOptions, "mode">) | false;
  /** Faults that are injected on purpose, where the environment has `GRPC_WEIR_FAULTS=1`. @defaultValue off */
  readonly faults?: (ServerFaultsOptions & Pick<ServerPolicyOptions, "mode">) | false;
}

/** The policies that a server has, in the order in which calls pass them. */
interface ServerParts {
  readonly relay: Relay;
  readonly requestMs: number;
  readonly deadlineGuard: DeadlineGuardPolicy | undefined;
  readonly feasibility: FeasibilityPolicy | undefined;
  readonly quotas: readonly QuotaPolicy[];
  readonly idempotency: IdempotencyPolicy | undefined;
  readonly bulkhead: ServerBulkheadPolicy | undefined;
  readonly admission: AdmissionPolicy | undefined;
  readonly brownout: BrownoutPolicy | undefined;
  readonly faults: ServerFaultsPolicy | undefined;
}

/** The policies of a server and the pipeline that they stand in. */
export class ServerPolicies implements ReportedServer, GuardedServer {
  /** What snapshots call the server. */
  readonly name: string;
  readonly priority: PriorityReader;
  readonly drain = new DrainGate();
  readonly #environment: Environment;
  readonly #spans: ServerSpanPart | undefined;
  readonly #meter: ServerMeterPart | undefined;
  #parts: ServerParts;
  #row: ServerInterceptor;
  #stopped = false;
  /** The calls that run, by their times. */
  readonly #due: DueList;

  /**
   * @param spans Makes the spans of inbound calls.
   * @param meter Measures inbound calls.
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  constructor(
    given: ServerPolicy,
    environment: Environment,
    spans?: ServerSpanPart,
    meter?: ServerMeterPart,
  ) {
    const policy = readPolicy(given);
    this.#environment = environment;
    this.#spans = spans;
    this.#meter = meter;
    const { name = "server" } = policy;
    this.name = nameText("server.name", name);
    this.#due = new DueList(outsideClock(environment.clock));
    this.priority = priorityReaderOf(policy, environment);
    this.#parts = this.#build(policy);
    this.#row = this.#compile();
  }

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  #build(policy: ServerPolicy): ServerParts {
    const environment = this.#environment;
    const { deadlineGuard = {}, requestMs: bound = defaultRequestMs } = policy;
    const admission = unlessOff("server.admission", policy.admission, (options) => {
      const { mode, rest } = splitServerOptions(options, "server.admission");
      return new AdmissionPolicy(rest, environment, mode, "server.admission");
    });
    const guards =
      unlessOff("server.deadlineGuard", deadlineGuard, (options) =>
        deadlineGuards(options, this, environment, "server.deadlineGuard"),
      ) ?? [];
    return {
      relay: resolveRelay(policy.relay, "server.relay"),
      requestMs:
        unlessFalse("server.requestMs", bound, (option, ms) => durationMs(option, ms, 1)) ||
        Infinity,
      admission,
      deadlineGuard: guards.find((guard) => guard instanceof DeadlineGuardPolicy),
      feasibility: guards.find((guard) => guard instanceof FeasibilityPolicy),
      quotas:
        unlessOff("server.quota", policy.quota, (options) =>
          quotaPolicies(options, environment, "server.quota"),
        ) ?? [],
      idempotency: unlessOff("server.idempotency", policy.idempotency, (options, option) => {
        const { mode = "enforce", ...rest } = readOptions(option, options);
        const resolved = resolveServerIdempotencyOptions(rest, option, ["mode"]);
        const checked = oneOf(`${option}.mode`, mode, modes);
        return new IdempotencyPolicy(resolved, environment, option, checked);
      }),
      bulkhead: unlessOff("server.bulkhead", policy.bulkhead, (options) => {
        const { mode, rest } = splitServerOptions(options, "server.bulkhead");
        return new ServerBulkheadPolicy(rest, environment, "server.bulkhead", mode);
      }),
      brownout: unlessOff("server.brownout", policy.brownout, (options) => {
        const { mode, rest } = splitServerOptions(options, "server.brownout");
        const pressure = admission && { now: () => this.#parts.admission?.pressed ?? 0 };
        return new BrownoutPolicy({ ...rest, mode }, pressure, environment, "server.brownout");
      }),
      faults: unlessOff("server.faults", policy.faults, (options) => {
        const { mode, rest } = splitServerOptions(options, "server.faults");
        return new ServerFaultsPolicy({ ...rest, mode }, environment, "server.faults");
      }),
    };
  }

  /** Of the admission that the server has at present. */
  get shedding(): boolean {
    return this.#parts.admission?.shedding ?? false;
  }

  /** Of the admission that the server has at present. */
  get lostMs(): number {
    return this.#parts.admission?.lostMs ?? 0;
  }

  /** The policies that have a mode of their own. */
  get built(): BuiltByName {
    return this.#builtIn(this.#parts);
  }

  #builtIn(parts: ServerParts): BuiltByName {
    const { deadlineGuard, feasibility, quotas, idempotency } = parts;
    const { bulkhead, admission, brownout, faults } = parts;
    const built = <P extends object>(...policies: readonly (P | undefined)[]) =>
      allBuiltFor(this.name, policies);
    return {
      "deadline-guard": built(deadlineGuard),
      feasibility: built(feasibility),
      quota: built(...quotas),
      idempotency: built(idempotency),
      bulkhead: built(bulkhead),
      admission: built(admission),
      brownout: built(brownout),
      faults: built(faults),
    };
  }

  /**
   * Builds what newer options ask for. Nothing changes before it is applied; calls that run, and those that wait, then stay where
   * they are.
   *
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  prepare(given: ServerPolicy): PreparedPolicies {
    const policy = readPolicy(given);
    const priority = priorityReaderOf(policy, this.#environment);
    const next = this.#build(policy);
    return {
      before: this.built,
      built: this.#builtIn(next),
      apply: (succession) => {
        this.priority.reconfigure(priority);
        this.#succeed(next, succession);
      },
    };
  }

  #succeed(next: ServerParts, succession: Succession): void {
    const before = this.#parts;
    this.#parts = {
      ...next,
      deadlineGuard: succession.carry(before.deadlineGuard, next.deadlineGuard),
      feasibility: succession.carry(before.feasibility, next.feasibility),
      quotas: next.quotas.map((quota, at) => succession.carry(before.quotas[at], quota) ?? quota),
      idempotency: succession.carry(before.idempotency, next.idempotency),
      bulkhead: succession.carry(before.bulkhead, next.bulkhead),
      admission: succession.carry(before.admission, next.admission),
      brownout: succession.carry(before.brownout, next.brownout),
      faults: succession.carry(before.faults, next.faults),
    };
    this.#row = this.#compile();
    if (this.#stopped) for (const queue of this.#queues) queue.drain();
    // Nobody asks it any more.
    if (this.#parts.admission !== before.admission) before.admission?.pressure.close();
  }

  /** The policies in which calls wait. */
  get #queues(): readonly { drain(): void }[] {
    const { quotas, idempotency, bulkhead, admission } = this.#parts;
    return [...quotas, idempotency, bulkhead, admission].filter((queue) => queue !== undefined);
  }

  #compile(): ServerInterceptor {
    const { relay, requestMs, deadlineGuard, feasibility, quotas } = this.#parts;
    const { idempotency, bulkhead, admission, brownout } = this.#parts;
    const { flags } = this.#environment;
    const kill = flags && serverKillGates(flags);
    // From the wire to the handler. A call asks each part for its mode when it comes to it.
    const gates: readonly (ServerGate | undefined)[] = [
      // Refuses calls of methods that are switched off. Always enforced.
      kill?.first,
      // Counts calls, and refuses them while the server drains. Always enforced.
      this.drain,
      deadlineGuard,
      feasibility,
      // Each with a mode of its own.
      ...quotas,
      // Answers duplicates, and lets them wait, before they would take a slot.
      idempotency,
      bulkhead,
      admission,
      this.#queues.length > 0 ? kill?.behindQueues : undefined,
      // Ends old streams, by the mode that admission has then.
      admission?.streamAge,
      // Refuses no call: handlers ask it what to leave out.
      brownout,
    ];
    return serverPipeline(this.#environment, {
      priority: this.priority,
      relay,
      spans: this.#spans,
      meter: this.#meter,
      gates,
      requestMs,
      due: this.#due,
    });
  }

  /**
   * The interceptors of a server, from the wire to the handler. A grpc-js server that holds them holds the policies.
   *
   * @param own The interceptors of the user, next to the handlers.
   * @param replaced The policies may be replaced by others, with faults among them.
   */
  pipeline(own: readonly ServerInterceptor[] = [], replaced = false): ServerInterceptor[] {
    const faults = () => this.#parts.faults;
    const mayHaveFaults = replaced || faults() !== undefined;
    return [
      (method, call) => this.#row(method, call),
      ...own,
      // Behind the interceptors of the user, to which a fault looks like one of the handler.
      ...(mayHaveFaults ? serverFaultsInterceptors(this.#environment, this.priority, faults) : []),
    ];
  }

  /** What the server has done until now, for load reports. Without an enforced admission it has no slots to count. */
  workAt(nowMs: number): ServerWork {
    const { served } = this.drain;
    const { admission } = this.#parts;
    if (admission?.mode !== "enforce")
      return { served, shed: 0, takenMs: 0, limit: Infinity, streams: 0 };
    const { calls, streams } = admission.workAt(nowMs);
    return {
      served,
      shed: calls.shed + (streams?.shed ?? 0),
      takenMs: calls.takenMs,
      limit: calls.limit,
      streams: streams === undefined ? 0 : streams.taken / streams.limit,
    };
  }

  /** Refuses the calls that wait and all that come. Calls that run go on. */
  stop(): void {
    this.#stopped = true;
    this.#due.close();
    this.drain.drain();
    for (const queue of this.#queues) queue.drain();
  }

  /** Stops, and ends all that runs beside calls, such as readings of the process. */
  close(): void {
    this.stop();
    this.#parts.admission?.close();
    this.#parts.faults?.close();
  }
}

/** @throws InvalidOptionError for what is no policy of a server. */
function readPolicy(given: ServerPolicy): ServerPolicy {
  const policy = readOptions("server", given, serverKeys, [], ofClients);
  const { admission } = policy;
  // Read by two: admission, and the reader of priorities.
  return typeof admission === "object" && admission !== null
    ? { ...policy, admission: readOptions("server.admission", admission) }
    : policy;
}

const serverKeys = [
  "name",
  "priority",
  "deadlineGuard",
  "requestMs",
  "quota",
  "idempotency",
  "bulkhead",
  "admission",
  "relay",
  "brownout",
  "faults",
] as const satisfies readonly (keyof ServerPolicy)[];

/** Options that only clients have. */
const ofClients = new Map<string, string>(
  (
    [
      "deadline",
      "waitForReady",
      "timeouts",
      "idempotencyKey",
      "retry",
      "hedge",
      "breaker",
      "throttle",
      "rate",
      "fallback",
      "resets",
      "parts",
      "methods",
    ] as const satisfies readonly Exclude<keyof ClientPolicy, keyof ServerPolicy>[]
  ).map((name) => [name, "one of weir.client()"]),
);

/** @throws InvalidOptionError when the options of priorities stand in two places. */
function priorityReaderOf(
  { priority, admission = false }: ServerPolicy,
  environment: Environment,
): PriorityReader {
  const nested = typeof admission === "object" ? admission?.priority : undefined;
  if (priority !== undefined && nested !== undefined) {
    const rule = "absent where server.priority is given";
    throw new InvalidOptionError("server.admission.priority", rule, nested);
  }
  const prefix =
    priority === undefined && admission !== false ? "server.admission.priority" : "server.priority";
  return priorityReader(priority === undefined ? nested : priority, environment, prefix);
}
