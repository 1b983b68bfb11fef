import {
  type Interceptor,
  Metadata,
  type NextCall,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import { type CancelTask, expireAt } from "../../core/clock.js";
import { optionalFunction } from "../../core/options.js";
import type { Attempt } from "../../grpc/client/attempt.js";
import { interceptorOf, type Layer, segmentOf } from "../../grpc/client/parts.js";
import { PipelineCall, type Segment } from "../../grpc/client/pipeline-call.js";
import {
  type KeyedCall,
  type PolicyOptions,
  type StandaloneOptions,
  splitOptions,
} from "../../grpc/client/policy.js";
import {
  type AttemptRecord,
  attemptOf,
  type OptionsWithRecord,
} from "../../grpc/context/call-record.js";
import { CallDeadline, toMonotonic } from "../../grpc/deadline.js";
import type { Environment } from "../../grpc/environment.js";
import { delayText, endText, FaultsPolicy, faultStatus } from "../../grpc/faults.js";
import { Failure } from "../../grpc/status/outcome.js";
import type { Fault, FaultKind } from "./faults.js";
import { type FaultEnd, type FaultOptions, resolveFaultOptions } from "./options.js";

/**
 * An attempt, for the predicate `when` of a client's faults.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/faults.md
 */
export interface FaultCall extends KeyedCall {
  /** 1 for the first attempt of its call. */
  readonly attempt: number;
}

/**
 * Which faults are injected into the attempts of a client.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/faults.md
 */
export interface FaultsPolicyOptions extends FaultOptions, Pick<PolicyOptions, "mode"> {
  /** Which attempts may get a fault. If it throws, that is reported, and the attempt gets none. @defaultValue all */
  readonly when?: (call: FaultCall) => boolean;
}

/** `content-type` of a trailers-only answer: its metadata holds the HTTP headers too. */
const trailersOnlyType = "application/grpc+proto";
/** The text of grpc-js for a connection that broke. */
const droppedText = "Connection dropped";

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function faultsPolicy(
  options: FaultsPolicyOptions,
  environment: Environment,
  prefix: string,
): FaultsPolicy<FaultCall> {
  const { when, ...others } = options;
  const { own, rest } = splitOptions(others, prefix);
  const resolved = resolveFaultOptions(rest, "client", prefix, ["mode", "when"]);
  optionalFunction(`${prefix}.when`, when);
  return new FaultsPolicy(resolved, when, environment, own.mode);
}

/**
 * The layer of a client's faults. It is the innermost one, so that to every policy an injected fault is the server's.
 * `undefined` where the environment of the process does not allow faults.
 */
export function faultsLayer(
  environment: Environment,
  policy: FaultsPolicy<FaultCall>,
): Layer | undefined {
  if (!policy.enabled) return undefined;
  const segment = segmentOf(environment);
  return (options, nextCall) => {
    if (policy.mode === "off") return nextCall(options);
    return new FaultyCall(options, nextCall, segment, policy);
  };
}

class FaultyCall extends PipelineCall {
  readonly #attempt: AttemptRecord;
  readonly #policy: FaultsPolicy<FaultCall>;
  /** The mode when the attempt began: a change of mode does not affect attempts that run. */
  readonly #enforced: boolean;
  /** The fault that is injected into the response, once that has come so far. */
  #awaited: Extract<FaultEnd, { kind: "reset" | "midStream" }> | undefined;
  #forwarded = false;
  #messages = 0;
  readonly #timers: CancelTask[] = [];

  constructor(
    options: OptionsWithRecord,
    nextCall: NextCall,
    segment: Segment,
    policy: FaultsPolicy<FaultCall>,
  ) {
    super(options, nextCall, segment);
    this.#attempt = attemptOf(options, this.record, this.record.clock.now());
    this.#policy = policy;
    this.#enforced = policy.mode === "enforce";
  }

  protected override begin(): void {
    const policy = this.#policy;
    const { metadata } = this;
    const { method, kind, target, priority } = this.record;
    const call = { method, kind, target, priority, metadata, attempt: this.#attempt.number };
    const fault = policy.concerns(call) ? policy.draw() : undefined;
    if (fault === undefined) {
      this.#forward();
      return;
    }
    if (fault.delayMs === undefined) {
      this.#strike(fault.end);
      return;
    }
    this.#note("latency", delayText(fault));
    // An observer of the decision may have cancelled the call.
    if (this.ended) return;
    if (this.#enforced) this.#delay(fault, fault.delayMs);
    else this.#strike(fault.end);
  }

  #delay({ end }: Fault, delayMs: number): void {
    this.#hold();
    this.keepMetadata();
    const goOn = () => {
      this.#letGo();
      this.#strike(end);
    };
    this.#timers.push(this.record.clock.schedule(delayMs, goOn));
  }

  #strike(end: FaultEnd | undefined): void {
    if (end === undefined) {
      this.#forward();
      return;
    }
    if (end.kind === "midStream" || (end.kind === "reset" && end.at === "response")) {
      this.#awaited = end;
      this.#forward();
      return;
    }
    this.#note(end.kind, endText(end));
    if (this.ended) return;
    if (!this.#enforced) {
      this.#forward();
      return;
    }
    if (end.kind === "drop") this.#hold();
    else if (end.kind === "reset") this.finish(resetStatus());
    else {
      const answer = faultStatus(end);
      // Marks a trailers-only answer, as which the status of a server is known.
      answer.metadata.set("content-type", trailersOnlyType);
      this.finish(answer);
    }
  }

  #forward(): void {
    this.#forwarded = true;
    super.begin();
  }

  /** There is no call below that would end: the deadline and the closing of the weir are watched here. */
  #hold(): void {
    const { clock, connection } = this.record;
    this.#policy.hold(this.#end);
    this.steps.pendingCalls.enter(this.#end, connection);
    // A deadline of this kind is watched by a layer above, which ends the call.
    if (this.options.deadline instanceof CallDeadline) return;
    const nowMs = clock.now();
    const dueMs = toMonotonic(this.options.deadline, clock, nowMs) ?? Number.POSITIVE_INFINITY;
    if (dueMs === Number.POSITIVE_INFINITY) return;
    const leftMs = Math.max(0, dueMs - nowMs);
    this.#timers.push(expireAt(clock, dueMs, leftMs, () => this.#expire()));
  }

  #letGo(): void {
    for (const stop of this.#timers.splice(0)) stop();
    this.#policy.release(this.#end);
    this.steps.pendingCalls.leave(this.#end);
  }

  protected override released(): void {
    this.#letGo();
  }

  readonly #end = (status = resetStatus()): void => this.finish(status);

  /** Ends the call in the words of grpc-js, which would have ended it. */
  #expire(): void {
    const seconds = (this.record.clock.now() - this.record.startedAtMs) / 1000;
    const details = `Deadline exceeded after ${seconds.toFixed(3)}s`;
    this.finish({ code: Status.DEADLINE_EXCEEDED, details, metadata: new Metadata() });
  }

  override getPeer(): string {
    // If it were the target, an attempt that a fault answers would pass for one that has found no server.
    return this.#forwarded ? super.getPeer() : "unknown";
  }

  override attemptMetadata(attempt: Attempt, metadata: Metadata): void {
    const awaited = this.#awaited;
    if (awaited?.kind === "reset") this.#break(awaited);
    super.attemptMetadata(attempt, metadata);
    const single = !this.options.method_definition.responseStream;
    if (awaited?.kind === "midStream" && (single || awaited.afterMessages === 0)) {
      this.#break(awaited);
    }
  }

  override attemptMessage(attempt: Attempt, message: unknown): void {
    super.attemptMessage(attempt, message);
    const awaited = this.#awaited;
    if (awaited?.kind !== "midStream") return;
    this.#messages += 1;
    if (this.#messages >= awaited.afterMessages) this.#break(awaited);
  }

  protected override afterAttempt(attempt: Attempt, status: StatusObject): void {
    const awaited = this.#awaited;
    if (awaited?.kind === "reset" && this.#isAnswer(attempt, status)) this.#break(awaited);
    this.conclude(status, attempt);
  }

  /** Whether a server has answered, by a status alone. */
  #isAnswer(attempt: Attempt, status: StatusObject): boolean {
    const { target } = this.record;
    const failure = Failure.read(status, { sawHeaders: false, peer: attempt.getPeer(), target });
    return failure === undefined || failure.origin === "remote";
  }

  /** Ends the call, which then hands on nothing more. While faults are only observed, it goes on. */
  #break(end: Extract<FaultEnd, { kind: "reset" | "midStream" }>): void {
    this.#awaited = undefined;
    if (this.ended) return;
    this.#note(end.kind, endText(end));
    if (this.#enforced) this.finish(end.kind === "reset" ? resetStatus() : faultStatus(end));
  }

  #note(kind: FaultKind, detail: string): void {
    const enforced = this.#enforced;
    if (enforced) this.#attempt.faults = [...(this.#attempt.faults ?? []), kind];
    this.#policy.note(kind, detail, this.record.clock.now(), enforced, this.record);
  }
}

function resetStatus(): StatusObject {
  return { code: Status.UNAVAILABLE, details: droppedText, metadata: new Metadata() };
}

/**
 * Fault injection as an interceptor of its own, to try out policies, deadlines and callers. Put it innermost. It does
 * nothing unless the environment variable `GRPC_WEIR_FAULTS` is `1` when it is built.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/faults.md
 */
export function faults(options: FaultsPolicyOptions & StandaloneOptions): Interceptor {
  const { environment } = splitOptions(options, "faults");
  const policy = faultsPolicy(options, environment, "faults");
  if (!policy.enabled) return (given, nextCall) => nextCall(given) as ReturnType<Interceptor>;
  return interceptorOf(environment, faultsLayer(environment, policy));
}
