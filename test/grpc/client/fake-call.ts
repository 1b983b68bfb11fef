import { setImmediate as turn } from "node:timers/promises";
import {
  type InterceptorOptions,
  Metadata,
  type NextCall,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import { ConformanceServiceService } from "../../../src/gen/weir/v1/conformance.js";
import type {
  CallKind,
  ClientCall,
  ClientListener,
  MessageContext,
} from "../../../src/grpc/types.js";

export const kinds: readonly CallKind[] = ["unary", "client-stream", "server-stream", "bidi"];

const definitions = {
  unary: ConformanceServiceService.unary,
  "client-stream": ConformanceServiceService.clientStream,
  "server-stream": ConformanceServiceService.serverStream,
  bidi: ConformanceServiceService.bidiStream,
} as const satisfies Record<CallKind, unknown>;

/** What grpc-js hands to an interceptor of a call of this kind. */
export function optionsOf(kind: CallKind = "unary"): InterceptorOptions {
  return { method_definition: definitions[kind] };
}

/** Lets microtasks and nextTicks run out. No time passes. */
export async function settled(): Promise<void> {
  await turn();
  await turn();
}

export function ended(code: status, details = "", metadata = new Metadata()): StatusObject {
  return { code, details, metadata };
}

/**
 * The call below, played by the test: it notes what it is told, and tells what the test wants. A write is
 * called back when the test says so.
 */
export class FakeCall implements ClientCall {
  readonly log: string[] = [];
  readonly flags: (number | undefined)[] = [];
  readonly options: InterceptorOptions;
  metadata = new Metadata();
  peer = "10.0.0.1:443";
  /** Called back at once, as by a channel with room in its buffer. */
  eager = false;
  readonly #writes: (() => void)[] = [];
  #listener: Partial<ClientListener> | undefined;
  #over = false;

  constructor(options: InterceptorOptions = optionsOf()) {
    this.options = options;
  }

  start(metadata: Metadata, listener?: Partial<ClientListener>): void {
    this.log.push("start");
    this.metadata = metadata;
    this.#listener = listener;
  }

  sendMessageWithContext(context: MessageContext, message: unknown): void {
    this.log.push(`message ${String(message)}`);
    this.flags.push(context.flags);
    this.#writes.push(() => context.callback?.());
    if (this.eager) process.nextTick(() => this.written());
  }

  sendMessage(message: unknown): void {
    this.sendMessageWithContext({}, message);
  }

  halfClose(): void {
    this.log.push("half-close");
  }

  startRead(): void {
    this.log.push("read");
  }

  cancelWithStatus(code: status, details: string): void {
    this.log.push(`cancel ${status[code]} ${details}`);
    process.nextTick(() => this.end(ended(code, details)));
  }

  getPeer(): string {
    return this.peer;
  }

  getAuthContext(): null {
    return null;
  }

  /** Calls the oldest write back. */
  written(): void {
    this.#writes.shift()?.();
  }

  headers(metadata = new Metadata()): void {
    this.#listener?.onReceiveMetadata?.(metadata);
  }

  message(message: unknown): void {
    this.#listener?.onReceiveMessage?.(message);
  }

  /** The first end of a call that was started is told; later ones are not, unless that is asked for. */
  end(received: StatusObject, again = false): void {
    if ((this.#over && !again) || this.#listener === undefined) return;
    this.#over = true;
    this.#listener.onReceiveStatus?.(received);
  }
}

/** A way down that makes fake calls and keeps them. */
export function fakeBelow(eager = false): {
  readonly calls: FakeCall[];
  readonly nextCall: NextCall;
} {
  const calls: FakeCall[] = [];
  const nextCall: NextCall = (options) => {
    const call = new FakeCall(options);
    call.eager = eager;
    calls.push(call);
    return call;
  };
  return { calls, nextCall };
}

/** The only call that was made, or the one of this number. */
export function callOf(calls: readonly FakeCall[], index = 0): FakeCall {
  const call = calls[index];
  if (call === undefined) throw new Error(`no call ${index} was made below`);
  return call;
}

/** A listener that notes what it hears, in a word each. */
export class Hearer implements ClientListener {
  readonly heard: string[] = [];
  readonly statuses: StatusObject[] = [];
  /** Run inside the event of that name. */
  readonly on: { headers?: () => void; message?: () => void; status?: () => void } = {};

  onReceiveMetadata(_metadata: Metadata): void {
    this.heard.push("headers");
    this.on.headers?.();
  }

  onReceiveMessage(message: unknown): void {
    this.heard.push(`message ${String(message)}`);
    this.on.message?.();
  }

  onReceiveStatus(received: StatusObject): void {
    this.statuses.push(received);
    this.heard.push(`status ${status[received.code]}`);
    this.on.status?.();
  }
}

/** What a caller hears of a response that does not come: grpc-js tells a single one by null. */
export function failing(kind: CallKind, code: status): string[] {
  const single = kind === "unary" || kind === "client-stream";
  return [...(single ? ["message null"] : []), `status ${status[code]}`];
}

/** Counts how often each of some write callbacks was called. */
export class Writes {
  readonly counts: number[] = [];

  context(flags?: number): MessageContext {
    const index = this.counts.push(0) - 1;
    const callback = () => {
      this.counts[index] = (this.counts[index] ?? 0) + 1;
    };
    return flags === undefined ? { callback } : { callback, flags };
  }
}
