import type { ServerInterceptor } from "@grpc/grpc-js";
import { DueList } from "../core/due-list.js";
import { durationMs, InvalidOptionError, readOptions } from "../core/options.js";
import { outsideClock } from "../grpc/context/async-context.js";
import type { Environment } from "../grpc/environment.js";
import { contextInterceptor, type Relay, resolveRelay } from "../grpc/server/context.js";
import type { RequestBound, ServerGate } from "../grpc/server/gated-call.js";
import {
  defaultRequestMs,
  type ServerPolicyOptions,
  serverGate,
  splitServerOptions,
} from "../grpc/server/policy.js";
import {
  type PriorityOptions,
  type PriorityReader,
  priorityReader,
} from "../grpc/server/priority.js";
import { type AdmissionOptions, resolveAdmissionOptions } from "../policies/admission/options.js";
import { AdmissionPolicy } from "../policies/admission/server.js";
import { BrownoutPolicy, type BrownoutPolicyOptions } from "../policies/brownout/server.js";
import { type ServerBulkheadOptions, ServerBulkheadPolicy } from "../policies/bulkhead/server.js";
import {
  type DeadlineGuardPolicyOptions,
  deadlineGuards,
  type GuardedServer,
} from "../policies/deadline/server.js";
import { DrainGate } from "../policies/drain/server.js";
import {
  type ServerFaultsOptions,
  ServerFaultsPolicy,
  serverFaultsInterceptors,
} from "../policies/faults/server.js";
import { type QuotaOptions, quotaPolicies } from "../policies/rate-limit/server.js";
import type { BuiltPolicy } from "./controls.js";
import type { ReportedServer, ServerWork } from "./load-report.js";

/** The policies of a server. `false` leaves a policy out. */
export interface ServerPolicy {
  /** How priorities and cohorts are read. It may stand in `admission` as well, but not in both. */
  readonly priority?: PriorityOptions;
  /** @defaultValue on: calls whose deadline has passed are refused; what is learnt is only observed */
  readonly deadlineGuard?: DeadlineGuardPolicyOptions | false;
  /**
   * How long the single request of a call may take to be complete, in milliseconds; then the call ends with
   * DEADLINE_EXCEEDED (reason `REQUEST_TIMEOUT`). Only where there is a bulkhead or admission: until its request is complete, a
   * call waits before them and takes no slot. Only recorded while they observe. 1 ms to 24 days, or `false` for no bound. @defaultValue 60_000
   */
  readonly requestMs?: number | false;
  /** What becomes of statuses that handlers pass on from services below. @defaultValue `mark` */
  readonly relay?: Relay;
  /**
   * One quota, or several that a call has to pass one after the other; of those it passed, it gets its tokens back
   * when a later one refuses it. @defaultValue off: how much a caller may ask for is for you to say
   */
  readonly quota?: QuotaOptions | readonly QuotaOptions[] | false;
  /**
   * Parts of the server for kinds of calls or for tenants, with shares that each can count on. Before admission.
   * @defaultValue off
   */
  readonly bulkhead?: (ServerBulkheadOptions & Pick<ServerPolicyOptions, "mode">) | false;
  /** @defaultValue off unless asked for; with `{}`, how many calls the server bears is learnt */
  readonly admission?: (AdmissionOptions & ServerPolicyOptions) | false;
  /** What handlers can do without while the server is pressed: `currentCall()?.shouldSkip(name)`. @defaultValue off */
  readonly brownout?: (BrownoutPolicyOptions & Pick<ServerPolicyOptions, "mode">) | false;
  /** What goes wrong on purpose, where the environment says `GRPC_WEIR_FAULTS=1`. @defaultValue off */
  readonly faults?: (ServerFaultsOptions & Pick<ServerPolicyOptions, "mode">) | false;
}

/** The policies of a server, built once, and the pipeline in which they stand. */
export class ServerPolicies implements ReportedServer {
  readonly priority: PriorityReader;
  /** Those that have a mode of their own. */
  readonly built: readonly BuiltPolicy[];
  readonly drain = new DrainGate();
  readonly #environment: Environment;
  readonly #relay: Relay;
  readonly #row: ServerInterceptor;
  readonly #faults: ServerFaultsPolicy | undefined;
  readonly #admission: AdmissionPolicy | undefined;
  /** Those in which calls wait. */
  readonly #queues: readonly { drain(): void }[];
  /** Calls whose requests are not complete. */
  readonly #requests: RequestBound;
  /** Calls that run, by their deadlines. */
  readonly #deadlines: DueList;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(given: ServerPolicy, environment: Environment) {
    const policy = readPolicy(given);
    const clock = outsideClock(environment.clock);
    this.#environment = environment;
    this.#relay = resolveRelay(policy.relay, "server.relay");
    this.#deadlines = new DueList(clock);
    const { deadlineGuard = {}, requestMs = defaultRequestMs } = policy;
    this.#requests = {
      maxMs: requestMs === false ? Infinity : durationMs("server.requestMs", requestMs, 1),
      waiting: new DueList(clock),
    };
    this.priority = priorityReaderOf(policy, environment);

    const admission = unlessOff(policy.admission, (options) => {
      const { mode, rest } = splitServerOptions(options, "server.admission");
      const resolved = resolveAdmissionOptions(rest, "server.admission", ["mode", "priority"]);
      return new AdmissionPolicy(resolved, environment, mode);
    });
    const guards =
      unlessOff(deadlineGuard, (options) =>
        deadlineGuards(options, admission ?? calm, environment, "server.deadlineGuard"),
      ) ?? [];
    const quotas =
      unlessOff(policy.quota, (options) => quotaPolicies(options, environment, "server.quota")) ??
      [];
    const bulkhead = unlessOff(policy.bulkhead, (options) => {
      const { mode, rest } = splitServerOptions(options, "server.bulkhead");
      return new ServerBulkheadPolicy(rest, environment, "server.bulkhead", mode);
    });
    const brownout = unlessOff(policy.brownout, (options) => {
      const { mode, rest } = splitServerOptions(options, "server.brownout");
      const pressure = admission && { now: () => admission.pressed };
      return new BrownoutPolicy({ ...rest, mode }, pressure, environment, "server.brownout");
    });
    const faults = unlessOff(policy.faults, (options) => {
      const { mode, rest } = splitServerOptions(options, "server.faults");
      return new ServerFaultsPolicy({ ...rest, mode }, environment, "server.faults");
    });

    // From the wire to the handler. Each part is asked for its mode by every call.
    const row: readonly (ServerGate | undefined)[] = [
      // Counts the calls, and refuses them while the server drains. Always enforced.
      this.drain,
      // The deadline guard, and what it learns of handlers: a mode each.
      ...guards,
      // A mode each.
      ...quotas,
      bulkhead,
      admission,
      // By the mode of admission, when a stream has become old.
      admission?.streamAge,
      // Refuses nobody: handlers ask it.
      brownout,
    ];
    this.#row = serverGate(environment, this.priority, row, this.#requests);

    this.#faults = faults;
    this.#admission = admission;
    this.#queues = [...quotas, bulkhead, admission].filter((queue) => queue !== undefined);
    this.built = [...guards, ...quotas, bulkhead, admission, brownout, faults]
      .filter((built) => built !== undefined)
      .map((built) => ({ name: built.policy, policy: built }));
  }

  /**
   * The interceptors of a server, from the wire to the handler. They keep the policies as long as a server keeps them.
   *
   * @param span What makes the spans of inbound calls.
   * @param own Those of the user, next to the handlers.
   */
  pipeline(span: ServerInterceptor, own: readonly ServerInterceptor[] = []): ServerInterceptor[] {
    const { priority } = this;
    return [
      contextInterceptor(this.#environment, priority, this.#relay, this.#deadlines),
      span,
      (method, call) => this.#row(method, call),
      ...own,
      // Behind the user's own, which meet a fault as if the handler had it.
      ...serverFaultsInterceptors(this.#environment, priority, this.#faults),
    ];
  }

  /** What the server has done until now, for load reports. What only observes has no capacity that could be used up. */
  workAt(nowMs: number): ServerWork {
    const { served } = this.drain;
    const admission = this.#admission;
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

  /** Refuses those who wait and those who come; calls that run are left to end. */
  stop(): void {
    this.#requests.waiting.close();
    this.#deadlines.close();
    this.drain.drain();
    for (const queue of this.#queues) queue.drain();
  }

  /** Lets nothing run any more that is not a call. */
  close(): void {
    this.stop();
    this.#admission?.close();
    this.#faults?.close();
  }
}

/** @throws InvalidOptionError for what is no policy of a server. */
function readPolicy(given: ServerPolicy): ServerPolicy {
  const policy = readOptions("server", given, [
    "priority",
    "deadlineGuard",
    "requestMs",
    "quota",
    "bulkhead",
    "admission",
    "relay",
    "brownout",
    "faults",
  ]);
  const { admission } = policy;
  // Two parts look into it: admission itself, and the reader of priorities.
  return typeof admission === "object" && admission !== null
    ? { ...policy, admission: readOptions("server.admission", admission) }
    : policy;
}

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

/** Builds a policy that is not left out. */
function unlessOff<O, P>(options: O | false | undefined, build: (options: O) => P): P | undefined {
  return options === false || options === undefined ? undefined : build(options);
}

/** What the deadline guard is told of a server that has no admission. */
const calm: GuardedServer = { shedding: false, lostMs: 0 };
