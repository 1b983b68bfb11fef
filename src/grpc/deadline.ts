import {
  type CallOptions,
  type ClientOptions,
  type connectivityState,
  type Deadline,
  type InterceptorOptions,
  type NextCall,
  propagate,
  status as Status,
} from "@grpc/grpc-js";
import type { Clock } from "../core/clock.js";
import { maxDurationMs } from "../core/options.js";

/**
 * How long behind a call's own deadline the timer of grpc-js stands, in milliseconds. It is a net: were the toolkit's
 * timer lost, the call would end all the same. It is longer than a process is held up, because the toolkit's timer
 * looks whether the answer has come before it ends a call, and the one of grpc-js does not.
 */
const netMs = 300_000;

/** The wall clock has been set where it differs by more than this, in milliseconds, from what has passed. */
const wallStepMs = 5;

/**
 * A deadline in call options that a timer of the toolkit watches. To all who read it, it is the deadline that the
 * call obeys, and so it goes on the wire: grpc-js writes `grpc-timeout` when the stream is created, from what is left
 * by then. Only while grpc-js makes the call, and arms its own timer, is it later by the net.
 *
 * grpc-js facts: `ResolvingCall` reads `getTime()` of a Date in its constructor to arm its timer, and
 * `LoadBalancingCall` reads it again when it creates the stream. A `parent`, or a `timeout` in a service config, has it
 * read as a number once, for both.
 */
export class CallDeadline extends Date {
  readonly #dueMs: number;
  readonly #clock: Clock;
  /** The channel of the call sees to the net, right where grpc-js makes the call. */
  readonly #seenTo: boolean;
  #making = false;

  /**
   * @param dueMs The deadline on the monotonic clock.
   * @param leftMs The same, from now.
   * @param seenTo Whether the call's channel is one of {@link deadlineChannel}.
   */
  constructor(dueMs: number, leftMs: number, clock: Clock, seenTo: boolean) {
    // Whole milliseconds, rounded down: nobody is told more than there is.
    super(Math.floor(clock.wallNow() + leftMs));
    this.#dueMs = dueMs;
    this.#clock = clock;
    this.#seenTo = seenTo;
  }

  /** On the monotonic clock. */
  get dueMs(): number {
    return this.#dueMs;
  }

  get seenTo(): boolean {
    return this.#seenTo;
  }

  override getTime(): number {
    const epochMs = this.valueOf();
    return this.#making ? epochMs + netMs : epochMs;
  }

  /** A wall clock that was set since the call began does not change what is left. */
  override valueOf(): number {
    const epochMs = super.valueOf();
    const nowMs = toEpoch(this.#dueMs, this.#clock);
    return Math.abs(nowMs - epochMs) < wallStepMs ? epochMs : Math.floor(nowMs);
  }

  /** Runs what makes a call of grpc-js. */
  make<T>(call: () => T): T {
    this.#making = true;
    try {
      return call();
    } finally {
      this.#making = false;
    }
  }
}

// A number to arithmetic, as the deadline may be that was given: a Date would be added as text.
Object.defineProperty(CallDeadline.prototype, Symbol.toPrimitive, {
  value(this: CallDeadline, hint: string): number | string {
    return hint === "string" ? this.toString() : this.valueOf();
  },
});

type Channel = NonNullable<ClientOptions["channelOverride"]>;

/** Makes a call of a channel, with the timer of grpc-js out of the way where one of the toolkit watches the deadline. */
export function createCall(
  channel: Channel,
  ...[method, deadline, host, parent, flags]: Parameters<Channel["createCall"]>
): ReturnType<Channel["createCall"]> {
  if (!(deadline instanceof CallDeadline)) {
    return channel.createCall(method, deadline, host, parent, flags);
  }
  // With a parent grpc-js reads the deadline once, for its timer and for the wire alike.
  if (parent !== null && parent !== undefined) {
    return channel.createCall(method, deadline.valueOf(), host, parent, flags);
  }
  return deadline.make(() => channel.createCall(method, deadline, host, parent, flags));
}

/**
 * Makes the call below an interceptor. Where no channel of {@link deadlineChannel} is at the bottom, this is as near to
 * the making of the grpc-js call as the toolkit comes.
 */
export function callBelow(nextCall: NextCall, options: InterceptorOptions): ReturnType<NextCall> {
  const { deadline, parent } = options;
  return deadline instanceof CallDeadline && !deadline.seenTo && !parent
    ? deadline.make(() => nextCall(options))
    : nextCall(options);
}

const deadlineChannels = new WeakMap<Channel, Channel>();

/** The channel as calls are made by it: see {@link createCall}. The same one each time. */
export function deadlineChannel(channel: Channel): Channel {
  let made = deadlineChannels.get(channel);
  if (made === undefined) {
    made = new DeadlineChannel(channel);
    deadlineChannels.set(channel, made);
    deadlineChannels.set(made, made);
  }
  return made;
}

class DeadlineChannel implements Channel {
  readonly #channel: Channel;

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  createCall(...args: Parameters<Channel["createCall"]>): ReturnType<Channel["createCall"]> {
    return createCall(this.#channel, ...args);
  }

  close(): void {
    this.#channel.close();
  }

  getTarget(): string {
    return this.#channel.getTarget();
  }

  getConnectivityState(tryToConnect: boolean): connectivityState {
    return this.#channel.getConnectivityState(tryToConnect);
  }

  watchConnectivityState(...args: Parameters<Channel["watchConnectivityState"]>): void {
    this.#channel.watchConnectivityState(...args);
  }

  getChannelzRef(): ReturnType<Channel["getChannelzRef"]> {
    return this.#channel.getChannelzRef();
  }
}

/** How much earlier than the deadline that a server knows its callers may give up by theirs, in milliseconds. */
const earlierMs = 10;

/**
 * Whether an inbound call that was cancelled now ran out of time. What a request needs to arrive, and rounding,
 * make a server's deadline a little later than its caller's.
 */
export function ranOutOfTime(nowMs: number, deadlineMs: number): boolean {
  return nowMs >= deadlineMs - earlierMs;
}

/**
 * Whether a status says that a time is up that both sides know: a server is told it, and may be the first to say so.
 *
 * @param dueMs When it is up, on the monotonic clock.
 */
export function timeIsUp(code: Status, nowMs: number, dueMs: number): boolean {
  return code === Status.DEADLINE_EXCEEDED && nowMs >= dueMs;
}

/** Whether `propagate_flags` let a call follow the call that it is made for in this: its deadline, its cancellation. */
export function follows({ propagate_flags: flags }: CallOptions, what: propagate): boolean {
  return ((flags ?? propagate.DEFAULTS) & what) !== 0;
}

/**
 * Reads a gRPC deadline (a Date or epoch milliseconds) as monotonic milliseconds. Wall time is
 * looked at once, here, so a step of the system clock moves no running deadline. Deadlines further
 * than 24 days away are clamped to that: beyond 24.8 days a grpc-js server overflows and ends the
 * call at once.
 *
 * @returns `Infinity` for no deadline, `undefined` for one that is not a time at all (NaN, an
 * invalid Date, another type): grpc-js would leave such a call hanging.
 */
export function toMonotonic(
  deadline: Deadline | null | undefined,
  clock: Clock,
  nowMs: number,
): number | undefined {
  if (deadline === undefined || deadline === null) return Number.POSITIVE_INFINITY;
  if (deadline instanceof CallDeadline) return deadline.dueMs;
  const epochMs = deadline instanceof Date ? deadline.getTime() : deadline;
  if (typeof epochMs !== "number" || Number.isNaN(epochMs)) return undefined;
  if (epochMs === Number.POSITIVE_INFINITY) return epochMs;
  return nowMs + Math.min(epochMs - clock.wallNow(), maxDurationMs);
}

/** A deadline that its owner cannot change: a Date can be set. */
export function fixedDeadline(deadline: Date): Deadline {
  if (deadline instanceof CallDeadline) return deadline;
  const epochMs = deadline.getTime();
  // One that is no time is refused where it is read, and named there.
  return Number.isNaN(epochMs) ? deadline : epochMs;
}

/** The other way, for `CallOptions.deadline`. */
export function toEpoch(monotonicMs: number, clock: Clock): number {
  if (monotonicMs === Number.POSITIVE_INFINITY) return monotonicMs;
  return clock.wallNow() + (monotonicMs - clock.now());
}
