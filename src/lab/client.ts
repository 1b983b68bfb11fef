import { EventEmitter } from "node:events";
import {
  type CallOptions,
  type CallProperties,
  type ClientOptions,
  type Interceptor,
  Metadata,
  type NextCall,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import type { ChannelCall, ClientCall, ClientListener, MessageContext } from "../grpc/types.js";
import { type ChannelSetup, LabChannel } from "./channel.js";

type Properties = CallProperties<Buffer, Buffer>;
type Definition = Properties["methodDefinition"];

/** What the caller gets, once: the status, and the last message. */
export type RequestEnd = (status: StatusObject, response: Buffer | undefined) => void;

/** A call with a single request. */
export interface ClientRequest {
  /** `lab.Service/Method`. */
  readonly method: string;
  readonly metadata?: Metadata;
  /** Epoch milliseconds by the clock of the process. */
  readonly deadline?: number;
}

/** All messages of the lab. */
export const payload = Buffer.from("lab");

/** A client as grpc-js makes it of its options: the transformer, the interceptors, then the channel. */
export class LabClient {
  readonly channel: LabChannel;
  readonly #options: ClientOptions;
  readonly #streams: ReadonlySet<string> | undefined;

  constructor(setup: ChannelSetup) {
    this.#streams = setup.streams;
    this.channel = new LabChannel(setup);
    this.#options = setup.options;
  }

  /** Makes a call. All messages of a stream are read. `ended` is called when it has ended. */
  request(
    { method, metadata = new Metadata(), deadline }: ClientRequest,
    ended: RequestEnd,
  ): ClientCall {
    const streaming = this.#streams?.has(method) ?? false;
    const callOptions: CallOptions = deadline === undefined ? {} : { deadline };
    const given: Properties = {
      argument: payload,
      metadata,
      call: noSurface,
      channel: this.channel,
      methodDefinition: definitionOf(method, streaming),
      callOptions,
    };
    const properties: Properties = this.#options.callInvocationTransformer?.(given) ?? given;
    const call = this.#callOf(properties);
    const caller = new Caller(ended, streaming ? () => call.startRead() : undefined);
    call.start(properties.metadata, caller);
    if (streaming) call.startRead();
    call.sendMessage(properties.argument);
    call.halfClose();
    return call;
  }

  #callOf({ channel, methodDefinition, callOptions }: Properties): ClientCall {
    const interceptors =
      interceptorsOf(callOptions, methodDefinition) ??
      interceptorsOf(this.#options, methodDefinition) ??
      [];
    const bottom: NextCall = (options) => {
      const { deadline = Number.POSITIVE_INFINITY, host, parent = null, propagate_flags } = options;
      const { path } = methodDefinition;
      const call = channel.createCall(path, deadline, host, parent, propagate_flags);
      return methodDefinition.responseStream
        ? new BaseCall(call, methodDefinition)
        : new BaseUnaryCall(call, methodDefinition);
    };
    const first = interceptors.reduceRight<NextCall>(
      (next, interceptor) => (options) => interceptor(options, next),
      bottom,
    );
    return first({ ...callOptions, method_definition: methodDefinition });
  }
}

function interceptorsOf(
  options: Pick<ClientOptions, "interceptors" | "interceptor_providers">,
  definition: Definition,
): readonly Interceptor[] | undefined {
  const { interceptors = [], interceptor_providers: providers = [] } = options;
  if (interceptors.length > 0) return interceptors;
  if (providers.length === 0) return undefined;
  return providers.map((provider) => provider(definition)).filter((each) => each !== undefined);
}

const asItIs = (message: Buffer): Buffer => message;

/** As in grpc-js, each call has its own object, which interceptors may change. */
function definitionOf(method: string, responseStream: boolean): Definition {
  return {
    path: `/${method}`,
    requestStream: false,
    responseStream,
    requestSerialize: asItIs,
    responseDeserialize: asItIs,
  };
}

/** The call that applications hold in grpc-js. In the lab nobody holds one, so that all calls can share it. */
class NoSurface extends EventEmitter {
  cancel(): void {}

  getPeer(): string {
    return "unknown";
  }

  getAuthContext(): null {
    return null;
  }
}

const noSurface = new NoSurface();

/** The listener of the caller: it keeps the response until the status comes. */
class Caller implements ClientListener {
  readonly #ended: RequestEnd;
  /** Reads the next message of a stream. */
  readonly #readNext: (() => void) | undefined;
  #response: Buffer | undefined;
  #done = false;

  constructor(ended: RequestEnd, readNext: (() => void) | undefined) {
    this.#ended = ended;
    this.#readNext = readNext;
  }

  onReceiveMetadata(): void {}

  onReceiveMessage(message: unknown): void {
    if (Buffer.isBuffer(message)) this.#response = message;
    this.#readNext?.();
  }

  onReceiveStatus(status: StatusObject): void {
    if (this.#done) return;
    this.#done = true;
    this.#ended(status, this.#response);
  }
}

/** The call below the last interceptor, as grpc-js makes it: it serializes. */
class BaseCall implements ClientCall {
  readonly #call: ChannelCall;
  readonly #definition: Definition;

  constructor(call: ChannelCall, definition: Definition) {
    this.#call = call;
    this.#definition = definition;
  }

  start(metadata: Metadata, listener: Partial<ClientListener> = {}): void {
    this.#call.start(metadata, {
      onReceiveMetadata: (headers) => listener.onReceiveMetadata?.(headers),
      onReceiveMessage: (message: Buffer) => {
        listener.onReceiveMessage?.(this.#definition.responseDeserialize(message));
      },
      onReceiveStatus: (status) => listener.onReceiveStatus?.(status),
    });
  }

  sendMessageWithContext(context: MessageContext, message: Buffer): void {
    let bytes: Buffer;
    try {
      bytes = this.#definition.requestSerialize(message);
    } catch (error) {
      const reason = error instanceof Error ? error.message : "unknown";
      const details = `Request message serialization failure: ${reason}`;
      this.#call.cancelWithStatus(Status.INTERNAL, details);
      return;
    }
    this.#call.sendMessageWithContext(context, bytes);
  }

  sendMessage(message: Buffer): void {
    this.sendMessageWithContext({}, message);
  }

  startRead(): void {
    this.#call.startRead();
  }

  halfClose(): void {
    this.#call.halfClose();
  }

  cancelWithStatus(code: Status, details: string): void {
    this.#call.cancelWithStatus(code, details);
  }

  getPeer(): string {
    return this.#call.getPeer();
  }

  getAuthContext(): ReturnType<ClientCall["getAuthContext"]> {
    return this.#call.getAuthContext();
  }
}

/** For a unary method: a call that fails without a message gives the listener a message of null before the status. */
class BaseUnaryCall extends BaseCall {
  override start(metadata: Metadata, listener: Partial<ClientListener> = {}): void {
    let answered = false;
    super.start(metadata, {
      onReceiveMetadata: (headers) => listener.onReceiveMetadata?.(headers),
      onReceiveMessage: (message) => {
        answered = true;
        listener.onReceiveMessage?.(message);
      },
      onReceiveStatus: (status) => {
        if (!answered) listener.onReceiveMessage?.(null);
        listener.onReceiveStatus?.(status);
      },
    });
    this.startRead();
  }
}
