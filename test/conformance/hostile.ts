import {
  InterceptingCall,
  type InterceptingListener,
  type Interceptor,
  Metadata,
  type NextCall,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  StatusBuilder,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import type { Clock } from "../../src/core/clock.js";
import type { Dice } from "../race/dice.js";

type Call = ReturnType<NextCall>;
type Listener = Partial<InterceptingListener>;
type Context = Parameters<Call["sendMessageWithContext"]>[0];

/** What a hostile interceptor throws. From a listener above the toolkit it may reach the process, as with grpc-js. */
export const onPurpose = "thrown by a hostile interceptor";

function hurt(): never {
  throw new Error(onPurpose);
}

/** Statuses as they come from interceptors that were written without types. */
const statuses: readonly (() => unknown)[] = [
  () => undefined,
  () => null,
  () => ({}),
  () => "OK",
  () => new Error("an error for a status"),
  () => new StatusBuilder().withCode(status.ABORTED).build(),
  () => new StatusBuilder().withDetails("details alone").build(),
  () => ({ code: status.UNAVAILABLE, details: "a plain object", metadata: { "x-one": "1" } }),
  () => ({ code: status.UNAVAILABLE, details: "null", metadata: null }),
  () => ({ code: "14", details: 3, metadata: 4 }),
  () => ({ code: status.OK, details: "OK" }),
  () => ({ code: 99, details: "no code of gRPC", metadata: new Metadata() }),
];

const downward = ["start", "sendMessageWithContext", "halfClose", "startRead"] as const;
const asides = ["cancelWithStatus", "getPeer", "getAuthContext"] as const;
const upward = ["onReceiveMetadata", "onReceiveMessage", "onReceiveStatus"] as const;
type Down = (typeof downward)[number];

/** What an interceptor does with the calls that pass it, in words: a run that fails prints it. */
export interface Hostility {
  readonly plan: string;
  readonly interceptor: Interceptor;
}

/** An interceptor that stands below the toolkit, or between two interceptors of it. */
export function hostileBelow(dice: Dice, clock: Clock): Hostility {
  const method = dice.pick(...downward);
  const event = dice.pick(...upward);
  const delayMs = dice.pick(1, 50, 500);
  const made = dice.pick(...statuses);
  const nothing = dice.pick(undefined, null) as never;
  switch (dice.pick(...belowPlans)) {
    case "no call":
      return below("returns no call", () => dice.pick(undefined, null, Promise.resolve()));
    case "throws":
      return below("throws instead of a call", hurt);
    case "a method throws": {
      const at = dice.pick(...downward, ...asides);
      return wrapping(`${at} throws`, (call) => Object.assign(call, { [at]: hurt }));
    }
    case "a method is missing": {
      const at = dice.pick(...downward.slice(1), ...asides);
      return wrapping(`has no ${at}`, (call) => Object.assign(call, { [at]: undefined }));
    }
    case "ends inside":
      return wrapping(`ends inside ${method}`, (call) => endInside(call, method, made));
    case "another status":
      return listening("ends with another status", (listener) => ({
        onReceiveStatus: () => listener.onReceiveStatus?.(made() as StatusObject),
      }));
    case "twice":
      return listening(`tells ${event} twice`, (listener) => ({
        [event]: (given: never) => {
          listener[event]?.(given);
          listener[event]?.(given);
        },
      }));
    case "nothing":
      return listening(`swallows ${event}`, () => ({ [event]: () => {} }));
    case "later":
      return listening(`tells ${event} ${delayMs} ms later`, (listener) => ({
        [event]: (given: never) => void clock.schedule(delayMs, () => listener[event]?.(given)),
      }));
    case "empty":
      return listening(`tells ${event} without anything`, (listener) => ({
        [event]: () => listener[event]?.(nothing),
      }));
    case "after the end":
      return listening("goes on after the end", (listener) => ({
        onReceiveStatus: (ended) => {
          listener.onReceiveStatus?.(ended);
          listener.onReceiveMetadata?.(new Metadata());
          listener.onReceiveMessage?.({ sequence: 99 });
          listener.onReceiveStatus?.(made() as StatusObject);
        },
      }));
    case "deaf to cancellation":
      return wrapping("passes no cancellation on", (call) =>
        Object.assign(call, { cancelWithStatus: () => {} }),
      );
    case "callbacks": {
      const times = dice.pick(0, 2, 3);
      return wrapping(`calls writes back ${times} times`, (call) => {
        const send = call.sendMessageWithContext.bind(call);
        call.sendMessageWithContext = (context: Context, message: unknown) => {
          const callback = () => {
            for (let i = 0; i < times; i += 1) context.callback?.();
          };
          send({ ...context, callback }, message);
        };
        return call;
      });
    }
    case "its own retry":
      return below("sends each call twice", (options, nextCall) => {
        const second = nextCall(options);
        second.start(new Metadata(), {});
        second.cancelWithStatus(status.CANCELLED, "never needed");
        return new Plain(nextCall(options));
      });
    case "a hostile status object":
      return listening("ends with an object that throws", (listener) => ({
        onReceiveStatus: () => {
          const { proxy, revoke } = Proxy.revocable({}, {});
          revoke();
          listener.onReceiveStatus?.(proxy as StatusObject);
        },
      }));
  }
}

const belowPlans = [
  "no call",
  "throws",
  "a method throws",
  "a method is missing",
  "ends inside",
  "another status",
  "twice",
  "nothing",
  "later",
  "empty",
  "after the end",
  "deaf to cancellation",
  "callbacks",
  "its own retry",
  "a hostile status object",
] as const;

/** An interceptor that stands above the toolkit. */
export function hostileAbove(dice: Dice, clock: Clock): Hostility {
  const event = dice.pick(...upward);
  switch (dice.pick(...abovePlans)) {
    case "throws":
      return listening(`throws from ${event}`, () => ({ [event]: hurt }));
    case "throws behind":
      return listening(`throws behind ${event}`, (listener) => ({
        [event]: (given: never) => {
          listener[event]?.(given);
          hurt();
        },
      }));
    case "no listener":
      return wrapping("starts without a listener", (call) => {
        const start = call.start.bind(call);
        call.start = (metadata) => start(metadata);
        return call;
      });
    case "half a listener":
      return wrapping(`listens without ${event}`, (call) => {
        const start = call.start.bind(call);
        call.start = (metadata, listener) =>
          start(metadata, { ...bound(listener), [event]: undefined });
        return call;
      });
    case "starts twice":
      return wrapping("starts twice", (call) => {
        const start = call.start.bind(call);
        call.start = (metadata, listener) => {
          start(metadata, listener);
          start(metadata, listener);
        };
        return call;
      });
    case "cancels":
      return listening(`cancels inside ${event}`, (listener, call) => ({
        [event]: (given: never) => {
          call.cancelWithStatus(status.CANCELLED, "hostile");
          call.cancelWithStatus(status.CANCELLED, "hostile again");
          listener[event]?.(given);
        },
      }));
    case "cancels early":
      return below("cancels before the start", (options, nextCall) => {
        const call = nextCall(options);
        call.cancelWithStatus(status.CANCELLED, "hostile");
        return new Plain(call);
      });
    case "reads and closes":
      return wrapping("reads and closes too often", (call) => {
        const close = call.halfClose.bind(call);
        call.halfClose = () => {
          for (let i = 0; i < 3; i += 1) call.startRead();
          close();
          close();
        };
        return call;
      });
    case "asks again":
      return below("retries by itself", (options, nextCall) => retrying(options, nextCall));
    case "holds the status":
      return listening("holds the status back", (listener) => ({
        onReceiveStatus: (ended) => void clock.schedule(5, () => listener.onReceiveStatus?.(ended)),
      }));
  }
}

const abovePlans = [
  "throws",
  "throws behind",
  "no listener",
  "half a listener",
  "starts twice",
  "cancels",
  "cancels early",
  "reads and closes",
  "asks again",
  "holds the status",
] as const;

/** The retry interceptor of gRPC proposal L5, as many have copied it: one more try, and the message it kept. */
const retrying: Interceptor = (options, nextCall) => {
  let metadata = new Metadata();
  let sent: unknown;
  let message: unknown;
  let again: Call | undefined;
  let tellMessage: (message: unknown) => void = () => {};
  return new InterceptingCall(nextCall(options), {
    start(given, _listener, next) {
      metadata = given;
      next(given, {
        onReceiveMessage(received, pass) {
          message = received;
          tellMessage = pass;
        },
        onReceiveStatus(ended, pass) {
          if (ended.code === status.OK) {
            tellMessage(message);
            pass(ended);
            return;
          }
          again = nextCall(options);
          again.start(metadata, {
            onReceiveMessage: (received) => {
              message = received;
            },
            onReceiveStatus: (last) => {
              tellMessage(message);
              pass(last);
            },
          });
          again.sendMessage(sent);
          again.halfClose();
        },
      });
    },
    sendMessage(given, next) {
      sent = given;
      next(given);
    },
    cancel(next) {
      again?.cancelWithStatus(status.CANCELLED, "Cancelled on client");
      next();
    },
  });
};

/** Passes everything on, with nothing of grpc-js's own machinery in between. */
class Plain extends InterceptingCall {
  readonly #call: Call;

  constructor(call: Call) {
    super(call);
    this.#call = call;
  }

  override start(metadata: Metadata, listener?: Listener): void {
    this.#call.start(metadata, listener);
  }

  override sendMessageWithContext(context: Context, message: unknown): void {
    this.#call.sendMessageWithContext(context, message);
  }

  override halfClose(): void {
    this.#call.halfClose();
  }

  override cancelWithStatus(code: status, details: string): void {
    this.#call.cancelWithStatus(code, details);
  }
}

function below(plan: string, make: (...given: Parameters<Interceptor>) => unknown): Hostility {
  return { plan, interceptor: (options, nextCall) => make(options, nextCall) as InterceptingCall };
}

function wrapping(plan: string, change: (call: Plain) => Plain): Hostility {
  return below(plan, (options, nextCall) => change(new Plain(nextCall(options))));
}

function listening(plan: string, change: (listener: Listener, call: Plain) => Listener): Hostility {
  return wrapping(plan, (call) => {
    const start = call.start.bind(call);
    call.start = (metadata, listener = {}) => {
      const own = bound(listener);
      start(metadata, { ...own, ...change(own, call) });
    };
    return call;
  });
}

function bound(listener: Listener = {}): InterceptingListener {
  return {
    onReceiveMetadata: (metadata) => listener.onReceiveMetadata?.(metadata),
    onReceiveMessage: (message: unknown) => listener.onReceiveMessage?.(message),
    onReceiveStatus: (ended) => listener.onReceiveStatus?.(ended),
  };
}

function endInside(call: Plain, method: Down, made: () => unknown): Plain {
  let listener: Listener = {};
  const start = call.start.bind(call);
  call.start = (metadata, given = {}) => {
    listener = given;
    start(metadata, given);
  };
  const original = call[method].bind(call) as (...given: unknown[]) => void;
  return Object.assign(call, {
    [method]: (...given: unknown[]) => {
      original(...given);
      listener.onReceiveStatus?.(made() as StatusObject);
    },
  });
}

/** What stands directly above the toolkit: it sees each event, and whether it came as it must. */
export class Witness {
  readonly faults: string[] = [];
  /** One entry for each call that was started: how it ended. */
  readonly ends: (StatusObject | undefined)[] = [];

  readonly interceptor: Interceptor = (options, nextCall) => {
    const call = new Plain(nextCall(options));
    const { faults, ends } = this;
    const single = !options.method_definition.responseStream;
    let inside = 0;
    for (const method of [...downward, "cancelWithStatus"] as const) {
      const original = call[method].bind(call) as (...given: unknown[]) => void;
      const counted = (...given: unknown[]) => {
        inside += 1;
        try {
          original(...given);
        } catch (error) {
          // Nothing below may throw out of a call, or reach a caller who has started none of it.
          faults.push(`${method} threw ${String(error)}`);
        } finally {
          inside -= 1;
        }
      };
      Object.assign(call, { [method]: counted });
    }
    const counted = call.start.bind(call);
    let started = false;
    call.start = (metadata, listener = {}) => {
      // A caller that starts twice has one call.
      if (started) {
        counted(metadata, listener);
        return;
      }
      started = true;
      const index = ends.push(undefined) - 1;
      let messages = 0;
      counted(metadata, {
        onReceiveMetadata: (headers) => {
          if (ends[index] !== undefined) faults.push("headers after the end");
          listener.onReceiveMetadata?.(headers);
        },
        onReceiveMessage: (message: unknown) => {
          if (ends[index] !== undefined) faults.push("a message after the end");
          messages += 1;
          listener.onReceiveMessage?.(message);
        },
        onReceiveStatus: (ended) => {
          if (ends[index] !== undefined) faults.push("ended twice");
          if (inside > 0) faults.push("ended inside a call of the caller's");
          if (single && messages === 0) faults.push("no null before the end");
          if (!isWhole(ended)) faults.push(`a status that is not whole: ${JSON.stringify(ended)}`);
          ends[index] = ended;
          listener.onReceiveStatus?.(ended);
        },
      });
    };
    return call;
  };
}

function isWhole(given: unknown): boolean {
  const { code, details, metadata } = (given ?? {}) as StatusObject;
  return Number.isInteger(code) && typeof details === "string" && metadata instanceof Metadata;
}

/** A server interceptor that stands anywhere among those of the toolkit. */
export function hostileServer(
  dice: Dice,
  clock: Clock,
): { readonly plan: string; readonly interceptor: ServerInterceptor } {
  const made = dice.pick(...statuses);
  const plan = dice.pick(...serverPlans);
  const metadata = dice.pick(null, undefined, {}, { "x-one": "1" });
  const interceptor: ServerInterceptor = (_method, call) => new HostileServerCall(call, hostility);
  const hostility: ServerHostility = { plan, made, metadata, clock };
  return { plan, interceptor };
}

const serverPlans = [
  "sends another status",
  "sends the status twice",
  "sends a status at once",
  "sends the status later",
  "swallows the status",
  "swallows the headers",
  "sends other headers",
  "tells other metadata",
  "tells the metadata twice",
  "tells the metadata later",
  "tells the half-close twice",
  "tells the end twice",
  "tells messages twice",
] as const;

interface ServerHostility {
  readonly plan: (typeof serverPlans)[number];
  readonly made: () => unknown;
  readonly metadata: unknown;
  readonly clock: Clock;
}

type ServerListener = Parameters<ServerInterceptingCallInterface["start"]>[0];
type Sent = Parameters<ServerInterceptingCallInterface["sendStatus"]>[0];

class HostileServerCall extends ServerInterceptingCall {
  readonly #call: ServerInterceptingCallInterface;
  readonly #is: ServerHostility;

  constructor(call: ServerInterceptingCallInterface, is: ServerHostility) {
    super(call);
    this.#call = call;
    this.#is = is;
  }

  override start(listener: ServerListener): void {
    const { plan, made, metadata: other, clock } = this.#is;
    this.#call.start({
      onReceiveMetadata: (metadata) => {
        if (plan === "sends a status at once") this.#call.sendStatus(sendable(made()));
        const given = plan === "tells other metadata" ? (other as Metadata) : metadata;
        const tell = () => listener.onReceiveMetadata(given);
        if (plan === "tells the metadata later") clock.schedule(30, tell);
        else tell();
        if (plan === "tells the metadata twice") tell();
      },
      onReceiveMessage: (message) => {
        listener.onReceiveMessage(message);
        if (plan === "tells messages twice") listener.onReceiveMessage(message);
      },
      onReceiveHalfClose: () => {
        listener.onReceiveHalfClose();
        if (plan === "tells the half-close twice") listener.onReceiveHalfClose();
      },
      onCancel: () => {
        listener.onCancel();
        if (plan === "tells the end twice") listener.onCancel();
      },
    });
  }

  override sendMetadata(metadata: Metadata): void {
    const { plan, metadata: other } = this.#is;
    if (plan === "swallows the headers") return;
    this.#call.sendMetadata(
      plan === "sends other headers" ? headersOf(this.#call, other) : metadata,
    );
  }

  override sendMessage(message: unknown, callback: () => void): void {
    this.#call.sendMessage(message, callback);
  }

  override sendStatus(sent: Sent): void {
    const { plan, made, clock } = this.#is;
    const call = this.#call;
    if (plan === "swallows the status") return;
    const given = plan === "sends another status" ? statusFor(call, made()) : sent;
    if (plan === "sends the status later") clock.schedule(30, () => call.sendStatus(given));
    else call.sendStatus(given);
    if (plan === "sends the status twice") call.sendStatus(given);
  }
}

/** What grpc-js itself cannot take is only for who stands between it and the interceptor: the toolkit. */
function statusFor(call: ServerInterceptingCallInterface, given: unknown): Sent {
  return call instanceof ServerInterceptingCall ? (given as Sent) : sendable(given);
}

function headersOf(call: ServerInterceptingCallInterface, given: unknown): Metadata {
  return call instanceof ServerInterceptingCall ? (given as Metadata) : new Metadata();
}

function sendable(_given: unknown): Sent {
  return { code: status.ABORTED, details: "sent by a hostile interceptor", metadata: null };
}
