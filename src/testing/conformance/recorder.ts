import {
  InterceptingCall,
  type InterceptingListener,
  type Interceptor,
  type Metadata,
  type NextCall,
  type StatusObject,
} from "@grpc/grpc-js";

type Call = ReturnType<NextCall>;
type Context = Parameters<Call["sendMessageWithContext"]>[0];

/** What the outermost interceptor has seen of one call. */
export interface CallRecorder {
  readonly path: string;
  starts: number;
  readonly statuses: StatusObject[];
  /** How often each write was called back, in the order of the writes. */
  readonly callbacks: number[];
  /** Events that came in the wrong order, or twice. */
  readonly faults: string[];
}

/** Records the calls of a client, outside of all interceptors under test. */
export class Recorder {
  readonly calls: CallRecorder[] = [];

  readonly interceptor: Interceptor = (options, nextCall) => {
    const { path, responseStream } = options.method_definition;
    const record: CallRecorder = { path, starts: 0, statuses: [], callbacks: [], faults: [] };
    this.calls.push(record);
    return new RecordedCall(nextCall(options), record, responseStream);
  };
}

/**
 * A call with nothing of grpc-js between it and the outermost interceptor under test. The methods of `InterceptingCall`
 * would reorder some of the events.
 */
class RecordedCall extends InterceptingCall {
  readonly #call: Call;
  readonly #record: CallRecorder;
  readonly #responseStream: boolean;

  constructor(call: Call, record: CallRecorder, responseStream: boolean) {
    super(call);
    this.#call = call;
    this.#record = record;
    this.#responseStream = responseStream;
  }

  override start(metadata: Metadata, listener?: Partial<InterceptingListener>): void {
    this.#record.starts += 1;
    this.#call.start(metadata, this.#watch(listener));
  }

  override sendMessage(message: unknown): void {
    this.#call.sendMessage(message);
  }

  override sendMessageWithContext(context: Context, message: unknown): void {
    const { callback } = context;
    if (callback === undefined) {
      this.#call.sendMessageWithContext(context, message);
      return;
    }
    const { callbacks } = this.#record;
    const index = callbacks.push(0) - 1;
    this.#call.sendMessageWithContext(
      {
        ...context,
        callback: (error) => {
          callbacks[index] = (callbacks[index] ?? 0) + 1;
          callback(error);
        },
      },
      message,
    );
  }

  #watch(listener: Partial<InterceptingListener> | undefined): InterceptingListener {
    const { statuses, faults } = this.#record;
    let headers = 0;
    let messages = 0;
    const expect = (holds: boolean, fault: string) => {
      if (!holds) faults.push(fault);
    };
    return {
      onReceiveMetadata: (metadata) => {
        headers += 1;
        expect(headers === 1, "headers came twice");
        expect(messages === 0, "headers came after a message");
        expect(statuses.length === 0, "headers came after the status");
        listener?.onReceiveMetadata?.(metadata);
      },
      onReceiveMessage: (message: unknown) => {
        // When a call with a single response fails, grpc-js gives null for the response before the status.
        if (message !== null || this.#responseStream) {
          messages += 1;
          expect(headers === 1, "a message came before the headers");
        }
        expect(message !== null || !this.#responseStream, "null came for a message of a stream");
        expect(statuses.length === 0, "a message came after the status");
        listener?.onReceiveMessage?.(message);
      },
      onReceiveStatus: (status) => {
        statuses.push(status);
        expect(statuses.length === 1, "the status came twice");
        listener?.onReceiveStatus?.(status);
      },
    };
  }
}
