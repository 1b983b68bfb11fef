import type {
  CallOptions,
  Channel,
  ChannelCredentials,
  ClientOptions,
  ServerOptions,
} from "@grpc/grpc-js";
import type { ControlledName, ObservedReport } from "./core/control.js";
import {
  InvalidOptionError,
  isRecord,
  oneOf,
  optionalFunction,
  readOptions,
} from "./core/options.js";
import { OptionsCopy, optionsNow } from "./core/options-copy.js";
import { priorities } from "./core/priority.js";
import {
  callSafely,
  notify,
  type Observer,
  type ReportError,
  reportSafely,
} from "./core/user-code.js";
import { WeakList } from "./core/weak-list.js";
import { InterceptedChannel } from "./grpc/channel/intercepted-channel.js";
import { noticeIfIgnored } from "./grpc/client/ignored-interceptors.js";
import { type CallOverrides, withOverrides } from "./grpc/context/call-record.js";
import type { FinishedCall } from "./grpc/context/finished-call.js";
import {
  type CallHistory,
  History,
  type HistoryOptions,
  resolveHistoryOptions,
} from "./grpc/context/history.js";
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
import {
  type ControlOf,
  PolicyControls,
  type PolicySnapshots,
  type PreparedPolicies,
} from "./pipeline/controls.js";
import { type ModeInEnvironment, modesInEnvironment } from "./pipeline/environment-modes.js";
import {
  LoadReport,
  type LoadReportOptions,
  type UtilizationRecorder,
} from "./pipeline/load-report.js";
import {
  clientSettings,
  explanationText,
  type PolicyExplanation,
  serverSettings,
} from "./pipeline/policy-explanation.js";
import {
  layClient,
  layOver,
  layServer,
  type PolicyChange,
  type PolicyEvent,
  type PolicySet,
  type PolicySource,
  type SchemaPolicies,
  type SchemaSource,
} from "./pipeline/policy-set.js";
import { PolicyUpdates } from "./pipeline/policy-updates.js";
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
import { Flags, type FlagsSnapshot } from "./policies/flags/flags.js";
import { type FlagSource, flagSource } from "./policies/flags/source.js";
import { spanParts, traceReader } from "./telemetry/client-spans.js";
import { explain } from "./telemetry/explain.js";
import { guardSpans } from "./telemetry/guard-spans.js";
import { clientMeters, Metrics, serverMeter } from "./telemetry/metrics.js";
import {
  type ResolvedTelemetryOptions,
  resolveTelemetryOptions,
  type TelemetryOptions,
} from "./telemetry/options.js";
import { serverSpanPart } from "./telemetry/server-spans.js";

/**
 * What a weir is built with.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/clients-and-servers.md
 */
export interface WeirOptions extends EnvironmentOptions {
  /**
   * Notified of every call that has ended: calls of clients, calls that servers received, and runs of guards. It gets plain
   * data. An error that it throws does not affect the call.
   */
  readonly onCall?: Observer<FinishedCall>;
  /**
   * How many finished calls are kept for `weir.history()`; `false` keeps none. @defaultValue the last 100, the last 100 that
   * failed, and the last 100 slow ones
   */
  readonly history?: HistoryOptions | false;
  /**
   * Where flags come from that switch methods off, leave out optional work, and set the modes of policies while the program
   * runs: `staticFlags`, `redisFlags`, `openFeatureFlags`, or a source of your own. You close it. @defaultValue none
   */
  readonly flags?: FlagSource;
  /**
   * Policies that come from data: `fileSource`, `functionSource` or `objectSource` of `grpc-weir/config`. They are read now, and
   * again whenever the source says that there are newer ones. An option that the code gives wins over one of the data.
   * @defaultValue none
   */
  readonly policies?: PolicySource;
  /**
   * Notified of newer policies of the source, applied or refused. Newer policies that are wrong in any part are refused as a whole,
   * and also go to `onError`.
   */
  readonly onPolicies?: Observer<PolicyEvent>;
  /**
   * What the owners of services say of their methods in the schema: `schemaSource` of `grpc-weir/config`. It is read once, now.
   * An option of `policies` or of the code wins over one of the schema. Clients know by it which methods may run twice, unless
   * they have a registry of their own. @defaultValue none
   */
  readonly schema?: SchemaSource;
  /** What goes to OpenTelemetry. @defaultValue spans and metrics, through the globals of `@opentelemetry/api` */
  readonly telemetry?: TelemetryOptions;
}

/**
 * The numbers of all policies of a weir at one moment.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/clients-and-servers.md
 */
export interface WeirSnapshot {
  /**
   * By policy. Each has one entry, with a name, for each client, server, method, service or guard that it was built for. A
   * policy disappears from here when no options, clients or servers use it any more.
   */
  readonly policies: PolicySnapshots;
  /** Client calls and guarded runs that wait in a queue, between two attempts or for a connection. */
  readonly waiting: number;
  /** In the order in which they were built. */
  readonly guards: readonly GuardSnapshot[];
  /** What flags say, and what has become of it. Absent without a source of flags. */
  readonly flags?: FlagsSnapshot;
  /** For each server in use, how often the priority of a caller was not used. In the order in which they were built. */
  readonly priorities: readonly PriorityCounts[];
}

/**
 * A weir owns the state of all policies of a process, or of a part of it, and controls them at run time. It makes plain
 * grpc-js options for clients and servers, with all policies in the right order.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/clients-and-servers.md
 */
export class Weir {
  readonly #environment: Environment;
  readonly #telemetry: ResolvedTelemetryOptions;
  /** Absent where nothing is to be measured. */
  readonly #metrics: Metrics | undefined;
  readonly #controls: PolicyControls;
  /** What the environment of the process says of modes. */
  readonly #modes: ModeInEnvironment | undefined;
  /** The options that do not stand in the code. */
  #layers: Layers;
  readonly #onPolicies: Observer<PolicyEvent> | undefined;
  readonly #stopWatching: (() => void) | undefined;
  #closed = false;
  readonly #servers = new WeakList<ServerPolicies>();
  /** The clients that are in use, and what the code has given for each client and server, for explanations. */
  readonly #built = new WeakList<ClientPolicies>();
  readonly #ofClients = new WeakMap<ClientPolicies, ClientPolicy>();
  readonly #ofServers = new WeakMap<ServerPolicies, ServerPolicy>();
  /** The policies that were built from a policy object, with a copy of the object as it was then. */
  readonly #clients = new WeakMap<
    ClientPolicy,
    { readonly builtFrom: OptionsCopy; readonly policies: ClientPolicies }
  >();
  readonly #reports: LoadReport[] = [];
  readonly #guards: Guards;
  readonly #drains = new WeakMap<DrainableServer, Promise<DrainReport>>();

  /** @internal Use {@link createWeir}. */
  constructor(
    environment: Environment,
    telemetry: ResolvedTelemetryOptions,
    { source, policies, schema, modes, onPolicies }: WeirSources,
  ) {
    this.#telemetry = telemetry;
    this.#layers = { data: policies?.read(), schema, updates: PolicyUpdates.none };
    this.#modes = modes;
    this.#onPolicies = onPolicies;
    this.#controls = new PolicyControls(modes);
    this.#controls.updateBy((policy, options, of) => this.#update(policy, options, of));
    const spans = guardSpans(telemetry, environment.report);
    this.#metrics = telemetry.metrics ? this.#newMetrics(environment.report) : undefined;
    const counted = { ...environment, counter: this.#metrics };
    const flags = source && new Flags(source, counted);
    this.#environment = { ...counted, flags };
    flags?.followModes(() => this.#controls.follow(flags.mode));
    this.#guards = new Guards(
      this.#environment,
      (built) => this.#controls.add(built),
      spans,
      (name, options) => laidGuard(this.#layers, name, options),
    );
    this.#stopWatching = policies && this.#watch(policies);
  }

  #watch(source: PolicySource): (() => void) | undefined {
    const { clock, random } = this.#environment;
    const refused = (error: unknown) => {
      reportSafely(this.#environment.report, error, `policies of ${source.name}`);
      this.#tell({ kind: "refused", source: source.name, error });
    };
    const newer = (read: () => PolicySet | undefined) => {
      if (this.#closed) return;
      const { data: before } = this.#layers;
      let changes: readonly PolicyChange[] = [];
      try {
        const data = read();
        if (data === undefined) return;
        if (before !== undefined) changes = source.changes?.(before, data) ?? [];
        this.#reload({ ...this.#layers, data });
      } catch (error) {
        refused(error);
        return;
      }
      this.#tell({ kind: "applied", source: source.name, changes });
    };
    return source.watch?.({ clock, random, newer, failed: refused });
  }

  #tell(event: PolicyEvent): void {
    notify(this.#onPolicies, event, this.#environment.report, "onPolicies");
  }

  #update(policy: ControlledName, options: object | undefined, of: string | undefined): void {
    const { updates } = this.#layers;
    const next =
      options === undefined
        ? updates.without(policy, of)
        : updates.with(policy, { ...options }, of);
    this.#reload({ ...this.#layers, updates: next });
  }

  /**
   * Carries all policies over to other options around those of the code. All of them are built, and so checked, before any changes.
   *
   * @throws InvalidOptionError naming the option, its rule and what it was given. Then nothing has changed.
   */
  #reload(next: Layers): void {
    const prepared: readonly PreparedPolicies[] = placed(next, () => [
      ...[...this.#built].map((policies) =>
        policies.prepare(laidClient(next, this.#ofClients.get(policies) ?? {})),
      ),
      ...[...this.#servers].map((policies) =>
        policies.prepare(laidServer(next, this.#ofServers.get(policies) ?? {})),
      ),
      ...this.#guards.prepare((name, options) => laidGuard(next, name, options)),
    ]);
    this.#layers = next;
    for (const each of prepared) this.#controls.apply(each);
  }

  #newMetrics(report: ReportError): Metrics {
    const metrics = new Metrics(this.#telemetry, report, (gauges) => {
      this.#controls.measure(gauges);
      this.#guards.measure(gauges);
      for (const { drain } of this.#servers) drain.measure(gauges);
      this.#environment.flags?.measure(gauges);
    });
    this.policy("breaker").onStateChange((change) => metrics.breakerChanged(change));
    return metrics;
  }

  /**
   * Options for a grpc-js client: the interceptors of the toolkit, with your own merged in. Your interceptors come first:
   * they see one call, as they would without the toolkit, and not its attempts.
   *
   * Any number of clients may use the options, and share the state of the policies (by target: breakers, bulkheads and so
   * on). Options that are made from the same policy object share it too, as long as the object has not changed. The
   * state is kept for as long as the object, the options or a client is in use.
   *
   * @typeParam Service The generated type of the service, such as `typeof StockServiceService`, or a union of several: names of
   *   methods that it does not have are compile errors. Without it any name is taken.
   * @param own Your own options for the client. Give them here: if you spread them over the result, they may replace the
   *   interceptors of the toolkit.
   * Options that are given to a channel instead of a client do nothing; where that is noticed, `onError` is told once.
   * {@link channel} makes a channel.
   *
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  client<Service = unknown>(
    policy: ClientPolicy<NoInfer<Service>> = {},
    own: ClientOptions = {},
  ): ClientOptions {
    return noticeIfIgnored(this.#clientOptions(policy as ClientPolicy, own), () => {
      const text =
        "A channel ignores interceptors, so none of its calls passes a policy. Give the options to a client, or make the channel with weir.channel()";
      reportSafely(this.#environment.report, new Error(text), "client options");
    });
  }

  /**
   * A channel whose calls pass the policies, for libraries that take a channel, such as nice-grpc. Use it like any channel of
   * grpc-js, for one client or for many, and close it yourself.
   *
   * A channel has bytes and no messages: functions of yours that get a request or give a response get and give bytes. It
   * cannot tell a `client-stream` call from a `bidi` one: both are `bidi` to the policies.
   *
   * @param target As for a client of grpc-js: `dns:orders:8443`.
   * @param own Your own options, as for {@link client}. Not `channelOverride`: the channel is made here.
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  channel<Service = unknown>(
    target: string,
    credentials: ChannelCredentials,
    policy: ClientPolicy<NoInfer<Service>> = {},
    own: ClientOptions = {},
  ): Channel {
    const options = this.#clientOptions(policy as ClientPolicy, own, "channel.own");
    for (const name of ["channelOverride", "channelFactoryOverride"] as const) {
      if (own[name] !== undefined) {
        throw new InvalidOptionError(`channel.own.${name}`, "absent", own[name]);
      }
    }
    return new InterceptedChannel(target, credentials, options);
  }

  #clientOptions(policy: ClientPolicy, own: ClientOptions, at = "client.own"): ClientOptions {
    checkOwn(at, own, ["interceptors", "interceptor_providers"]);
    const policies = this.#policiesOf(policy);
    const environment = {
      ...this.#environment,
      // They may be others after a change of the options.
      get resets() {
        return policies.resets;
      },
    };
    for (const conflict of serviceConfigConflicts(own, laidClient(this.#layers, policy))) {
      reportSafely(environment.report, new Error(conflict), "client options");
    }
    const spans = spanParts(environment, this.#telemetry);
    this.#metrics?.connect();
    const meters = this.#metrics && clientMeters(this.#metrics);
    const pipeline = clientPipeline(policies, environment, spans, meters);
    return clientOptions(own, pipeline, environment);
  }

  #policiesOf(policy: ClientPolicy): ClientPolicies {
    const known = this.#clients.get(policy);
    if (known?.builtFrom.matches(policy) === true) return known.policies;
    const laid = laidClient(this.#layers, policy);
    const policies = placed(this.#layers, () => new ClientPolicies(laid, this.#environment));
    this.#controls.add(policies.built);
    this.#clients.set(policy, { builtFrom: new OptionsCopy(policy), policies });
    this.#built.add(policies);
    this.#ofClients.set(policies, optionsNow(policy) as ClientPolicy);
    return policies;
  }

  /**
   * Options for a grpc-js server: the interceptors of the toolkit first, then your own, next to the handlers.
   *
   * @typeParam Service The generated type of the service, such as `typeof StockServiceService`, or a union of several: names of
   *   methods that it does not have are compile errors. Without it any name is taken.
   * @param own Your own options for the server.
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  server<Service = unknown>(
    policy: ServerPolicy<NoInfer<Service>> = {},
    own: ServerOptions = {},
  ): ServerOptions {
    const given = policy as ServerPolicy;
    checkOwn("server.own", own, ["interceptors"]);
    const spans = serverSpanPart(this.#environment, this.#telemetry);
    this.#metrics?.connect();
    const meter = this.#metrics && serverMeter(this.#metrics);
    const laid = laidServer(this.#layers, given);
    const policies = placed(
      this.#layers,
      () => new ServerPolicies(laid, this.#environment, spans, meter),
    );
    this.#controls.add(policies.built);
    this.#servers.add(policies);
    this.#ofServers.set(policies, optionsNow(given) as ServerPolicy);
    const replaced = this.#stopWatching !== undefined;
    return { ...own, interceptors: policies.pipeline(own.interceptors, replaced) };
  }

  /**
   * Options for one call, with settings for which grpc-js has no option. `options` are kept; interceptors among them work
   * together with the toolkit.
   *
   * @param overrides `priority`: the priority of the call. @defaultValue that of the inbound call it is made for
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  with(options: CallOptions, overrides: CallOverrides = {}): CallOptions {
    const read = readOptions("with", overrides, ["priority"]);
    if (read.priority !== undefined) oneOf("with.priority", read.priority, priorities);
    return withOverrides(options, read);
  }

  /**
   * Policies around work that is not gRPC: a database pool, an HTTP client, a file. There is one guard for each name: the
   * first call builds it, later ones return it, without options or with the same options object.
   *
   * @throws InvalidOptionError naming the option, its rule and what it was given; also for a name that was built with
   *   another options object, and without options for a name that was not built yet.
   */
  guard<F = never>(name: string, options?: GuardOptions<F>): Guard<F> {
    this.#metrics?.connect();
    return placed(this.#layers, () => this.#guards.get(name, options));
  }

  /** Controls all policies of a name at run time: their mode and their numbers; for some, more. */
  policy(name: "breaker"): BreakerControl;
  policy(name: "faults"): FaultsControl;
  policy<N extends ControlledName>(name: N): ControlOf<N>;
  policy(name: ControlledName): ControlOf<ControlledName> {
    return this.#controls.get(name);
  }

  /** The numbers of all policies at this moment. */
  snapshot(): WeirSnapshot {
    const { flags } = this.#environment;
    return {
      policies: this.#controls.snapshot(),
      waiting: this.#environment.pendingCalls.size,
      guards: this.#guards.snapshot(),
      priorities: [...this.#servers].map(({ priority }) => priority.counts),
      ...(flags === undefined ? {} : { flags: flags.snapshot() }),
    };
  }

  /**
   * What policies in `observe` would have refused, by policy and reason, and how those calls ended: successful ones would
   * have been lost.
   */
  observed(): ObservedReport {
    return this.#environment.observed.snapshot();
  }

  /** The finished calls that are kept: the last ones, the last that failed, and the last slow ones. The latest first. */
  history(): CallHistory {
    return this.#environment.history?.snapshot() ?? { last: [], failed: [], slow: [] };
  }

  /**
   * Says in about ten lines what became of a call, and why: what it ended with and who said so, each attempt, each decision,
   * and where to read on.
   *
   * @param subject A call that grpc-js gave you, on a client or in a handler; an error or status of a call that failed; an
   *   error of a guard; or a finished call from `history()` or `onCall`.
   * @returns Lines of text. One line for what the toolkit knows nothing of.
   */
  explain(subject: unknown): string {
    return explain(subject);
  }

  /**
   * Says which options hold for a method, on each client and server that is in use, and where each comes from: the default, the
   * schema, data, code, or the environment of the process. Modes that were set at run time, or by flags, are in `snapshot()`.
   *
   * @param method `pkg.Service/Method`, with or without a slash in front.
   * @throws InvalidOptionError for what is no name of a method.
   */
  explainPolicy(method: string): PolicyExplanation {
    const name = /^\/?([\w.]+\/\w+)$/.exec(String(method))?.[1];
    if (name === undefined) {
      throw new InvalidOptionError("explainPolicy.method", "named pkg.Service/Method", method);
    }
    const around = { ...this.#layers, modes: this.#modes };
    const clients = [...this.#built].map((policies) => {
      const code = readGiven("client", this.#ofClients.get(policies));
      const idempotent = policies.levelOf(name) !== "unknown";
      return {
        name: policies.name,
        settings: clientSettings(name, code, around, idempotent),
      };
    });
    const servers = [...this.#servers].map((policies) => {
      const code = readGiven("server", this.#ofServers.get(policies));
      return { name: policies.name, settings: serverSettings(name, policies.name, code, around) };
    });
    return { method: name, clients, servers, text: explanationText(name, clients, servers) };
  }

  /**
   * Takes a server out of service without losing a call:
   * 1. its health services answer NOT_SERVING;
   * 2. new and queued calls are refused with UNAVAILABLE (reason `DRAINING`, which clients may retry for any method);
   * 3. calls in flight may end within `graceMs`;
   * 4. the server is shut down.
   *
   * All servers of this weir stop admitting calls; outbound calls go on. The drain takes no longer than `noticeMs` plus
   * `graceMs`, whoever is connected. Errors on the way are listed in the report and go to `onError`; they do not stop the
   * drain. A second call for the same server, as by a second SIGTERM, returns the same promise.
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
   * Keeps a recorder of ORCA load reports (`ServerMetricRecorder` of grpc-js) up to date about how much of their capacity the
   * servers of this weir use. Clients that balance by weight (gRFC A58) then send each server as much as it can serve.
   *
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  reportLoad(recorder: UtilizationRecorder, options: LoadReportOptions = {}): void {
    const { clock, report } = this.#environment;
    this.#reports.push(new LoadReport(recorder, this.#servers, options, clock, report));
  }

  /**
   * Closes the weir. Client calls and guarded runs that wait, and new ones, end with UNAVAILABLE (reason `CLOSED`); inbound
   * calls that wait, and new ones, with UNAVAILABLE (reason `DRAINING`). Calls on the wire and running work go on. Close
   * servers and clients yourself.
   */
  close(): void {
    this.#closed = true;
    if (this.#stopWatching !== undefined) {
      callSafely(this.#stopWatching, this.#environment.report, "policies");
    }
    this.#environment.pendingCalls.close();
    for (const server of this.#servers) server.close();
    for (const report of this.#reports) report.close();
    this.#environment.flags?.close();
  }
}

/**
 * Creates a weir, which owns the state of all policies. A process usually has one.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/clients-and-servers.md
 */
export function createWeir(given: WeirOptions = {}): Weir {
  const own = ["telemetry", "history", "onCall", "flags", "policies", "onPolicies", "schema"];
  const options = readOptions("createWeir", given, [...environmentOptionNames, ...own]);
  const { telemetry: spans, history: kept, onCall, flags, ...others } = options;
  const { policies, onPolicies, schema, ...rest } = others;
  const telemetry = resolveTelemetryOptions(spans, "createWeir.telemetry");
  const environment = environmentOf(rest, "createWeir");
  const { clock, report } = environment;
  optionalFunction("createWeir.onCall", onCall);
  optionalFunction("createWeir.onPolicies", onPolicies);
  const source = flags && flagSource("createWeir.flags", flags);
  const nothing = kept === false ? { last: 0, failed: 0, slow: 0 } : kept;
  const size = resolveHistoryOptions(nothing, "createWeir.history");
  const history =
    kept === false && onCall === undefined ? undefined : new History(size, onCall, clock, report);
  const traces = traceReader(environment, telemetry);
  const modes = modesInEnvironment(process.env);
  if (policies !== undefined && typeof policies?.read !== "function") {
    const rule = "a source of policies: fileSource() or objectSource() of grpc-weir/config";
    throw new InvalidOptionError("createWeir.policies", rule, policies);
  }
  if (schema !== undefined && typeof schema?.read !== "function") {
    const rule = "a source of schemas: schemaSource() of grpc-weir/config";
    throw new InvalidOptionError("createWeir.schema", rule, schema);
  }
  const sources = { source, schema: schema?.read(), policies, modes, onPolicies };
  return new Weir({ ...environment, history, traces }, telemetry, sources);
}

/** What a weir gets from outside of the code, beside its environment. */
interface WeirSources {
  readonly source: FlagSource | undefined;
  readonly schema: SchemaPolicies | undefined;
  readonly policies: PolicySource | undefined;
  readonly modes: ModeInEnvironment | undefined;
  readonly onPolicies: Observer<PolicyEvent> | undefined;
}

/** Options that do not stand in the code. */
interface Layers {
  /** Policies that stand in the schemas of services. */
  readonly schema: SchemaPolicies | undefined;
  /** Policies that come from data. */
  readonly data: PolicySet | undefined;
  /** What was set at run time. */
  readonly updates: PolicyUpdates;
}

/** The options of a client: updates over those of the code, of the data and of the schema. */
function laidClient({ data, schema, updates }: Layers, policy: ClientPolicy): ClientPolicy {
  const over = data === undefined ? policy : layClient(data, readGiven("client", policy));
  let laid = over;
  if (schema !== undefined) {
    const given = readGiven("client", over);
    const { idempotency = schema.registry } = given;
    laid = layClient(schema, { ...given, idempotency });
  }
  return updates === PolicyUpdates.none ? laid : updates.overClient(readGiven("client", laid));
}

/** The options of a server, laid as those of a client. */
function laidServer({ data, schema, updates }: Layers, policy: ServerPolicy): ServerPolicy {
  const over = data === undefined ? policy : layOver(data.server, readGiven("server", policy));
  const laid = schema === undefined ? over : layServer(schema, readGiven("server", over));
  return updates === PolicyUpdates.none ? laid : updates.overServer(readGiven("server", laid));
}

/** The options of a guard, laid as those of a client; `undefined` where nobody gives any. */
function laidGuard(
  { data, updates }: Layers,
  name: string,
  options: GuardOptions<unknown> | undefined,
): GuardOptions<unknown> | undefined {
  const given = data?.guards[name];
  const laid = given === undefined ? options : layOver(given, readGiven("guard", options));
  if (laid === undefined || updates === PolicyUpdates.none) return laid;
  return updates.overGuard(readGiven("guard", laid), name);
}

/** Builds what is made of code and data. An error about an option of the data says where that is written. */
function placed<T>({ data, schema }: Layers, build: () => T): T {
  try {
    return build();
  } catch (error) {
    if (!(error instanceof InvalidOptionError)) throw error;
    const place = data?.placeOf(error.option) ?? schema?.placeOf(error.option);
    if (place === undefined) throw error;
    const text = error.message.slice(error.option.length + 1);
    throw new InvalidOptionError(error.option, error.rule, undefined, `${text} (with ${place})`);
  }
}

/** The options that the code gives, as a plain object. What is no object is refused where it is read. */
function readGiven(option: string, given: object | undefined): Readonly<Record<string, unknown>> {
  return readOptions(option, { ...readOptions(option, given ?? {}) });
}

/**
 * Checks the interceptors among the user's own options of a client or server. grpc-js would only fail at the first call.
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
