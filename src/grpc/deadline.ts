import {
  type CallOptions,
  type connectivityState,
  type Deadline,
  type InterceptorOptions,
  type NextCall,
  propagate,
  status as Status,
} from "@grpc/grpc-js";
import type { Clock } from "../core/clock.js";
import { maxDurationMs } from "../core/options.js";
import type { Channel, ChannelCall } from "./types.js";

/**
 * How much later a deadline is for grpc-js while it makes the call, in milliseconds: longer than the longest timer of Node,
 * so that grpc-js starts none of its own. That would fire without a look at whether the answer has arrived, and every call
 * would pay for it.
 */
const beyondTimersMs = 2 ** 31;

/** A larger difference, in milliseconds, between wall clock and monotonic clock means that the wall clock was set. */
const wallStepMs = 5;

/**
 * A deadline in call options that a timer of the toolkit enforces. Everybody reads the true deadline from it, also
 * grpc-js when it writes `grpc-timeout`. Only while grpc-js makes the call, and would start its own timer, it is weeks
 * later.
 *
 * This relies on how grpc-js reads a Date: `ResolvingCall` calls `getTime()` in its constructor to start its timer, and
 * `LoadBalancingCall` calls it again when it creates the stream. With a `parent`, or a `timeout` in a service config,
 * grpc-js reads the deadline as a number once, for both.
 */
export class CallDeadline extends Date {
  readonly #dueMs: number;
  readonly #clock: Clock;
  /** The channel of the call keeps grpc-js from starting a timer, so that {@link callBelow} need not. */
  readonly #byChannel: boolean;
  #making = false;

  /**
   * @param dueMs The deadline on the monotonic clock.
   * @param leftMs Milliseconds from now to the deadline.
   * @param byChannel Whether the call's channel is one of {@link deadlineChannel}.
   */
  constructor(dueMs: number, leftMs: number, clock: Clock, byChannel: boolean) {
    // Whole milliseconds, rounded down, so that nobody counts on more time than there is.
    super(Math.floor(clock.wallNow() + leftMs));
    this.#dueMs = dueMs;
    this.#clock = clock;
    this.#byChannel = byChannel;
  }

  /** The deadline on the monotonic clock. */
  get dueMs(): number {
    return this.#dueMs;
  }

  get byChannel(): boolean {
    return this.#byChannel;
  }

  override getTime(): number {
    return this.#making ? super.valueOf() + beyondTimersMs : this.valueOf();
  }

  /** Epoch milliseconds. Setting the wall clock during a call does not change the time that is left. */
  override valueOf(): number {
    const epochMs = super.valueOf();
    const nowMs = toEpoch(this.#dueMs, this.#clock);
    return Math.abs(nowMs - epochMs) < wallStepMs ? epochMs : Math.floor(nowMs);
  }

  /** Runs `call`, which makes a call of grpc-js, so that it starts no timer. */
  make<T>(call: () => T): T {
    this.#making = true;
    try {
      return call();
    } finally {
      this.#making = false;
    }
  }
}

// A deadline may be a number as well, so code may calculate with it. A Date would be added as text.
Object.defineProperty(CallDeadline.prototype, Symbol.toPrimitive, {
  value(this: CallDeadline, hint: string): number | string {
    return hint === "string" ? this.toString() : this.valueOf();
  },
});

type CreateCall = Parameters<Channel["createCall"]>;

/** Makes a call of a channel. For a deadline that the toolkit enforces, grpc-js starts no timer. */
export function createCall(
  channel: Channel,
  method: CreateCall[0],
  deadline: CreateCall[1],
  host: CreateCall[2],
  parent: CreateCall[3],
  flags: CreateCall[4],
): ChannelCall {
  if (!(deadline instanceof CallDeadline)) {
    return channel.createCall(method, deadline, host, parent, flags);
  }
  // With a parent, grpc-js reads the deadline once, both for its timer and for the wire.
  if (parent !== null && parent !== undefined) {
    return channel.createCall(method, deadline.valueOf(), host, parent, flags);
  }
  return deadline.make(() => channel.createCall(method, deadline, host, parent, flags));
}

/**
 * Makes the call below an interceptor. Where the channel is none of {@link deadlineChannel}, this keeps grpc-js from
 * starting a timer: the innermost interceptor makes the call of grpc-js in it.
 */
export function callBelow(nextCall: NextCall, options: InterceptorOptions): ReturnType<NextCall> {
  const { deadline, parent } = options;
  return deadline instanceof CallDeadline && !deadline.byChannel && !parent
    ? deadline.make(() => nextCall(options))
    : nextCall(options);
}

const deadlineChannels = new WeakMap<Channel, Channel>();

/** A channel that makes its calls with {@link createCall}. The same one each time. */
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

  createCall(
    method: CreateCall[0],
    deadline: CreateCall[1],
    host: CreateCall[2],
    parent: CreateCall[3],
    flags: CreateCall[4],
  ): ChannelCall {
    return createCall(this.#channel, method, deadline, host, parent, flags);
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

/** By how many milliseconds the deadline of a caller may pass before that of the server does. */
const earlierMs = 10;

/**
 * Whether an inbound call that is cancelled now ran out of time. A server's deadline is a little later than its
 * caller's: by the time that the request took to arrive, and by rounding.
 */
export function ranOutOfTime(nowMs: number, deadlineMs: number): boolean {
  return nowMs >= deadlineMs - earlierMs;
}

/**
 * Whether a status says that the deadline is over, and it is. Client and server both know the deadline, so the server
 * may be the first to say so.
 *
 * @param dueMs The deadline on the monotonic clock.
 */
export function timeIsUp(code: Status, nowMs: number, dueMs: number): boolean {
  return code === Status.DEADLINE_EXCEEDED && nowMs >= dueMs;
}

/** Whether a call follows the deadline, or the cancellation, of the call for which it is made (`propagate_flags`). */
export function follows({ propagate_flags: flags }: CallOptions, what: propagate): boolean {
  return ((flags ?? propagate.DEFAULTS) & what) !== 0;
}

/**
 * Converts a gRPC deadline (a Date or epoch milliseconds) to the monotonic clock. The wall clock is read once, here, so
 * that setting it later moves no deadline. A deadline more than 24 days away becomes 24 days: beyond 24.8 days a
 * grpc-js server overflows and ends the call at once.
 *
 * @returns `Infinity` for no deadline; `undefined` for a deadline that is no time (NaN, an invalid Date, another type),
 *   with which grpc-js would leave the call hanging.
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

/** The deadline as a number, because the caller could change a Date during the call. */
export function fixedDeadline(deadline: Date): Deadline {
  if (deadline instanceof CallDeadline) return deadline;
  const epochMs = deadline.getTime();
  // A deadline that is no time is refused by whoever reads it, with its value in the text.
  return Number.isNaN(epochMs) ? deadline : epochMs;
}

/** Converts a time of the monotonic clock to epoch milliseconds, for `CallOptions.deadline`. */
export function toEpoch(monotonicMs: number, clock: Clock): number {
  if (monotonicMs === Number.POSITIVE_INFINITY) return monotonicMs;
  return clock.wallNow() + (monotonicMs - clock.now());
}
