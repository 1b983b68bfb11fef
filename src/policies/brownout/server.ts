import type { ServerInterceptor } from "@grpc/grpc-js";
import type { ControlledPolicy, Mode } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import type { Gauges } from "../../core/gauges.js";
import { InvalidOptionError, optionalFunction } from "../../core/options.js";
import { cohorts } from "../../core/priority.js";
import { ask, reportSafely, yesNoOrNothing } from "../../core/user-code.js";
import type {
  CurrentCall,
  InboundCall,
  OptionalWorkJudge,
} from "../../grpc/context/inbound-call.js";
import type { Environment, EnvironmentOptions } from "../../grpc/environment.js";
import { serverPipeline } from "../../grpc/server/pipeline-call.js";
import { type ServerPolicyOptions, splitServerOptions } from "../../grpc/server/policy.js";
import type { Pressure } from "../pressure/options.js";
import {
  Brownout,
  type BrownoutOptions,
  type BrownoutSnapshot,
  resolveBrownoutOptions,
} from "./brownout.js";

/**
 * What a brownout flag sees of a call.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/brownout.md
 */
export type BrownoutCall = Pick<
  CurrentCall,
  "method" | "kind" | "peer" | "priority" | "previousAttempts"
>;

/**
 * The optional work of a server, and what decides when it is skipped.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/brownout.md
 */
export interface BrownoutPolicyOptions extends BrownoutOptions {
  /**
   * The pressure on the server, from 0 to 1. Called once for each call and name of work.
   * @defaultValue the load of its admission or the pressure that admission measures, whichever is higher
   */
  readonly pressure?: () => number;
  /**
   * The feature flag of a piece of work, for example from OpenFeature: `false` switches the work off, `true` keeps it on at
   * any pressure, `undefined` leaves it to the pressure. Called once for each call and name of work, and never awaited.
   * @defaultValue none
   */
  readonly flag?: (name: string, call: BrownoutCall) => boolean | undefined;
}

/** Unknown names that handlers ask for are reported once each, but no more than this many. */
const maxUnknown = 100;

/**
 * The brownout of one server. It refuses no call: it gives each call a judge, which handlers ask by
 * `currentCall()?.shouldSkip(name)`.
 */
export class BrownoutPolicy implements ControlledPolicy, Gate<InboundCall> {
  readonly policy = "brownout";
  readonly neverQueues = true;
  mode: Mode;
  readonly #brownout: Brownout;
  readonly #environment: Environment;
  readonly #flag: BrownoutPolicyOptions["flag"];
  readonly #unknown = new Set<string>();

  /**
   * @param pressure Used when the options have none.
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  constructor(
    options: BrownoutPolicyOptions & Pick<ServerPolicyOptions, "mode">,
    pressure: Pressure | undefined,
    environment: Environment,
    prefix = "brownout",
  ) {
    const { mode = "enforce", pressure: own, flag, ...rest } = options;
    const works = resolveBrownoutOptions(rest, prefix, ["pressure", "flag", "mode"]);
    optionalFunction(`${prefix}.pressure`, own);
    optionalFunction(`${prefix}.flag`, flag);
    if (own === undefined && flag === undefined && pressure === undefined) {
      const rule = "a function on a server without admission, unless there is a flag";
      throw new InvalidOptionError(`${prefix}.pressure`, rule, own);
    }
    this.mode = mode;
    this.#environment = environment;
    this.#flag = flag;
    const source = own === undefined ? (pressure ?? { now: () => 0 }) : { now: own };
    this.#brownout = new Brownout(works, source, environment.report);
  }

  /** The source of the pressure, and the flags, are functions of the code, and stay. */
  reconfigure(fresh: BrownoutPolicy): void {
    this.#brownout.reconfigure(fresh.#brownout);
  }

  modeFor(): Mode {
    return this.mode;
  }

  enter(inbound: InboundCall): undefined {
    inbound.optionalWork = new CallJudge(this, inbound);
  }

  measure(gauges: Gauges): void {
    gauges.note("brownout", this.#brownout.snapshot().pressure, {});
  }

  snapshot(): BrownoutSnapshot {
    return this.#brownout.snapshot();
  }

  /** Whether a name is among the options. An unknown one, which is misspelt or was forgotten there, is reported. */
  knows(name: string): boolean {
    if (this.#brownout.knows(name)) return true;
    // With a source of flags any name may be right: a flag can switch it off.
    if (this.#environment.flags !== undefined) return false;
    if (this.#unknown.has(name) || this.#unknown.size >= maxUnknown) return false;
    this.#unknown.add(name);
    const error = new Error(`No optional work is named ${JSON.stringify(name.slice(0, 80))}`);
    reportSafely(this.#environment.report, error, "currentCall().shouldSkip");
    return false;
  }

  marks(name: string): boolean {
    return this.#brownout.marks(name);
  }

  /** Decides about one piece of work for one call, and records the decision. */
  judge(name: string, inbound: InboundCall, chance: () => number): boolean {
    const { mode } = this;
    if (mode === "off") return false;
    const flag = this.#askFlag(name, inbound);
    const verdict = this.#brownout.judge(name, inbound.priority, flag, chance);
    if (verdict?.skip !== true) return false;
    const enforced = mode === "enforce";
    inbound.decide({
      policy: "brownout",
      verdict: "skip",
      reason: verdict.by === "flag" ? "BROWNOUT_FLAG" : "BROWNOUT_PRESSURE",
      enforced,
      atMs: inbound.clock.now(),
      detail: verdict.detail,
    });
    if (enforced && verdict.mark) inbound.degrade(name);
    return enforced;
  }

  get random(): Environment["random"] {
    return this.#environment.random;
  }

  #askFlag(name: string, inbound: InboundCall): boolean | undefined {
    const flag = this.#flag;
    if (flag === undefined) return undefined;
    const { report } = this.#environment;
    return ask(() => flag(name, inbound), yesNoOrNothing, undefined, report, "brownout.flag");
  }
}

/** The answers for one call. The same question gets the same answer. */
class CallJudge implements OptionalWorkJudge {
  readonly #policy: BrownoutPolicy;
  readonly #inbound: InboundCall;
  #answers: Map<string, boolean> | undefined;
  #chance: number | undefined;

  constructor(policy: BrownoutPolicy, inbound: InboundCall) {
    this.#policy = policy;
    this.#inbound = inbound;
  }

  shouldSkip(name: string): boolean {
    const answered = this.#answers?.get(name);
    if (answered !== undefined) return answered;
    // Answers are kept for known names only, so their number is bounded.
    if (!this.#policy.knows(name)) return false;
    this.#answers ??= new Map();
    // A flag, a pressure function or an observer may ask the same question. Until there is an answer, nothing is skipped.
    this.#answers.set(name, false);
    const answer = this.#policy.judge(name, this.#inbound, this.#draw);
    this.#answers.set(name, answer);
    return answer;
  }

  marks(name: string): boolean {
    return this.#policy.marks(name);
  }

  /** The random number of the call. The cohort comes first, so that in all services the same users go without. */
  readonly #draw = (): number => {
    this.#chance ??= (this.#inbound.cohort + this.#policy.random()) / cohorts;
    return this.#chance;
  };
}

/**
 * Brownout as an interceptor of its own. Put it behind `context`, which gives handlers the call that they ask. It needs a
 * `pressure` or a `flag`.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/brownout.md
 */
export function brownout(
  options: BrownoutPolicyOptions & ServerPolicyOptions & EnvironmentOptions,
): ServerInterceptor {
  const { mode, environment, priority, rest } = splitServerOptions(options, "brownout");
  const policy = new BrownoutPolicy({ ...rest, mode }, undefined, environment);
  return serverPipeline(environment, { priority, gates: [policy] });
}
