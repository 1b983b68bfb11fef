import {
  InterceptingCall,
  type Interceptor,
  type InterceptorOptions,
  Metadata,
  type NextCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import { echoService, payload } from "./echo.js";

type ClientListener = NonNullable<Parameters<InterceptingCall["start"]>[1]>;
type ServerListener = Parameters<ServerInterceptingCallInterface["start"]>[0];
type MessageContext = Parameters<InterceptingCall["sendMessageWithContext"]>[0];

const ok: StatusObject = { code: status.OK, details: "OK", metadata: new Metadata() };
const answerHeaders = new Metadata();
/** The server's interceptors tell calls apart by it. */
const newRequestHeaders = () => new Metadata();

/** The end of a client pipeline: answers at once, so that nothing but the pipeline is measured. */
class StubCall extends InterceptingCall {
  #listener: Partial<ClientListener> | undefined;

  constructor() {
    super(undefined as never); // never used: every method is overridden
  }

  override start(_metadata: Metadata, listener?: Partial<ClientListener>): void {
    this.#listener = listener;
  }

  override sendMessageWithContext(context: MessageContext): void {
    context.callback?.();
  }

  override sendMessage(): void {}

  override halfClose(): void {
    this.#listener?.onReceiveMetadata?.(answerHeaders);
    this.#listener?.onReceiveMessage?.(payload);
    this.#listener?.onReceiveStatus?.(ok);
  }

  override startRead(): void {}

  override cancelWithStatus(): void {}

  override getPeer(): string {
    return "127.0.0.1:1";
  }

  override getAuthContext(): null {
    return null;
  }
}

/** Calls that end at a stub. The toolkit tells of an end a task later, as grpc-js does. */
export interface StubbedCalls {
  make(): void;
  /** How many have ended. */
  readonly ended: number;
}

/** Unary calls through client interceptors, joined as grpc-js joins them. */
export function clientCalls(interceptors: readonly Interceptor[]): StubbedCalls {
  const bottom: NextCall = () => new StubCall();
  const first = interceptors.reduceRight<NextCall>(
    (next, interceptor) => (options) => interceptor(options, next),
    bottom,
  );
  const { path, requestStream, responseStream, ...codec } = echoService.unary;
  const definition = { path, requestStream, responseStream, ...codec };
  let ended = 0;
  const listener: ClientListener = {
    onReceiveMetadata() {},
    onReceiveMessage() {},
    onReceiveStatus() {
      ended += 1;
    },
  };
  return {
    make: () => {
      // Made for each call, as grpc-js does.
      const options: InterceptorOptions = Object.assign({}, { method_definition: definition });
      const call = first(options);
      call.start(new Metadata(), listener);
      call.sendMessage(payload);
      call.halfClose();
    },
    get ended() {
      return ended;
    },
  };
}

/** The wire side of a server pipeline. */
class StubServerCall implements ServerInterceptingCallInterface {
  listener: ServerListener | undefined;

  start(listener: ServerListener): void {
    this.listener = listener;
  }

  sendMetadata(): void {}

  sendMessage(_message: unknown, callback: () => void): void {
    callback();
  }

  sendStatus(): void {
    this.listener?.onCancel();
  }

  startRead(): void {}

  getPeer(): string {
    return "127.0.0.1:1";
  }

  getDeadline(): number {
    return Number.POSITIVE_INFINITY;
  }

  getHost(): string {
    return "localhost";
  }

  getAuthContext(): Record<string, never> {
    return {};
  }

  getConnectionInfo(): { localAddress: string; localPort: number } {
    return { localAddress: "127.0.0.1", localPort: 1 };
  }

  getMetricsRecorder(): ReturnType<ServerInterceptingCallInterface["getMetricsRecorder"]> {
    throw new Error("a stub has no metrics");
  }
}

/** Unary calls through server interceptors, with a handler that answers at once. */
export function serverCalls(interceptors: readonly ServerInterceptor[]): StubbedCalls {
  const method = echoService.unary;
  let ended = 0;
  return {
    make: () => {
      const wire = new StubServerCall();
      let call: ServerInterceptingCallInterface = wire;
      for (const interceptor of interceptors) call = interceptor(method, call);
      call.start({
        onReceiveMetadata: () => call.startRead(),
        // The end of the request is read as well, as grpc-js reads it.
        onReceiveMessage: () => call.startRead(),
        onReceiveHalfClose() {
          call.sendMetadata(answerHeaders);
          call.sendMessage(payload, () => call.sendStatus(ok));
        },
        onCancel() {
          ended += 1;
        },
      });
      wire.listener?.onReceiveMetadata(newRequestHeaders());
      wire.listener?.onReceiveMessage(payload);
      wire.listener?.onReceiveHalfClose();
    },
    get ended() {
      return ended;
    },
  };
}
