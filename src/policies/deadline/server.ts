import type { ServerInterceptor } from "@grpc/grpc-js";
import { type ControlledPolicy, type Mode, modes } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import { durationMs, oneOf, readOptions, unlessFalse } from "../../core/options.js";
import {
  type Ending,
  OncePermit,
  type Outcome,
  type Permit,
  type Refusal,
  refusal,
} from "../../core/permit.js";
import type { InboundCall } from "../../grpc/context/inbound-call.js";
import {
  type Environment,
  type EnvironmentOptions,
  environmentOptionNames,
} from "../../grpc/environment.js";
import { serverPipeline } from "../../grpc/server/pipeline-call.js";
import {
  isExempt,
  type ServerPolicyOptions,
  splitServerOptions,
} from "../../grpc/server/policy.js";
import {
  Feasibility,
  type FeasibilityOptions,
  type ResolvedFeasibilityOptions,
  resolveFeasibilityOptions,
} from "./feasibility.js";

/**
 * How much time a call must have left for its handler to be started.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/deadline-guard.md
 */
export interface DeadlineGuardOptions {
  /** The time that must be left until the deadline of the caller, in milliseconds. 0 to 24 days. @defaultValue 0 */
  readonly minRemainingMs?: number;
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
function resolveMinRemainingMs(
  given: DeadlineGuardOptions,
  prefix: string,
  also: readonly string[] = [],
): number {
  const { minRemainingMs = 0 } = readOptions(prefix, given, ["minRemainingMs"], also);
  return durationMs(`${prefix}.minRemainingMs`, minRemainingMs);
}

/**
 * Calls that were refused, or would have been. Both numbers only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/deadline-guard.md
 */
export interface DeadlineGuardSnapshot {
  /** Their deadline had passed. */
  readonly expired: number;
  /** Less than `minRemainingMs` was left. */
  readonly infeasible: number;
}

/**
 * Refuses calls whose callers have stopped waiting, or soon will: DEADLINE_EXCEEDED (reason `DEADLINE_EXPIRED`, or
 * `DEADLINE_INFEASIBLE` when less than `minRemainingMs` is left). grpc-js starts the handler of a call although its deadline
 * has passed.
 */
export class DeadlineGuardPolicy implements ControlledPolicy, Gate<InboundCall> {
  readonly policy = "deadline-guard";
  readonly neverQueues = true;
  mode: Mode;
  #minRemainingMs: number;
  #expired = 0;
  #infeasible = 0;

  constructor(minRemainingMs: number, mode: Mode) {
    this.#minRemainingMs = minRemainingMs;
    this.mode = mode;
  }

  reconfigure(fresh: DeadlineGuardPolicy): void {
    this.#minRemainingMs = fresh.#minRemainingMs;
  }

  modeFor(): Mode {
    return this.mode;
  }

  enter(inbound: InboundCall): ReturnType<Gate<InboundCall>["enter"]> {
    const { deadlineMs } = inbound;
    if (deadlineMs === Number.POSITIVE_INFINITY) return undefined;
    const leftMs = deadlineMs - inbound.nowMs;
    if (leftMs <= 0) {
      this.#expired += 1;
      return refusal("DEADLINE_EXPIRED", "the deadline had passed when the call arrived");
    }
    const minRemainingMs = this.#minRemainingMs;
    if (leftMs >= minRemainingMs) return undefined;
    this.#infeasible += 1;
    const detail = `${Math.floor(leftMs)} ms are left, ${minRemainingMs} ms are needed`;
    return refusal("DEADLINE_INFEASIBLE", detail);
  }

  snapshot(): DeadlineGuardSnapshot {
    return { expired: this.#expired, infeasible: this.#infeasible };
  }
}

/** What the feasibility policy needs to know of its server. */
export interface GuardedServer {
  /** The server is loaded, or sheds load: how long handlers run now is not how long they usually run. */
  readonly shedding: boolean;
  /** How long a call that is read now has waited for the event loop on average, in milliseconds. */
  readonly lostMs: number;
}

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/deadline-guard.md */
export interface FeasibilitySnapshot {
  /** Calls that were refused, or would have been. Only grows. */
  readonly infeasible: number;
  /** Infeasible calls that were let through, so that the policy can learn that it is wrong. Only grows. */
  readonly passed: number;
  /** The time that calls must have left, in milliseconds, by method. */
  readonly neededMs: Readonly<Record<string, number>>;
}

/**
 * Refuses calls that have less time left than their handlers usually need, with DEADLINE_EXCEEDED (reason
 * `DEADLINE_INFEASIBLE`). It also sets `neededMs` of the call, by which admission refuses a call that waited for too long.
 *
 * grpc-js counts the time until the deadline from when it reads the call. What the call has waited before that, for a busy
 * event loop, is taken off.
 */
export class FeasibilityPolicy implements ControlledPolicy, Gate<InboundCall> {
  readonly policy = "feasibility";
  readonly neverQueues = true;
  mode: Mode;
  readonly #feasibility: Feasibility;
  readonly #server: GuardedServer;
  #infeasible = 0;
  #passed = 0;

  constructor(
    options: ResolvedFeasibilityOptions,
    server: GuardedServer,
    { clock, random }: Environment,
    mode: Mode,
  ) {
    this.mode = mode;
    this.#server = server;
    this.#feasibility = new Feasibility(options, clock, random);
  }

  reconfigure(fresh: FeasibilityPolicy): void {
    this.#feasibility.reconfigure(fresh.#feasibility);
  }

  modeFor({ method, kind }: InboundCall): Mode {
    // How long a stream of responses lasts is no measure of whether another one is worth opening.
    const measured = kind === "unary" || kind === "client-stream";
    return measured && !isExempt(method) ? this.mode : "off";
  }

  enter(inbound: InboundCall): Permit | Refusal {
    const { deadlineMs, method } = inbound;
    if (deadlineMs !== Number.POSITIVE_INFINITY) {
      const neededMs = this.#feasibility.neededMs(method, inbound.nowMs);
      if (this.mode === "enforce") inbound.neededMs = neededMs;
      if (neededMs > 0) {
        const leftMs = deadlineMs - inbound.nowMs - this.#server.lostMs;
        if (leftMs < neededMs) {
          if (!this.#feasibility.passes()) return this.#refuse(leftMs, neededMs);
          this.#passed += 1;
          inbound.neededMs = 0;
        }
      }
    }
    return new Lesson(this.#feasibility, this.#server, inbound);
  }

  snapshot(): FeasibilitySnapshot {
    return {
      infeasible: this.#infeasible,
      passed: this.#passed,
      neededMs: this.#feasibility.snapshot(),
    };
  }

  #refuse(leftMs: number, neededMs: number): Refusal {
    this.#infeasible += 1;
    const left = Math.max(0, Math.floor(leftMs));
    const needed = Math.ceil(neededMs);
    const detail = `${left} ms are left, ${needed} ms are needed, judging by how long such calls took`;
    return refusal("DEADLINE_INFEASIBLE", detail);
  }
}

/** How long the answer of a handler is waited for whose caller has left, in milliseconds. */
const lateMs = 60_000;

/** The permit of one call. Its end is recorded as the time of its handler. */
class Lesson extends OncePermit {
  readonly #feasibility: Feasibility;
  readonly #server: GuardedServer;
  readonly #inbound: InboundCall;

  constructor(feasibility: Feasibility, server: GuardedServer, inbound: InboundCall) {
    super();
    this.#feasibility = feasibility;
    this.#server = server;
    this.#inbound = inbound;
  }

  protected onSettle(outcome: Outcome, ending: Ending | undefined): void {
    const startedMs = this.#inbound.handlerStartedMs;
    if (startedMs === undefined || this.#server.shedding) return;
    // The caller has left. How long its handler runs is known when it answers, if it does.
    if (ending?.worksOn !== undefined) {
      ending.worksOn(lateMs, (ended) => ended && this.#learn(startedMs, this.#inbound.clock.now()));
    } else if (outcome !== "ignored") this.#learn(startedMs, this.#inbound.doneAtMs);
  }

  #learn(startedMs: number, nowMs: number): void {
    this.#feasibility.record(this.#inbound.method, nowMs - startedMs, nowMs);
  }
}

/** The deadline guard of a server, with what it learns of handlers. */
export interface DeadlineGuardPolicyOptions
  extends DeadlineGuardOptions,
    Pick<ServerPolicyOptions, "mode"> {
  /**
   * Refuses calls that have less time left than their handlers usually need. In mode `observe`, the default, it learns, and
   * records what it would refuse. `false` leaves it out.
   * @defaultValue on, with the defaults of `FeasibilityOptions`, in mode `observe`
   */
  readonly learned?: (FeasibilityOptions & Pick<ServerPolicyOptions, "mode">) | false;
}

/** The deadline guard, and the feasibility policy behind it unless that is left out. */
export function deadlineGuards(
  given: DeadlineGuardPolicyOptions,
  server: GuardedServer,
  environment: Environment,
  prefix: string,
): readonly (DeadlineGuardPolicy | FeasibilityPolicy)[] {
  const options = readOptions(prefix, given, ["mode", "minRemainingMs", "learned"]);
  const { mode = "enforce", learned = {}, ...rest } = options;
  const guard = new DeadlineGuardPolicy(
    resolveMinRemainingMs(rest, prefix),
    oneOf(`${prefix}.mode`, mode, modes),
  );
  const path = `${prefix}.learned`;
  const learning = unlessFalse(path, learned, (option, value) => readOptions(option, value));
  if (learning === false) return [guard];
  const { mode: learnedMode = "observe", ...numbers } = learning;
  const resolved = resolveFeasibilityOptions(numbers, path, ["mode"]);
  oneOf(`${path}.mode`, learnedMode, modes);
  return [guard, new FeasibilityPolicy(resolved, server, environment, learnedMode)];
}

/**
 * The deadline guard as an interceptor of its own. It learns nothing of handlers: `learned` needs a weir.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/deadline-guard.md
 */
export function deadlineGuard(
  options: DeadlineGuardOptions & ServerPolicyOptions & EnvironmentOptions = {},
): ServerInterceptor {
  const { mode, environment, priority, rest } = splitServerOptions(options, "deadlineGuard");
  const policy = new DeadlineGuardPolicy(
    resolveMinRemainingMs(rest, "deadlineGuard", ["mode", "priority", ...environmentOptionNames]),
    mode,
  );
  return serverPipeline(environment, { priority, gates: [policy] });
}
