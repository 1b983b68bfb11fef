import { type Interceptor, Metadata, type StatusObject, status } from "@grpc/grpc-js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import type { CallKind } from "../../../src/grpc/types.js";
import type { Link, Transport } from "../../../src/testing/transport.js";

/** What the handler does with one attempt. */
export interface AttemptPlan {
  /** Fails after so many messages of a streamed request, or at its end; absent: it answers. */
  readonly failAfter?: number;
  /** Sends headers before that. */
  readonly headers?: boolean;
}

export interface Message {
  readonly payload: Buffer;
  readonly sequence: number;
}

/** What one attempt brought to the handler. */
export interface Handled {
  readonly metadata: Metadata;
  readonly requests: Message[];
  halfClosed: boolean;
}

export interface Result {
  readonly statuses: StatusObject[];
  readonly headers: number;
  readonly responses: number[];
  /** How often each write was called back. */
  readonly writes: number[];
}

/** A message whose content follows from its number. */
export function message(sequence: number, bytes = 16): Message {
  return { payload: Buffer.alloc(bytes, `${sequence};`), sequence };
}

/** A client over whose calls the interceptor stands, and handlers that follow a plan for each attempt. */
export async function openPlanned(
  transport: Transport,
  interceptor: Interceptor | undefined,
  plan: readonly AttemptPlan[],
): Promise<{ link: Link; client: ConformanceServiceClient; handled: Handled[] }> {
  const handled: Handled[] = [];
  const next = (metadata: Metadata) => {
    const step = plan[handled.length] ?? {};
    const record: Handled = { metadata, requests: [], halfClosed: false };
    handled.push(record);
    return { step, record };
  };
  const failure = () => ({ code: status.UNAVAILABLE, details: `attempt ${handled.length}` });
  const implementation: ConformanceServiceServer = {
    unary(call, callback) {
      const { step, record } = next(call.metadata);
      record.requests.push(call.request);
      if (step.headers === true) call.sendMetadata(new Metadata());
      callback(step.failAfter === undefined ? null : failure(), call.request);
    },
    serverStream(call) {
      const { step, record } = next(call.metadata);
      record.requests.push(call.request);
      if (step.headers === true) call.sendMetadata(new Metadata());
      if (step.failAfter !== undefined) call.emit("error", failure());
      else {
        for (let index = 1; index <= call.request.sequence; index++) call.write(message(index));
        call.end();
      }
    },
    clientStream(call, callback) {
      const { step, record } = next(call.metadata);
      if (step.headers === true) call.sendMetadata(new Metadata());
      const fail = () => callback(failure());
      if (step.failAfter === 0) fail();
      call.on("data", (request: Message) => {
        if (record.requests.push(request) === step.failAfter) fail();
      });
      call.on("end", () => {
        record.halfClosed = true;
        if (step.failAfter !== undefined) {
          if (record.requests.length < step.failAfter) fail();
          return;
        }
        const sequences = record.requests.map(({ sequence }) => sequence);
        callback(null, { payload: Buffer.alloc(0), sequences });
      });
    },
    bidiStream(call) {
      const { step, record } = next(call.metadata);
      if (step.headers === true) call.sendMetadata(new Metadata());
      const fail = () => call.emit("error", failure());
      if (step.failAfter === 0) fail();
      call.on("data", (request: Message) => {
        if (record.requests.push(request) === step.failAfter) fail();
        else if (step.failAfter === undefined) call.write(request);
      });
      call.on("end", () => {
        record.halfClosed = true;
        if (step.failAfter === undefined) call.end();
        else if (record.requests.length < step.failAfter) fail();
      });
    },
  };
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation,
    ...(interceptor === undefined ? {} : { clientOptions: { interceptors: [interceptor] } }),
  });
  return { link, client: link.client(ConformanceServiceClient), handled };
}

export interface Running {
  readonly result: Result;
  readonly ended: Promise<Result>;
  cancel(): void;
}

/** Makes a call of this kind that sends these messages; a single request is the first of them. */
export function callWith(
  client: ConformanceServiceClient,
  kind: CallKind,
  messages: readonly Message[],
  metadata = new Metadata(),
): Running {
  const statuses: StatusObject[] = [];
  const responses: number[] = [];
  const writes: number[] = [];
  const result = { statuses, responses, writes, headers: 0 };
  const single = messages[0] ?? message(1);
  const take = (response: { sequence?: number; sequences?: readonly number[] } | undefined) => {
    if (response?.sequence !== undefined) responses.push(response.sequence);
    responses.push(...(response?.sequences ?? []));
  };
  const write = (stream: { write(chunk: Message, callback: () => void): boolean; end(): void }) => {
    for (const [index, each] of messages.entries()) {
      writes.push(0);
      stream.write(each, () => {
        writes[index] = (writes[index] ?? 0) + 1;
      });
    }
    stream.end();
  };
  const make = () => {
    switch (kind) {
      case "unary":
        return client.unary(single, metadata, (_error, response) => take(response));
      case "client-stream": {
        const call = client.clientStream(metadata, (_error, response) => take(response));
        call.on("error", () => {});
        write(call);
        return call;
      }
      case "server-stream":
        return client
          .serverStream(single, metadata)
          .on("data", take)
          .on("error", () => {});
      case "bidi": {
        const call = client
          .bidiStream(metadata)
          .on("data", take)
          .on("error", () => {});
        write(call);
        return call;
      }
    }
  };
  const call = make();
  call.on("metadata", () => {
    result.headers += 1;
  });
  const ended = new Promise<Result>((resolve) => {
    call.on("status", (received: StatusObject) => {
      statuses.push(received);
      resolve(result);
    });
  });
  return { result, ended, cancel: () => call.cancel() };
}
