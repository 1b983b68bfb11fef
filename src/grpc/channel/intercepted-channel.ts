import {
  type CallOptions,
  type ChannelCredentials,
  Client,
  type ClientOptions,
  Channel as Connection,
  connectivityState,
  type InterceptingCall,
  type Interceptor,
} from "@grpc/grpc-js";
import type { ChannelCall } from "../types.js";
import { InterceptedCall, type Launch } from "./intercepted-call.js";

type CreateCallArgs = Parameters<Connection["createCall"]>;

/**
 * A channel whose calls pass client interceptors, for libraries that take a channel and make their calls without
 * interceptors. The calls are made by a client of grpc-js, so that its interceptors see what they would see in any client.
 */
export class InterceptedChannel extends Connection {
  readonly #client: Client;
  /** The call that is being launched. */
  #launching: InterceptedCall | undefined;

  constructor(target: string, credentials: ChannelCredentials, options: ClientOptions) {
    const { interceptors, interceptor_providers, callInvocationTransformer, ...own } = options;
    super(target, credentials, own);
    // This channel, but with calls as grpc-js makes them.
    const wire: Connection = Object.create(this, {
      createCall: { value: (...args: CreateCallArgs) => super.createCall(...args) },
    });
    const handOver: Interceptor = (given, nextCall) => {
      const chain = nextCall(given);
      // grpc-js uses the methods of a call only; its type for interceptors also has private fields.
      return (this.#launching?.handedOver(chain) ?? chain) as InterceptingCall;
    };
    this.#client = new Client(target, credentials, {
      ...(interceptor_providers !== undefined && interceptor_providers.length > 0
        ? { interceptor_providers: [() => handOver, ...interceptor_providers] }
        : { interceptors: [handOver, ...(interceptors ?? [])] }),
      ...(callInvocationTransformer === undefined ? {} : { callInvocationTransformer }),
      channelOverride: wire,
    });
  }

  override createCall(...args: CreateCallArgs): ChannelCall {
    const [method, deadline, host, parent, propagateFlags] = args;
    if (typeof method !== "string") {
      throw new TypeError("Channel#createCall: method must be a string");
    }
    if (!(typeof deadline === "number" || deadline instanceof Date)) {
      throw new TypeError("Channel#createCall: deadline must be a number or Date");
    }
    if (this.getConnectivityState(false) === connectivityState.SHUTDOWN) {
      // The text of grpc-js.
      throw new Error("Channel has been shut down");
    }
    const options: CallOptions = {
      ...(deadline === Number.POSITIVE_INFINITY ? {} : { deadline }),
      ...(typeof host === "string" ? { host } : {}),
      // It comes from the options of a call.
      ...(parent ? { parent: parent as NonNullable<CallOptions["parent"]> } : {}),
      ...(typeof propagateFlags === "number" ? { propagate_flags: propagateFlags } : {}),
    };
    return new InterceptedCall(method, options, this.getTarget(), this.#launch);
  }

  readonly #launch: Launch = (call, { method, metadata, options, message, responseStream }) => {
    const outer = this.#launching;
    this.#launching = call;
    try {
      const client = this.#client;
      if (message === undefined) {
        client.makeBidiStreamRequest(method, bytes, bytes, metadata, options);
      } else if (responseStream) {
        client.makeServerStreamRequest(method, bytes, bytes, message, metadata, options);
      } else {
        client.makeUnaryRequest(method, bytes, bytes, message, metadata, options, nobody);
      }
    } finally {
      this.#launching = outer;
    }
  };
}

/** What a channel sends and receives is bytes already. */
const bytes = (message: Buffer): Buffer => message;

/** The call of the client is answered by nobody: what arrives goes to the call of the channel. */
const nobody = (): void => {};
