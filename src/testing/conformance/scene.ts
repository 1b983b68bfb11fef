import assert from "node:assert/strict";
import {
  type ClientOptions,
  type Interceptor,
  type ServerInterceptor,
  type ServerOptions,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import type { Clock, Random } from "../../core/clock.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../gen/weir/v1/conformance.js";
import type { CallKind } from "../../grpc/types.js";
import type { Link, Transport } from "../transport.js";
import { Caller, type CallSetup } from "./caller.js";
import { Handlers, type Peer, type Script, scriptedService } from "./peer.js";
import { Recorder } from "./recorder.js";

/** One case, for some kinds of call. */
export interface CaseSpec {
  /** A sentence about what a call does. */
  readonly name: string;
  readonly kinds: readonly CallKind[];
  /** Whether each call must reach a handler. With `false` it may. @defaultValue true */
  readonly handled?: boolean;
  /** Whether each write must be called back, as grpc-js does for most ends of a call. @defaultValue true */
  readonly writesCalledBack?: boolean;
  run(scene: Scene): Promise<void>;
}

/** How long a case waits for an event, in milliseconds of the transport. */
const limitMs = 5_000;
/** How long a case waits after the end of a call for late events and timers, in milliseconds. */
const graceMs = 20;

/** One case: a client, a server and the interceptors under test between them. */
export class Scene {
  readonly kind: CallKind;
  readonly clock: Clock;
  readonly link: Link;
  readonly #handlers: Handlers;
  readonly #recorder: Recorder;
  readonly #callers: Caller[] = [];
  readonly #client: ConformanceServiceClient;

  static async open(
    kind: CallKind,
    subject: ConformanceSubject,
    transport: Transport,
  ): Promise<Scene> {
    const recorder = new Recorder();
    const handlers = new Handlers();
    const clientOptions = clientOptionsOf(subject, transport);
    const { interceptors = [], ...serverOptions } = serverOptionsOf(subject, transport);
    const link = await transport.open({
      service: ConformanceServiceService,
      implementation: scriptedService((peer) => handlers.run(peer)),
      clientOptions: {
        ...clientOptions,
        interceptors: [recorder.interceptor, ...(clientOptions.interceptors ?? [])],
      },
      serverInterceptors: interceptors,
      serverOptions,
    });
    return new Scene(kind, transport.clock, link, handlers, recorder);
  }

  private constructor(
    kind: CallKind,
    clock: Clock,
    link: Link,
    handlers: Handlers,
    recorder: Recorder,
  ) {
    this.kind = kind;
    this.clock = clock;
    this.link = link;
    this.#handlers = handlers;
    this.#recorder = recorder;
    this.#client = link.client(ConformanceServiceClient);
  }

  /** Sets what handlers do from now on. */
  serve(script: Script): void {
    this.#handlers.script = script;
  }

  call(setup: CallSetup = {}): Caller {
    const caller = new Caller(this.kind, this.#client, setup);
    this.#callers.push(caller);
    return caller;
  }

  /** The handler side of the call that reaches the server as number `index`, from 0. */
  peer(index = 0): Promise<Peer> {
    return this.until(this.#handlers.peer(index), "the handler to be called");
  }

  ended(caller: Caller): Promise<StatusObject> {
    return this.until(caller.ended(), "the end of the call at the client");
  }

  /** Waits for the end of the call, and asserts its status code. */
  async endsWith(caller: Caller, code: status): Promise<StatusObject> {
    const ended = await this.ended(caller);
    assert.equal(status[ended.code], status[code], ended.details);
    return ended;
  }

  /** Waits for the promise in the time of the transport. `what` names it in the error if it does not settle. */
  async until<T>(promise: Promise<T>, what: string): Promise<T> {
    let settled = false;
    const watched = this.#handlers.orFail(promise).finally(() => {
      settled = true;
    });
    try {
      return await this.link.until(watched, limitMs);
    } catch (error) {
      if (settled) throw error;
      throw new assert.AssertionError({ message: `timed out waiting for ${what}` });
    }
  }

  /** Lets time pass. Only for the case itself: scripts, which run beside it, use `wait`. */
  pass(ms: number): Promise<void> {
    return this.link.pass(ms);
  }

  /** Resolves after `ms` milliseconds, while the case waits for something else. */
  wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.clock.schedule(ms, resolve);
    });
  }

  /** Whether the promise resolves within `ms` milliseconds. */
  async within(ms: number, promise: Promise<unknown>): Promise<boolean> {
    let cancel = () => {};
    const late = new Promise<boolean>((resolve) => {
      cancel = this.clock.schedule(ms, () => resolve(false));
    });
    const first = Promise.race([promise.then(() => true), late]);
    try {
      return await this.until(first, "a promise or its limit");
    } finally {
      cancel();
    }
  }

  /** A deadline `ms` milliseconds from now. */
  deadlineIn(ms: number): number {
    return this.clock.wallNow() + ms;
  }

  /** Waits until everything has ended, and then checks what must be true of each call in each case. */
  async settle(spec: CaseSpec): Promise<void> {
    for (const caller of this.#callers) await this.ended(caller);
    await this.#idle();
    // Events that come twice or too late are found only by waiting for them.
    await this.pass(spec.handled === false ? graceMs : 1);
    await this.until(new Promise<void>((done) => this.clock.afterPoll(done)), "a turn of the loop");
    for (const peer of this.#handlers.peers) {
      await this.until(peer.cancelled(), "the end of the call at the handler");
    }
    await this.#idle();
    for (const caller of this.#callers) caller.verify();
    for (const peer of this.#handlers.peers) peer.verify();
    this.#verifyCount(spec);
    this.#verifyRecords(spec);
    await this.#verifyTimers();
  }

  async #idle(): Promise<void> {
    const startedAt = this.clock.now();
    while (this.link.inFlight() > 0) {
      const waitedMs = this.clock.now() - startedAt;
      assert.ok(waitedMs < limitMs, `${this.link.inFlight()} calls stay in flight`);
      await this.pass(1);
    }
  }

  #verifyCount(spec: CaseSpec): void {
    const { length: calls } = this.#callers;
    const { length: handled } = this.#handlers.peers;
    if (spec.handled ?? true) assert.equal(handled, calls, "handlers called, of so many calls");
    else assert.ok(handled <= calls, "a handler was called more than once");
  }

  #verifyRecords(spec: CaseSpec): void {
    const records = this.#recorder.calls;
    assert.equal(records.length, this.#callers.length, "the surface made another number of calls");
    for (const [index, record] of records.entries()) {
      assert.deepEqual(record.faults, [], `the events of ${record.path}`);
      assert.equal(record.starts, 1, "the call was not started exactly once");
      const codes = record.statuses.map((each) => each.code);
      const told = this.#callers[index]?.statuses.map((each) => each.code);
      assert.deepEqual(codes, told, "interceptors and surface disagree about the status");
      const twice = record.callbacks.filter((times) => times > 1);
      assert.deepEqual(twice, [], "a write was called back more than once");
      const never = record.callbacks.filter((times) => times === 0);
      if (spec.writesCalledBack ?? true) {
        assert.equal(never.length, 0, "a write was never called back");
      }
    }
  }

  /** Checks that no timer is left. Only a virtual clock knows its timers. */
  async #verifyTimers(): Promise<void> {
    if (pendingTasks(this.clock) > 0) await this.pass(graceMs);
    assert.equal(pendingTasks(this.clock), 0, "timers are left behind");
  }
}

/** The tasks of a virtual clock that would keep a process alive. */
function pendingTasks(clock: Clock & { readonly pending?: { readonly refs: number } }): number {
  return clock.pending?.refs ?? 0;
}

/**
 * The clock and the source of chance of the transport, for the interceptors under test.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/testing.md
 */
export interface ConformanceEnv {
  readonly clock: Clock;
  readonly random: Random;
}

/**
 * The subject of the tests: interceptors of a client, of a server, or of both.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/testing.md
 */
export interface ConformanceSubject {
  /** Gives interceptors, or whole client options. Called once for each case. */
  readonly client?: (env: ConformanceEnv) => readonly Interceptor[] | ClientOptions;
  /** Gives interceptors, the one nearest to the wire first, or whole server options. Called once for each case. */
  readonly server?: (env: ConformanceEnv) => readonly ServerInterceptor[] | ServerOptions;
}

/** The client options of a subject. */
function clientOptionsOf(subject: ConformanceSubject, env: ConformanceEnv): ClientOptions {
  const given = subject.client?.(only(env)) ?? [];
  if (isList(given)) return { interceptors: [...given] };
  if (given.interceptor_providers !== undefined) {
    throw new TypeError("conformance: interceptor_providers are not supported, give interceptors");
  }
  return given;
}

/** The server options of a subject. */
function serverOptionsOf(subject: ConformanceSubject, env: ConformanceEnv): ServerOptions {
  const given = subject.server?.(only(env)) ?? [];
  return isList(given) ? { interceptors: [...given] } : given;
}

function isList<T>(given: readonly T[] | object): given is readonly T[] {
  return Array.isArray(given);
}

/** An object with these two fields alone: subjects spread it into options, which refuse unknown fields. */
function only({ clock, random }: ConformanceEnv): ConformanceEnv {
  return { clock, random };
}
