import type { ServerInterceptor } from "@grpc/grpc-js";
import { type FeasibilityOptions, resolveFeasibilityOptions } from "../core/feasibility.js";
import type { Gate } from "../core/gates.js";
import { type Mode, modes } from "../core/mode.js";
import { durationMs, oneOf, readOptions } from "../core/options.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import { refusal } from "../core/refusal.js";
import type { InboundCall } from "../grpc/inbound-call.js";
import {
  type Surroundings,
  type SurroundingsOptions,
  surroundingsOptionNames,
} from "../grpc/surroundings.js";
import { type ServerPolicyOptions, serverGate, splitServerOptions } from "./gates.js";
import { type GuardedServer, LearnedGuardPolicy } from "./learned-guard.js";

/** How much time a call must still have for its handler to be started. */
export interface DeadlineGuardOptions {
  /** Milliseconds that must be left until the caller's deadline. 0 to 24 days. @defaultValue 0 */
  readonly minRemainingMs?: number;
}

export type ResolvedDeadlineGuardOptions = Readonly<Required<DeadlineGuardOptions>>;

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
function resolveDeadlineGuardOptions(
  given: DeadlineGuardOptions = {},
  prefix = "deadlineGuard",

  also: readonly string[] = [],
): ResolvedDeadlineGuardOptions {
  const options = readOptions(prefix, given, ["minRemainingMs"], also);
  const { minRemainingMs = 0 } = options;
  return Object.freeze({ minRemainingMs: durationMs(`${prefix}.minRemainingMs`, minRemainingMs) });
}

/** Both only grow. */
export interface DeadlineGuardSnapshot {
  readonly expired: number;
  readonly infeasible: number;
}

/**
 * Keeps handlers from working for callers who have stopped waiting. grpc-js starts the handler of a call
 * whose deadline has passed already; this refuses it with DEADLINE_EXCEEDED (reason `DEADLINE_EXPIRED`, or
 * `DEADLINE_INFEASIBLE` when less than `minRemainingMs` is left).
 */
export class DeadlineGuardPolicy implements ControlledPolicy, Gate<InboundCall> {
  readonly policy = "deadline-guard";
  mode: Mode;
  readonly #options: ResolvedDeadlineGuardOptions;
  #expired = 0;
  #infeasible = 0;

  constructor(options: ResolvedDeadlineGuardOptions, mode: Mode = "enforce") {
    this.#options = options;
    this.mode = mode;
  }

  modeFor(): Mode {
    return this.mode;
  }

  enter(inbound: InboundCall): ReturnType<Gate<InboundCall>["enter"]> {
    const { deadlineMs } = inbound;
    if (deadlineMs === Number.POSITIVE_INFINITY) return undefined;
    const leftMs = deadlineMs - inbound.clock.now();
    if (leftMs <= 0) {
      this.#expired += 1;
      return refusal("DEADLINE_EXPIRED", "the deadline had passed when the call arrived");
    }
    const { minRemainingMs } = this.#options;
    if (leftMs >= minRemainingMs) return undefined;
    this.#infeasible += 1;
    const detail = `${Math.floor(leftMs)} ms are left, ${minRemainingMs} ms are needed`;
    return refusal("DEADLINE_INFEASIBLE", detail);
  }

  snapshot(): DeadlineGuardSnapshot {
    return { expired: this.#expired, infeasible: this.#infeasible };
  }
}

/** The deadline guard of a server, and what it learns. */
export interface DeadlineGuardPolicyOptions
  extends DeadlineGuardOptions,
    Pick<ServerPolicyOptions, "mode"> {
  /**
   * Refuses calls that have less time left than their handlers need as a rule. It learns from the first call on; what
   * it would refuse is only recorded, until its mode is `enforce`. `false` leaves it out.
   * @defaultValue on, with the defaults of `FeasibilityOptions`, in mode `observe`
   */
  readonly learned?: (FeasibilityOptions & Pick<ServerPolicyOptions, "mode">) | false;
}

/** Builds both parts. */
export function deadlineGuards(
  given: DeadlineGuardPolicyOptions,
  server: GuardedServer,
  surroundings: Surroundings,
  prefix: string,
): { readonly guard: DeadlineGuardPolicy; readonly learned: LearnedGuardPolicy | undefined } {
  const options = readOptions(prefix, given, ["mode", "minRemainingMs", "learned"]);
  const { mode = "enforce", learned = {}, ...rest } = options;
  const guard = new DeadlineGuardPolicy(
    resolveDeadlineGuardOptions(rest, prefix),
    oneOf(`${prefix}.mode`, mode, modes),
  );
  if (learned === false) return { guard, learned: undefined };
  const path = `${prefix}.learned`;
  const { mode: learnedMode = "observe", ...numbers } = readOptions(path, learned);
  const resolved = resolveFeasibilityOptions(numbers, path, ["mode"]);
  oneOf(`${path}.mode`, learnedMode, modes);
  return { guard, learned: new LearnedGuardPolicy(resolved, server, surroundings, learnedMode) };
}

/**
 * The deadline guard as an interceptor of its own. It refuses for what callers have left; what it could learn of
 * handlers, it learns in a weir.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function deadlineGuard(
  options: DeadlineGuardOptions & ServerPolicyOptions & SurroundingsOptions = {},
): ServerInterceptor {
  const { mode, surroundings, priority, rest } = splitServerOptions(options, "deadlineGuard");
  const policy = new DeadlineGuardPolicy(
    resolveDeadlineGuardOptions(rest, "deadlineGuard", [
      "mode",
      "priority",
      ...surroundingsOptionNames,
    ]),
    mode,
  );
  return serverGate(surroundings, priority, [policy]);
}
