import type { ControlledPolicy } from "../core/control.js";
import type { PolicyName } from "../core/decision.js";
import { DueList } from "../core/due-list.js";
import type { Gate } from "../core/gate.js";
import { durationMs, InvalidOptionError, readOptions } from "../core/options.js";
import { outsideClock } from "../grpc/context/async-context.js";
import type { InboundCall } from "../grpc/context/inbound-call.js";
import type { Environment } from "../grpc/environment.js";
import { type Relay, resolveRelay } from "../grpc/server/context.js";
import type { RequestBound } from "../grpc/server/gated-call.js";
import {
  defaultRequestMs,
  type ServerPolicyOptions,
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
import { type DeadlineGuardPolicyOptions, deadlineGuards } from "../policies/deadline/server.js";
import { DrainGate } from "../policies/drain/server.js";
import { type ServerFaultsOptions, ServerFaultsPolicy } from "../policies/faults/server.js";
import type { Pressure } from "../policies/pressure/options.js";
import {
  type QuotaOptions,
  type QuotaPolicy,
  quotaPolicies,
} from "../policies/rate-limit/server.js";
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

/** The policies of a server, built once. */
export class ServerPolicies implements ReportedServer {
  readonly priority: PriorityReader;
  readonly relay: Relay;
  readonly gates: readonly Gate<InboundCall>[];
  readonly built: readonly { readonly name: PolicyName; readonly policy: ControlledPolicy }[];
  readonly quotas: readonly QuotaPolicy[];
  readonly bulkhead: ServerBulkheadPolicy | undefined;
  readonly admission: AdmissionPolicy | undefined;
  readonly faults: ServerFaultsPolicy | undefined;
  readonly drain = new DrainGate();
  /** Calls whose requests are not complete. */
  readonly requests: RequestBound;
  /** Calls that run, by their deadlines. */
  readonly deadlines: DueList;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(given: ServerPolicy, environment: Environment) {
    const read = readOptions("server", given, [
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
    // Several parts look into it.
    const policy =
      typeof read.admission === "object" && read.admission !== null
        ? { ...read, admission: readOptions("server.admission", read.admission) }
        : read;
    const { deadlineGuard = {}, quota = false, bulkhead = false, admission = false } = policy;
    const { brownout = false, faults = false } = policy;
    const { requestMs = defaultRequestMs } = policy;
    const clock = outsideClock(environment.clock);
    this.requests = {
      maxMs:
        requestMs === false
          ? Number.POSITIVE_INFINITY
          : durationMs("server.requestMs", requestMs, 1),
      waiting: new DueList(clock),
    };
    this.deadlines = new DueList(clock);
    this.relay = resolveRelay(policy.relay, "server.relay");
    this.priority = priorityReader(
      priorityOptions(policy),
      environment,
      policy.priority === undefined && admission !== false
        ? "server.admission.priority"
        : "server.priority",
    );
    const gates: Gate<InboundCall>[] = [];
    const built: { name: PolicyName; policy: ControlledPolicy }[] = [];
    gates.push(this.drain);
    const add = <P extends Gate<InboundCall> & ControlledPolicy>(gate: P): P => {
      gates.push(gate);
      built.push({ name: gate.policy, policy: gate });
      return gate;
    };
    if (deadlineGuard !== false) {
      const { guard, learned } = deadlineGuards(
        deadlineGuard,
        {
          shedding: () => this.admission?.shedding ?? false,
          lostMs: () => this.admission?.lostMs ?? 0,
        },
        environment,
        "server.deadlineGuard",
      );
      add(guard);
      if (learned !== undefined) add(learned);
    }
    this.quotas = quota === false ? [] : quotaPolicies(quota, environment, "server.quota");
    this.quotas.forEach(add);
    if (bulkhead !== false) {
      const { mode, rest } = splitServerOptions(bulkhead, "server.bulkhead");
      this.bulkhead = add(new ServerBulkheadPolicy(rest, environment, "server.bulkhead", mode));
    }
    if (admission !== false) {
      const prefix = "server.admission";
      const { mode, rest } = splitServerOptions(admission, prefix);
      const resolved = resolveAdmissionOptions(rest, prefix, ["mode", "priority"]);
      this.admission = add(new AdmissionPolicy(resolved, environment, mode));
    }
    if (brownout !== false) {
      const prefix = "server.brownout";
      const { mode, rest } = splitServerOptions(brownout, prefix);
      const measured = admission !== false && admission.pressure !== false;
      const source = this.admission && pressureOf(this.admission, measured);
      add(new BrownoutPolicy({ ...rest, mode }, source, environment, prefix));
    }
    if (faults !== false) {
      const { mode, rest } = splitServerOptions(faults, "server.faults");
      this.faults = new ServerFaultsPolicy({ ...rest, mode }, environment, "server.faults");
      built.push({ name: "faults", policy: this.faults });
    }
    this.gates = gates;
    this.built = built;
  }

  /** What the server has done until now, for load reports. What only observes has no capacity that could be used up. */
  workAt(nowMs: number): ServerWork {
    const { served } = this.drain;
    const { admission } = this;
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
    this.requests.waiting.close();
    this.deadlines.close();
    this.drain.drain();
    for (const quota of this.quotas) quota.drain();
    this.bulkhead?.drain();
    this.admission?.drain();
  }

  /** Lets nothing run any more that is not a call. */
  close(): void {
    this.stop();
    this.admission?.close();
    this.faults?.close();
  }
}

/**
 * How full the server is, or how hard pressed its process where that is measured, whichever is more. What only observes
 * is full of calls that it would have refused: that moves nobody.
 */
function pressureOf(admission: AdmissionPolicy, measured: boolean): Pressure {
  const full = () => (admission.mode === "enforce" ? admission.load : 0);
  return { now: () => Math.max(full(), measured ? admission.pressure.now() : 0) };
}

/** @throws InvalidOptionError when it stands in two places. */
function priorityOptions({ priority, admission }: ServerPolicy): PriorityOptions | undefined {
  const nested = typeof admission === "object" ? admission?.priority : undefined;
  if (priority !== undefined && nested !== undefined) {
    const rule = "absent where server.priority is given";
    throw new InvalidOptionError("server.admission.priority", rule, nested);
  }
  return priority === undefined ? nested : priority;
}
