import {
  InterceptingCall,
  type Interceptor,
  ServerInterceptingCall,
  type ServerInterceptor,
} from "@grpc/grpc-js";

/** Counts the calls that have started and not ended, on both ends of a link. */
export class OpenCalls {
  #client = 0;
  #server = 0;

  /** Calls in progress, the client's and the server's side counted separately: one call makes two. */
  get total(): number {
    return this.#client + this.#server;
  }

  /** Belongs innermost: what it sees is what goes over the wire. */
  readonly client: Interceptor = (options, nextCall) => {
    let open = false;
    return new InterceptingCall(nextCall(options), {
      start: (metadata, _listener, next) => {
        open = true;
        this.#client += 1;
        next(metadata, {
          onReceiveStatus: (status, forward) => {
            if (open) this.#client -= 1;
            open = false;
            forward(status);
          },
        });
      },
    });
  };

  /** Belongs nearest the wire, first in the server's list. */
  readonly server: ServerInterceptor = (_method, call) => {
    let open = false;
    let answered = false;
    return new ServerInterceptingCall(call, {
      start: (next) => {
        // An interceptor may answer before it starts the call. grpc-js then never takes our
        // listener, so nothing would tell us of the end.
        open = !answered;
        if (open) this.#server += 1;
        next({
          onCancel: () => {
            if (open) this.#server -= 1;
            open = false;
          },
        });
      },
      sendStatus: (status, next) => {
        answered = true;
        next(status);
      },
    });
  };
}
