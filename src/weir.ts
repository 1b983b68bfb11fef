import type { CallOptions, ClientOptions, ServerOptions } from "@grpc/grpc-js";
import type { ObservedReport, PolicyControl } from "./core/control.js";
import { InvalidOptionError, isRecord, oneOf, readOptions } from "./core/options.js";
import { OptionsCopy } from "./core/options-copy.js";
import { priorities } from "./core/priority.js";
import { safely } from "./core/user-code.js";
import { WeakList } from "./core/weak-list.js";
import { type CallOverrides, withOverrides } from "./grpc/context/call-record.js";
import {
  type Environment,
  type EnvironmentOptions,
  environmentOf,
  environmentOptionNames,
} from "./grpc/environment.js";
import type { PriorityCounts } from "./grpc/server/priority.js";
import { type Guard, type GuardSnapshot, Guards } from "./guard/guard.js";
import type { GuardOptions } from "./guard/options.js";
import {
  ClientPolicies,
  type ClientPolicy,
  clientOptions,
  clientPipeline,
} from "./pipeline/client.js";
import { type ControlledName, PolicyControls, type PolicySnapshots } from "./pipeline/controls.js";
import {
  LoadReport,
  type LoadReportOptions,
  type UtilizationRecorder,
} from "./pipeline/load-report.js";
import { ServerPolicies, type ServerPolicy } from "./pipeline/server.js";
import { serviceConfigConflicts } from "./pipeline/service-config-conflicts.js";
import type { BreakerControl } from "./policies/breaker/breakers.js";
import {
  type DrainableServer,
  type DrainOptions,
  type DrainReport,
  drainServer,
  type ResolvedDrainOptions,
  resolveDrainOptions,
} from "./policies/drain/server.js";
import type { FaultsControl } from "./policies/faults/faults.js";
import { spanLayers } from "./telemetry/client-spans.js";
import { guardSpans } from "./telemetry/guard-spans.js";
import {
  type ResolvedTelemetryOptions,
  resolveTelemetryOptions,
  type TelemetryOptions,
} from "./telemetry/options.js";
import { serverSpanInterceptor } from "./telemetry/server-spans.js";

export interface WeirOptions extends EnvironmentOptions {
  /** What is told to OpenTelemetry. @defaultValue spans, through the globals of `@opentelemetry/api` */
  readonly telemetry?: TelemetryOptions;
}

/** The numbers of all policies of a weir at one moment. */
export interface WeirSnapshot {
  /**
   * By policy; each has one entry for each client, server or method that it was built for and that is in use: policies
   * go with the options, clients and servers that use them.
   */
  readonly policies: PolicySnapshots;
  /** Client calls and guarded runs that wait in a queue or between two attempts. */
  readonly waiting: number;
  /** In the order of building. */
  readonly guards: readonly GuardSnapshot[];
  /** What callers of each server in use said of priorities that did not count. In the order of building. */
  readonly priorities: readonly PriorityCounts[];
}

/**
 * One weir owns the state of all policies of a process (or of a part of it), and is the hand on them. It
 * gives plain grpc-js options for clients and servers, with the pipelines in the right order.
 */
export class Weir {
  readonly #environment: Environment;
  readonly #telemetry: ResolvedTelemetryOptions;
  readonly #controls = new PolicyControls();
  readonly #servers = new WeakList<ServerPolicies>();
  /** What was built of a policy object, and what it said then. */
  readonly #clients = new WeakMap<
    ClientPolicy,
    { readonly said: OptionsCopy; readonly policies: ClientPolicies }
  >();
  readonly #reports: LoadReport[] = [];
  readonly #guards: Guards;
  readonly #drains = new WeakMap<DrainableServer, Promise<DrainReport>>();

  /** Made with `createWeir`. */
  constructor(environment: Environment, telemetry: ResolvedTelemetryOptions) {
    this.#environment = environment;
    this.#telemetry = telemetry;
    const spans = guardSpans(telemetry, environment.report);
    this.#guards = new Guards(environment, (built) => this.#controls.add(built), spans);
  }

  /**
   * Options for a grpc-js client: the toolkit's interceptors, with the user's own merged in. The user's
   * interceptors stand outside: they see one call, as they would without the toolkit.
   *
   * The options are good for any number of clients, which share the state of the policies (breakers, bulkheads and so on,
   * by target). So do clients whose options were made of the same policy object, as long as it says the same. Policies of
   * an object that nobody else holds go with the last client, or options, that use them.
   *
   * @param own Options that would have been given to the client otherwise. Give them here: a spread over the
   *   result could replace the toolkit's interceptors.
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  client(policy: ClientPolicy = {}, own: ClientOptions = {}): ClientOptions {
    checkOwn("client.own", own, ["interceptors", "interceptor_providers"]);
    const policies = this.#policiesOf(policy);
    const environment = { ...this.#environment, resets: policies.resets };
    for (const conflict of serviceConfigConflicts(own, policy)) {
      safely(environment.report, new Error(conflict), "client options");
    }
    const spans = spanLayers(environment, this.#telemetry);
    return clientOptions(own, clientPipeline(policies, environment, spans), environment);
  }

  #policiesOf(policy: ClientPolicy): ClientPolicies {
    const known = this.#clients.get(policy);
    if (known?.said.saysSame(policy) === true) return known.policies;
    const policies = new ClientPolicies(policy, this.#environment);
    this.#controls.add(policies.built);
    this.#clients.set(policy, { said: new OptionsCopy(policy), policies });
    return policies;
  }

  /**
   * Options for a grpc-js server: the toolkit's interceptors nearest the wire, the user's own behind them,
   * next to the handlers.
   *
   * @param own Options that would have been given to the server otherwise.
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  server(policy: ServerPolicy = {}, own: ServerOptions = {}): ServerOptions {
    checkOwn("server.own", own, ["interceptors"]);
    const policies = new ServerPolicies(policy, this.#environment);
    this.#controls.add(policies.built);
    this.#servers.add(policies);
    const span = serverSpanInterceptor(this.#environment, this.#telemetry);
    return { ...own, interceptors: policies.pipeline(span, own.interceptors) };
  }

  /**
   * Options for one call. Interceptors in them are kept and so is the toolkit; `overrides` sets what grpc-js
   * has no option for.
   *
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  with(options: CallOptions, given: CallOverrides = {}): CallOptions {
    const overrides = readOptions("with", given, ["priority"]);
    if (overrides.priority !== undefined) {
      oneOf("with.priority", overrides.priority, priorities);
    }
    return withOverrides(options, overrides);
  }

  /**
   * Policies for what a handler calls that is no gRPC: a database pool, an HTTP client, a file. A name stands for one
   * guard: the first call builds it, and later ones find it, without options or with the same object.
   *
   * @throws InvalidOptionError naming the option, its rule and what it was given; and for a name that has been built
   *   with other options, or asked for before it was built.
   */
  guard<F = never>(name: string, options?: GuardOptions<F>): Guard<F> {
    return this.#guards.get(name, options);
  }

  /** The hand on all policies of a name: their mode, and their numbers. */
  policy(name: "breaker"): BreakerControl;
  policy(name: "faults"): FaultsControl;
  policy(name: ControlledName): PolicyControl;
  policy(name: ControlledName): PolicyControl {
    return this.#controls.get(name);
  }

  snapshot(): WeirSnapshot {
    return {
      policies: this.#controls.snapshot(),
      waiting: this.#environment.pendingCalls.size,
      guards: this.#guards.snapshot(),
      priorities: [...this.#servers].map(({ priority }) => priority.counts),
    };
  }

  /**
   * What the policies that observe would have refused, by policy and reason, and how those calls ended all the same:
   * those that ended well would have been lost.
   */
  observed(): ObservedReport {
    return this.#environment.observed.snapshot();
  }

  /**
   * Takes a server out of service without losing a call: its health services say NOT_SERVING, calls that come or wait are
   * refused with UNAVAILABLE (reason `DRAINING`, which clients may send again whatever the method), calls in flight may
   * end within `graceMs`, and the server is shut down. All servers of this weir stop admitting; outbound calls go on.
   *
   * It never takes longer than `noticeMs` and `graceMs` and a moment, whoever is connected. What goes wrong on the way is
   * told in the report and to `onError`, and stops nothing. Asked again for the same server, as by a second SIGTERM, it
   * answers with the drain that is under way or done.
   *
   * @throws InvalidOptionError (as a rejection) naming the option, its rule and what it was given.
   */
  drain(server: DrainableServer, options: DrainOptions = {}): Promise<DrainReport> {
    const known = this.#drains.get(server);
    if (known !== undefined) return known;
    let resolved: ResolvedDrainOptions;
    try {
      resolved = resolveDrainOptions(server, options);
    } catch (error) {
      return Promise.reject(error);
    }
    const servers = [...this.#servers];
    const drained = {
      gates: servers.map(({ drain }) => drain),
      stop: () => {
        for (const each of servers) each.stop();
      },
    };
    const result = drainServer(server, drained, resolved, this.#environment);
    this.#drains.set(server, result);
    return result;
  }

  /**
   * Tells a recorder of ORCA load reports (`ServerMetricRecorder` of grpc-js) how much of their capacity the servers of
   * this weir use, so that clients that balance by weight (gRFC A58) give each server what it can bear.
   *
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  reportLoad(recorder: UtilizationRecorder, options: LoadReportOptions = {}): void {
    const { clock, report } = this.#environment;
    this.#reports.push(new LoadReport(recorder, this.#servers, options, clock, report));
  }

  /**
   * Ends what waits and takes on nothing more: client calls and guarded runs that wait or are made from now on end with
   * UNAVAILABLE (reason `CLOSED`), inbound calls with UNAVAILABLE (reason `DRAINING`).
   * Calls on the wire and guarded work are left to end. Close servers and clients yourself.
   */
  close(): void {
    this.#environment.pendingCalls.close();
    for (const server of this.#servers) server.close();
    for (const report of this.#reports) report.close();
  }
}

/**
 * Creates a weir.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function createWeir(given: WeirOptions = {}): Weir {
  const options = readOptions("createWeir", given, [...environmentOptionNames, "telemetry"]);
  const { telemetry, ...environment } = options;
  return new Weir(
    environmentOf(environment, "createWeir"),
    resolveTelemetryOptions(telemetry, "createWeir.telemetry"),
  );
}

/**
 * Checks the interceptors among the user's own options of a client or server. grpc-js would fail at the first call only.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
function checkOwn(option: string, own: object, lists: readonly string[]): void {
  if (!isRecord(own)) throw new InvalidOptionError(option, "an object of options", own);
  for (const name of lists) {
    const list = own[name];
    if (list === undefined) continue;
    if (!Array.isArray(list) || list.some((entry) => typeof entry !== "function")) {
      throw new InvalidOptionError(`${option}.${name}`, "an array of functions", list);
    }
  }
}
