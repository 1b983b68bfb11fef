import type { Metadata, ServerInterceptor } from "@grpc/grpc-js";
import type { CancelTask } from "../../core/clock.js";
import { InvalidOptionError, optionalFunction } from "../../core/options.js";
import { refusal } from "../../core/permit.js";
import type { CurrentCall, InboundCall } from "../../grpc/context/inbound-call.js";
import type { Environment, EnvironmentOptions } from "../../grpc/environment.js";
import {
  delayText,
  endText,
  FaultsPolicy,
  faultStatus,
  faultsPermitted,
  readFault,
} from "../../grpc/faults.js";
import { ForwardingServerCall, intercepted } from "../../grpc/server/forwarding-call.js";
import {
  isExempt,
  type ServerPolicyOptions,
  splitServerOptions,
} from "../../grpc/server/policy.js";
import type { PriorityReader } from "../../grpc/server/priority.js";
import { inboundFor, type ServerMethod } from "../../grpc/server/record.js";
import { serverRejection } from "../../grpc/status/server-rejection.js";
import type { PartialStatus, ServerCall } from "../../grpc/types.js";
import type { Fault, FaultKind } from "./faults.js";
import { type FaultEnd, type FaultOptions, resolveFaultOptions } from "./options.js";

/**
 * A call, for the predicate `when` of a server's faults.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/faults.md
 */
export type FaultInbound = Pick<
  CurrentCall,
  "method" | "kind" | "peer" | "priority" | "previousAttempts"
>;

/**
 * Which faults are injected into the calls of a server.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/faults.md
 */
export interface ServerFaultsOptions extends Omit<FaultOptions, "reset"> {
  /**
   * Which calls may get a fault. If it throws, that is reported, and the call gets none.
   * @defaultValue all but health, reflection and channelz
   */
  readonly when?: (call: FaultInbound) => boolean;
  /**
   * Whether a call may ask for a fault in its metadata: `x-fault-delay-ms` (0 to 60,000) and `x-fault-status` (a
   * code, 1 to 16). It then gets that fault and no other. Everybody who reaches the server can ask, unless `when` says
   * otherwise. @defaultValue false
   */
  readonly headers?: boolean;
}

/** A fault of a response that has not come so far. */
interface AwaitedFault {
  readonly end: Extract<FaultEnd, { kind: "midStream" }>;
  readonly inbound: InboundCall;
}

/** The faults of a server. */
export class ServerFaultsPolicy extends FaultsPolicy<FaultInbound> {
  readonly policy = "faults";
  #headers: boolean;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(
    options: ServerFaultsOptions & Pick<ServerPolicyOptions, "mode">,
    environment: Environment,
    prefix: string,
  ) {
    const { mode, when, headers = false, ...rest } = options;
    const also = ["mode", "when", "headers"];
    const resolved = resolveFaultOptions(rest, "server", prefix, also);
    optionalFunction(`${prefix}.when`, when);
    if (typeof headers !== "boolean") {
      throw new InvalidOptionError(`${prefix}.headers`, "true or false", headers);
    }
    const others = ({ method }: FaultInbound) => !isExempt(method);
    super(resolved, when ?? others, environment, mode);
    this.#headers = headers;
  }

  override reconfigure(fresh: ServerFaultsPolicy): void {
    super.reconfigure(fresh);
    this.#headers = fresh.#headers;
  }

  /** The fault of a call: the one that it asks for, if it may, or else a drawn one. */
  faultFor(inbound: InboundCall, metadata: Metadata): Fault | undefined {
    if (!this.concerns(inbound)) return undefined;
    if (this.#headers) {
      const { delayMs, end } = readFault(metadata);
      if (delayMs !== undefined || end !== undefined) return this.admit(delayMs, end);
    }
    return this.draw();
  }
}

/**
 * The interceptor of a server's faults. None where the environment of the process does not allow faults.
 *
 * @param faults The faults at present.
 */
export function serverFaultsInterceptors(
  environment: Environment,
  priority: PriorityReader,
  faults: () => ServerFaultsPolicy | undefined,
): readonly ServerInterceptor[] {
  if (!faultsPermitted()) return [];
  return [
    (method, call) => {
      const policy = faults();
      if (policy?.enabled !== true || policy.mode === "off") return intercepted(call);
      const inboundOf = (metadata: Metadata) =>
        inboundFor(method, call, metadata, environment, priority);
      return intercepted(new FaultyServerCall(method, call, policy, inboundOf));
    },
  ];
}

class FaultyServerCall extends ForwardingServerCall {
  readonly #method: ServerMethod;
  readonly #policy: ServerFaultsPolicy;
  readonly #inboundOf: (metadata: Metadata) => InboundCall;
  /** The mode when the call arrived: a change of mode does not affect calls that run. */
  readonly #enforced: boolean;
  /** Ends the delay of a call that is held, or its wait without an answer. */
  #letGo: CancelTask = () => {};
  /** The fault that is injected into the response, once that has come so far. */
  #awaited: AwaitedFault | undefined;
  #messages = 0;
  #bytes = 0;
  /** The response has ended early: what the handler sends is dropped. */
  #broken = false;

  constructor(
    method: ServerMethod,
    below: ServerCall,
    policy: ServerFaultsPolicy,
    inboundOf: (metadata: Metadata) => InboundCall,
  ) {
    super(below);
    this.#method = method;
    this.#policy = policy;
    this.#enforced = policy.mode === "enforce";
    this.#inboundOf = inboundOf;
  }

  protected override begunWith(metadata: Metadata): void {
    const inbound = this.#inboundOf(metadata);
    const fault = this.#policy.faultFor(inbound, metadata);
    if (fault === undefined) {
      super.begunWith(metadata);
      return;
    }
    const { delayMs, end } = fault;
    if (delayMs === undefined) {
      this.#strike(end, inbound, metadata);
      return;
    }
    this.#note("latency", delayText(fault), inbound);
    const goOn = () => {
      this.#letGo();
      this.#strike(end, inbound, metadata);
    };
    if (this.#enforced) this.#hold(inbound, inbound.clock.schedule(delayMs, goOn));
    else goOn();
  }

  #strike(end: FaultEnd | undefined, inbound: InboundCall, metadata: Metadata): void {
    if (end === undefined) {
      super.begunWith(metadata);
      return;
    }
    if (end.kind === "midStream") {
      this.#awaited = { end, inbound };
      super.begunWith(metadata);
      return;
    }
    this.#note(end.kind, endText(end), inbound);
    if (!this.#enforced) super.begunWith(metadata);
    else if (end.kind === "status") {
      inbound.answeredByPolicy = true;
      this.refuse(faultStatus(end));
    } else {
      // Dropped; the options of a server refuse `reset`. The call ends in the usual ways: its deadline passes, or the
      // caller cancels it.
      this.#hold(inbound);
    }
  }

  #hold(inbound: InboundCall, stopTimer: CancelTask = () => {}): void {
    const closed = () => {
      this.#letGo();
      inbound.answeredByPolicy = true;
      this.refuse(serverRejection(refusal("DRAINING", "the server is about to go")));
    };
    this.#policy.hold(closed);
    this.#letGo = () => {
      stopTimer();
      this.#policy.release(closed);
    };
  }

  protected override endedNow(): void {
    this.#letGo();
    super.endedNow();
  }

  override sendMessage(message: unknown, callback: () => void): void {
    if (this.#broken) {
      process.nextTick(callback);
      return;
    }
    const awaited = this.#awaited;
    if (awaited === undefined) {
      super.sendMessage(message, callback);
      return;
    }
    const { afterMessages, afterBytes } = awaited.end;
    if (!this.#method.responseStream || afterMessages === 0 || afterBytes === 0) {
      if (this.#breaks(awaited)) {
        this.#break(awaited);
        process.nextTick(callback);
      } else super.sendMessage(message, callback);
      return;
    }
    this.#messages += 1;
    if (afterBytes !== Number.POSITIVE_INFINITY) this.#bytes += this.#sizeOf(message);
    const reached = this.#messages >= afterMessages || this.#bytes >= afterBytes;
    if (!reached || !this.#breaks(awaited)) {
      super.sendMessage(message, callback);
      return;
    }
    super.sendMessage(message, () => {
      callback();
      this.#break(awaited);
    });
  }

  protected override answerWith(status: PartialStatus): void {
    if (!this.#broken) super.answerWith(status);
  }

  /** False while faults are only observed: then the response goes on. */
  #breaks({ end, inbound }: AwaitedFault): boolean {
    this.#awaited = undefined;
    this.#note(end.kind, endText(end), inbound);
    this.#broken = this.#enforced;
    return this.#broken;
  }

  #break({ end, inbound }: AwaitedFault): void {
    // What is sent now is not the handler's answer.
    inbound.answeredByPolicy = true;
    // As after a lost connection, the handler's signal is aborted and its outbound calls are cancelled.
    inbound.finish("cancelled");
    super.answerWith(faultStatus(end));
  }

  /** Serialises the message once more, only for calls with such a fault. If that fails, the call below ends the call. */
  #sizeOf(message: unknown): number {
    try {
      return this.#method.responseSerialize(message).length;
    } catch {
      return 0;
    }
  }

  #note(kind: FaultKind, detail: string, inbound: InboundCall): void {
    this.#policy.note(kind, detail, inbound.clock.now(), this.#enforced, inbound);
  }
}

/**
 * Fault injection as an interceptor of its own. Put it last, next to the handlers. It does nothing unless the environment
 * variable `GRPC_WEIR_FAULTS` is `1` when it is built.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/faults.md
 */
export function faults(
  options: ServerFaultsOptions & ServerPolicyOptions & EnvironmentOptions,
): ServerInterceptor {
  const { mode, environment, priority, rest } = splitServerOptions(options, "faults");
  const policy = new ServerFaultsPolicy({ ...rest, mode }, environment, "faults");
  const [interceptor] = serverFaultsInterceptors(environment, priority, () => policy);
  return interceptor ?? ((_method, call) => intercepted(call));
}
