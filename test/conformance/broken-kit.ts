import {
  InterceptingCall,
  type InterceptingListener,
  type Interceptor,
  type NextCall,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
} from "@grpc/grpc-js";

type Call = ReturnType<NextCall>;
type Context = Parameters<Call["sendMessageWithContext"]>[0];
type ServerSide = Parameters<ServerInterceptingCallInterface["start"]>[0];
type Listen = (listener: InterceptingListener, call: Call) => Partial<InterceptingListener>;
type Send = (call: Call, context: Context, message: unknown) => void;
type Serve = (listener: ServerSide) => Partial<ServerSide>;

/** A client interceptor that treats the events of the call below in its own way. */
export const hearing =
  (listen: Listen): Interceptor =>
  (options, nextCall) => {
    const call = nextCall(options);
    return new InterceptingCall(call, {
      start: (metadata, listener, next) => {
        // Arity 1 throughout, which makes grpc-js take the listener as it is.
        next(metadata, {
          onReceiveMetadata: (headers: Parameters<InterceptingListener["onReceiveMetadata"]>[0]) =>
            listener.onReceiveMetadata(headers),
          onReceiveMessage: (message: unknown) => listener.onReceiveMessage(message),
          onReceiveStatus: (ended: Parameters<InterceptingListener["onReceiveStatus"]>[0]) =>
            listener.onReceiveStatus(ended),
          ...listen(listener, call),
        });
      },
    });
  };

/** A client interceptor that treats writes in its own way. */
export const writing =
  (send: Send): Interceptor =>
  (options, nextCall) =>
    new Writing(nextCall(options), send);

class Writing extends InterceptingCall {
  readonly #call: Call;
  readonly #send: Send;

  constructor(call: Call, send: Send) {
    super(call);
    this.#call = call;
    this.#send = send;
  }

  override sendMessageWithContext(context: Context, message: unknown): void {
    this.#send(this.#call, context, message);
  }
}

/** A server interceptor that treats the events of the call below in its own way. */
export const serving =
  (serve: Serve): ServerInterceptor =>
  (_method, call) =>
    new Serving(call, serve);

class Serving extends ServerInterceptingCall {
  readonly #call: ServerInterceptingCallInterface;
  readonly #serve: Serve;

  constructor(call: ServerInterceptingCallInterface, serve: Serve) {
    super(call);
    this.#call = call;
    this.#serve = serve;
  }

  override start(listener: ServerSide): void {
    this.#call.start({
      onReceiveMetadata: (metadata) => listener.onReceiveMetadata(metadata),
      onReceiveMessage: (message) => listener.onReceiveMessage(message),
      onReceiveHalfClose: () => listener.onReceiveHalfClose(),
      onCancel: () => listener.onCancel(),
      ...this.#serve(listener),
    });
  }
}

/** Takes every write at once and passes it on when the call below has room. */
export class Hoarding extends InterceptingCall {
  readonly #call: Call;
  readonly #hoard: (() => void)[] = [];
  #busy = false;

  constructor(call: Call) {
    super(call);
    this.#call = call;
  }

  override sendMessageWithContext({ callback, ...context }: Context, message: unknown): void {
    process.nextTick(() => callback?.());
    this.#hoard.push(() => {
      this.#busy = true;
      const free = () => {
        this.#busy = false;
        this.#next();
      };
      this.#call.sendMessageWithContext({ ...context, callback: free }, message);
    });
    this.#next();
  }

  override halfClose(): void {
    this.#hoard.push(() => this.#call.halfClose());
    this.#next();
  }

  #next(): void {
    if (!this.#busy) this.#hoard.shift()?.();
  }
}
