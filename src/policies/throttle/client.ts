import type { Interceptor } from "@grpc/grpc-js";
import { HeardLevel, isDoomed, placeOf } from "../../core/admission-level.js";
import type { Clock } from "../../core/clock.js";
import type { ControlledPolicy, Mode } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import { Keyed } from "../../core/keyed.js";
import {
  type Ending,
  isRefusal,
  OncePermit,
  type Outcome,
  type Permit,
  type Refusal,
  refusal,
} from "../../core/permit.js";
import { priorities, priorityRank } from "../../core/priority.js";
import type { ClientPassage } from "../../grpc/client/gated-call.js";
import { interceptorOf } from "../../grpc/client/layers.js";
import {
  gatesLayer,
  keyFunction,
  type PolicyOptions,
  policyOptionNames,
  type StandaloneOptions,
  splitOptions,
  takeStandalone,
} from "../../grpc/client/policy.js";
import type { CallRecord } from "../../grpc/context/call-record.js";
import type { Environment } from "../../grpc/environment.js";
import { readAdmission } from "../../grpc/metadata.js";
import {
  type ResolvedThrottleOptions,
  resolveThrottleOptions,
  type ThrottleOptions,
} from "./options.js";
import { Throttle, type ThrottleSnapshot } from "./throttle.js";

export type ThrottlePolicyOptions = ThrottleOptions & PolicyOptions;

/** Numbers of one key of a throttle policy. */
export interface ThrottlePolicySnapshot extends ThrottleSnapshot {
  /** Calls that were held back because the target said that it would refuse them. Only grows. */
  readonly heldBack: number;
  /** From which place on the target says that it refuses calls, while that holds. */
  readonly level: number | undefined;
  /** The same for streams. */
  readonly streamLevel: number | undefined;
}

/** What is known of one target: by its refusals, and by its own word, which is about calls or about streams. */
interface Target {
  readonly throttle: Throttle;
  readonly calls: HeardLevel;
  readonly streams: HeardLevel;
  heldBack: number;
}

/** The place of a call whose priority the server chooses: nobody's level is about it. */
const unmarked = -1;

/** Throttles by key: by target, unless the user names another key. */
export class ThrottlePolicy implements ControlledPolicy {
  mode: Mode;
  readonly #options: ResolvedThrottleOptions;
  readonly #clock: Clock;
  readonly #targets: Keyed<Target>;
  readonly #keyOf: (record: CallRecord) => string;

  constructor(options: ResolvedThrottleOptions, own: PolicyOptions, environment: Environment) {
    this.mode = own.mode ?? "enforce";
    this.#options = options;
    const { clock, random, report } = environment;
    this.#clock = clock;
    this.#keyOf = keyFunction(own, ({ target }) => target, report, "throttle.key");
    this.#targets = new Keyed(() => ({
      throttle: new Throttle(options, clock, random),
      calls: new HeardLevel(options.probeRatio, random),
      streams: new HeardLevel(options.probeRatio, random),
      heldBack: 0,
    }));
  }

  enter(passage: ClientPassage): Permit | Refusal {
    const { record } = passage;
    const target = this.#targets.get(this.#keyOf(record));
    const heard = record.kind === "unary" ? target.calls : target.streams;
    const rank = priorityRank[record.priority ?? "normal"];
    const place = record.priority === undefined ? unmarked : placeOf(rank);
    const heldBack = this.#heldBack(target, heard, place);
    if (this.mode === "enforce") {
      const entry = heldBack ?? target.throttle.acquire(rank);
      return isRefusal(entry) ? entry : this.#listening(passage, heard, place, entry);
    }
    // It goes on: what would have been done is only reported, and what the server does is counted.
    const refused = heldBack ?? target.throttle.check(rank);
    if (refused !== undefined) passage.wouldRefuse(refused, "throttle");
    return this.#listening(passage, heard, place, target.throttle.pass(rank));
  }

  snapshot(): Readonly<Record<string, ThrottlePolicySnapshot>> {
    const nowMs = this.#clock.now();
    const entries = [...this.#targets.entries()].map(([key, target]) => {
      const { throttle, calls, streams, heldBack } = target;
      const levels = { level: calls.level(nowMs), streamLevel: streams.level(nowMs) };
      return [key, { ...throttle.snapshot(), heldBack, ...levels }] as const;
    });
    return Object.fromEntries(entries);
  }

  #heldBack(target: Target, heard: HeardLevel, place: number): Refusal | undefined {
    // While the target says nothing, no clock is read for it.
    if (heard.silent) return undefined;
    const nowMs = this.#clock.now();
    const leftMs = heard.holdsBackMs(place, nowMs);
    if (leftMs === undefined) return undefined;
    target.heldBack += 1;
    const first = priorities[Math.floor(heard.level(nowMs) ?? place)];
    return refusal("SERVER_SHEDDING", `it refuses calls from ${first} on`, leftMs);
  }

  #listening(passage: ClientPassage, heard: HeardLevel, place: number, held: Permit): Permit {
    if (!this.#options.collaborative) return held;
    return new ListeningPermit(passage, heard, place, held, this.#clock);
  }
}

/** A permit that also hears what the answer says of the server's admission. */
class ListeningPermit extends OncePermit {
  readonly #passage: ClientPassage;
  readonly #heard: HeardLevel;
  readonly #place: number;
  readonly #held: Permit;
  readonly #clock: Clock;

  constructor(
    passage: ClientPassage,
    heard: HeardLevel,
    place: number,
    held: Permit,
    clock: Clock,
  ) {
    super();
    this.#passage = passage;
    this.#heard = heard;
    this.#place = place;
    this.#held = held;
    this.#clock = clock;
  }

  protected onSettle(outcome: Outcome, ending: Ending | undefined): void {
    const { trailers } = this.#passage;
    const said = trailers === undefined ? undefined : readAdmission(trailers);
    if (said !== undefined) {
      this.#heard.hear(said, this.#clock.now());
      // The server has said whom it refuses. Held against it, that would outlast its word by a window.
      if (ending?.unserved === "shed" && isDoomed(this.#place, said.level)) {
        this.#held.settle("ignored");
        return;
      }
    } else if (trailers !== undefined) this.#heard.silence();
    this.#held.settle(outcome, ending);
  }
}

export function throttleGate(policy: ThrottlePolicy): Gate<ClientPassage> {
  return {
    policy: "throttle",
    modeFor: () => policy.mode,
    enter: (passage) => policy.enter(passage),
  };
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function throttlePolicy(
  options: ThrottlePolicyOptions,
  environment: Environment,
  prefix: string,
): ThrottlePolicy {
  const { own, rest } = splitOptions(options, prefix);
  const resolved = resolveThrottleOptions(rest, prefix, policyOptionNames);
  return new ThrottlePolicy(resolved, own, environment);
}

/**
 * Holds back attempts that their target would refuse, as an interceptor of its own. They end with RESOURCE_EXHAUSTED
 * (reason `THROTTLED`, or `SERVER_SHEDDING` with the time for which the server's word holds). Put it below `retry`, so
 * that it sees attempts, and `context` before it, so that it sees priorities.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function throttle(options: ThrottlePolicyOptions & StandaloneOptions = {}): Interceptor {
  const { environment, rest } = takeStandalone(options, "throttle");
  const policy = throttlePolicy(rest, environment, "throttle");
  return interceptorOf(environment, gatesLayer(environment, [throttleGate(policy)]));
}
