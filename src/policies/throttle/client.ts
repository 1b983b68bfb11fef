import type { Interceptor } from "@grpc/grpc-js";
import { AnnouncedLevel, isRefusedAt, placeOf } from "../../core/admission-level.js";
import type { Clock } from "../../core/clock.js";
import type { ControlledPolicy, Mode } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import type { Gauges } from "../../core/gauges.js";
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
import type { ClientPassage } from "../../grpc/client/attempt.js";
import { interceptorOf } from "../../grpc/client/parts.js";
import {
  gatesPart,
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

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/throttle.md */
export type ThrottlePolicyOptions = ThrottleOptions & PolicyOptions;

/**
 * Numbers of one key of a throttle policy.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/throttle.md
 */
export interface ThrottlePolicySnapshot extends ThrottleSnapshot {
  /** Calls that were held back because the target had announced that it would refuse them. Only grows. */
  readonly heldBack: number;
  /**
   * The level from which on the target announces to refuse unary calls, while that holds: 1 for `high` and below, 2 for
   * `normal` and below, 3 for `low`.
   */
  readonly level: number | undefined;
  /** The same for streams. */
  readonly streamLevel: number | undefined;
}

/**
 * Numbers of the throttles of one policy.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/throttle.md
 */
export interface ThrottlesSnapshot {
  /** By key, which is the target of a call unless `key` says otherwise. */
  readonly throttles: Readonly<Record<string, ThrottlePolicySnapshot>>;
}

/** What is known of one target: from its refusals, and from the levels that it announces for unary calls and for streams. */
interface Target {
  readonly throttle: Throttle;
  readonly calls: AnnouncedLevel;
  readonly streams: AnnouncedLevel;
  heldBack: number;
}

/** The place of a call whose priority the server decides: no level applies to it. */
const unmarked = -1;

/** The throttles of a client by key: the target, unless `key` says otherwise. */
class ThrottlePolicy implements ControlledPolicy, Gate<ClientPassage> {
  readonly policy = "throttle";
  mode: Mode;
  #options: ResolvedThrottleOptions;
  readonly #clock: Clock;
  readonly #targets: Keyed<Target>;
  #keyOf: (record: CallRecord) => string;

  constructor(options: ResolvedThrottleOptions, own: PolicyOptions, environment: Environment) {
    this.mode = own.mode ?? "enforce";
    this.#options = options;
    const { clock, random, report } = environment;
    this.#clock = clock;
    this.#keyOf = keyFunction(own, ({ target }) => target, report, "throttle.key");
    this.#targets = new Keyed(() => ({
      throttle: new Throttle(this.#options, clock, random),
      calls: new AnnouncedLevel(this.#options.passShare, random),
      streams: new AnnouncedLevel(this.#options.passShare, random),
      heldBack: 0,
    }));
  }

  reconfigure(fresh: ThrottlePolicy): void {
    this.#options = fresh.#options;
    this.#keyOf = fresh.#keyOf;
    for (const [, { throttle, calls, streams }] of this.#targets.entries()) {
      throttle.reconfigure(fresh.#options);
      calls.passShare = fresh.#options.passShare;
      streams.passShare = fresh.#options.passShare;
    }
  }

  modeFor(): Mode {
    return this.mode;
  }

  enter(passage: ClientPassage): Permit | Refusal {
    const { record } = passage;
    const target = this.#targets.get(this.#keyOf(record));
    const announcedLevel = record.kind === "unary" ? target.calls : target.streams;
    const rank = priorityRank[record.priority ?? "normal"];
    const place = record.priority === undefined ? unmarked : placeOf(rank);
    const heldBack = this.#refuseByLevel(target, announcedLevel, place);
    if (this.mode === "enforce") {
      const entry = heldBack ?? target.throttle.acquire(rank);
      return isRefusal(entry) ? entry : this.#listening(passage, announcedLevel, place, entry);
    }
    // The call goes on. A refusal is only reported, and the call counts by its end.
    const refused = heldBack ?? target.throttle.check(rank);
    if (refused !== undefined) passage.wouldRefuse(refused, "throttle");
    return this.#listening(passage, announcedLevel, place, target.throttle.pass(rank));
  }

  measure(gauges: Gauges): void {
    for (const [key, { throttle }] of this.#targets.entries()) {
      const { rejectRatio } = throttle.snapshot();
      for (const priority of priorities) {
        gauges.note("throttle", rejectRatio[priority], { key, priority });
      }
    }
  }

  snapshot(): ThrottlesSnapshot {
    const nowMs = this.#clock.now();
    const entries = [...this.#targets.entries()].map(([key, target]) => {
      const { throttle, calls, streams, heldBack } = target;
      const levels = { level: calls.level(nowMs), streamLevel: streams.level(nowMs) };
      return [key, { ...throttle.snapshot(), heldBack, ...levels }] as const;
    });
    return { throttles: Object.fromEntries(entries) };
  }

  #refuseByLevel(
    target: Target,
    announcedLevel: AnnouncedLevel,
    place: number,
  ): Refusal | undefined {
    // The usual case, without a level, reads no clock.
    if (announcedLevel.silent) return undefined;
    const nowMs = this.#clock.now();
    const leftMs = announcedLevel.holdsBackMs(place, nowMs);
    if (leftMs === undefined) return undefined;
    target.heldBack += 1;
    const first = priorities[Math.floor(announcedLevel.level(nowMs) ?? place)];
    return refusal("SERVER_SHEDDING", `the server refuses calls from ${first} on`, leftMs);
  }

  #listening(
    passage: ClientPassage,
    announcedLevel: AnnouncedLevel,
    place: number,
    held: Permit,
  ): Permit {
    if (!this.#options.collaborative) return held;
    return new ListeningPermit(passage, announcedLevel, place, held, this.#clock);
  }
}

/** A permit that also reads the level that the server announces in its answer. */
class ListeningPermit extends OncePermit {
  readonly #passage: ClientPassage;
  readonly #announcedLevel: AnnouncedLevel;
  readonly #place: number;
  readonly #held: Permit;
  readonly #clock: Clock;

  constructor(
    passage: ClientPassage,
    announcedLevel: AnnouncedLevel,
    place: number,
    held: Permit,
    clock: Clock,
  ) {
    super();
    this.#passage = passage;
    this.#announcedLevel = announcedLevel;
    this.#place = place;
    this.#held = held;
    this.#clock = clock;
  }

  protected onSettle(outcome: Outcome, ending: Ending | undefined): void {
    const { trailers } = this.#passage;
    const announced = trailers === undefined ? undefined : readAdmission(trailers);
    if (announced !== undefined) {
      this.#announcedLevel.note(announced, this.#clock.now());
      // The level explains the refusal. Counted by the throttle too, the refusal would outlast the level by a window.
      if (ending?.unserved === "shed" && isRefusedAt(this.#place, announced.level)) {
        this.#held.settle("ignored");
        return;
      }
    } else if (trailers !== undefined) this.#announcedLevel.noteNone();
    this.#held.settle(outcome, ending);
  }
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
 * The throttle as an interceptor of its own. It holds back attempts that their target would refuse. They end with
 * RESOURCE_EXHAUSTED: reason `THROTTLED`, or `SERVER_SHEDDING` with the time for which the announced level holds. Put it
 * below `retry`, so that it sees attempts, and behind `context`, so that it sees priorities.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/throttle.md
 */
export function throttle(options: ThrottlePolicyOptions & StandaloneOptions = {}): Interceptor {
  const { environment, rest } = takeStandalone(options, "throttle");
  const policy = throttlePolicy(rest, environment, "throttle");
  return interceptorOf(environment, gatesPart([policy]));
}
