import type { Interceptor, Metadata, StatusObject } from "@grpc/grpc-js";
import { ForwardingCall } from "../../../src/grpc/client/forwarding-call.js";

/** A call that is started below when the test says so, as one that waits in a queue is. */
export class PutOffCall extends ForwardingCall {
  releases = 0;
  #metadata: Metadata | undefined;

  protected override begin(metadata: Metadata): void {
    this.#metadata = metadata;
  }

  protected override released(): void {
    this.releases += 1;
  }

  get begun(): boolean {
    return this.#metadata !== undefined;
  }

  go(): void {
    if (this.#metadata !== undefined) this.forward(this.#metadata);
  }

  endWith(final: StatusObject): void {
    this.finish(final);
  }
}

/** An interceptor of such calls, and the calls it made. */
export function puttingOff(): { readonly interceptor: Interceptor; readonly calls: PutOffCall[] } {
  const calls: PutOffCall[] = [];
  const interceptor: Interceptor = (options, nextCall) => {
    const call = new PutOffCall(options, nextCall);
    calls.push(call);
    return call;
  };
  return { interceptor, calls };
}
