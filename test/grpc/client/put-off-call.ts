import type { Interceptor, InterceptorOptions, NextCall, StatusObject } from "@grpc/grpc-js";
import { segmentOf } from "../../../src/grpc/client/parts.js";
import { PipelineCall } from "../../../src/grpc/client/pipeline-call.js";
import { withRecord } from "../../../src/grpc/context/call-record.js";
import { environmentOf } from "../../../src/grpc/environment.js";

const environment = environmentOf({}, "test");
const segment = segmentOf(environment);

/** The plainest call: it passes everything on at once. */
export class PlainCall extends PipelineCall {
  constructor(options: InterceptorOptions, nextCall: NextCall) {
    super(withRecord(options, environment), nextCall, segment);
  }
}

/** A call that is started below when the test says so, as one that waits for its request is. */
export class PutOffCall extends PlainCall {
  releases = 0;
  begun = false;

  protected override begin(): void {
    this.begun = true;
  }

  protected override released(): void {
    this.releases += 1;
  }

  go(): void {
    if (this.begun) super.begin();
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
