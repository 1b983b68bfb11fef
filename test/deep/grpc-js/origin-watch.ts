import {
  type CallCredentials,
  Client,
  type ClientOptions,
  credentials,
  InterceptingCall,
  type Interceptor,
  type Metadata,
  Metadata as MetadataOf,
  type StatusObject,
} from "@grpc/grpc-js";
import type { StatusOrigin } from "../../../src/core/status.js";
import { type AttemptEvidence, originOf } from "../../../src/grpc/status/origin.js";
import type { CallKind } from "../../../src/grpc/types.js";
import { withResolvers } from "../../scene.js";

/** How a call ended, as an interceptor sees it. */
export interface Seen {
  readonly status: StatusObject;
  readonly evidence: AttemptEvidence;
  readonly origin: StatusOrigin;
}

/** An interceptor that tells what it saw of the end of each call. */
export function watching(target: () => string, tell: (seen: Seen) => void): Interceptor {
  return (options, nextCall) => {
    const call = nextCall(options);
    let sawHeaders = false;
    return new InterceptingCall(call, {
      start(metadata, _listener, next) {
        next(metadata, {
          onReceiveMetadata(headers, deliver) {
            sawHeaders = true;
            deliver(headers);
          },
          onReceiveStatus(status, deliver) {
            const evidence = { sawHeaders, peer: call.getPeer(), target: target() };
            tell({ status, evidence, origin: originOf(status, evidence) });
            deliver(status);
          },
        });
      },
    });
  };
}

export interface CallPlan {
  readonly options?: ClientOptions;
  readonly request?: Buffer;
  readonly metadata?: Metadata;
  readonly deadlineMs?: number;
  readonly credentials?: CallCredentials;
  /** Cancels so many milliseconds after the start; 0 at once. */
  readonly cancelMs?: number;
  readonly serialize?: (message: Buffer) => Buffer;
  readonly deserialize?: (bytes: Buffer) => Buffer;
  /** Closes the client in the tick of the start. */
  readonly close?: boolean;
  /** Run when the call has been started. */
  readonly started?: () => void;
}

const identity = (bytes: Buffer) => bytes;

/**
 * What a call does when it ends. `writing` has a message on its way at any time, `blocked` more than the peer takes in;
 * `idle` has sent one message and leaves the request open; `reading` has sent its request.
 */
export type Activity = "writing" | "blocked" | "idle" | "reading";

/** One call of any kind to this address by a client of its own, and how it ended. grpc-js tries once. */
export async function endOfKind(
  address: string,
  kind: CallKind,
  activity: Activity,
): Promise<Seen> {
  const { promise, resolve } = withResolvers<Seen>();
  const client = new Client(address, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_http_proxy": 0,
    "grpc.enable_retries": 0,
    interceptors: [watching(() => client.getChannel().getTarget(), resolve)],
  });
  const method = ["/t.S/M", identity, identity] as const;
  const message = Buffer.alloc(activity === "blocked" ? 20_000 : 10);
  const metadata = new MetadataOf();
  const options = { deadline: Date.now() + 5_000 };
  let timer: NodeJS.Timeout | undefined;
  const send = (stream: { write(message: Buffer): boolean; end(): unknown }): void => {
    stream.write(message);
    if (activity === "reading") stream.end();
    if (activity === "writing" || activity === "blocked") {
      timer = setInterval(() => stream.write(message), 1);
    }
  };
  switch (kind) {
    case "unary":
      client.makeUnaryRequest(...method, message, metadata, options, () => {});
      break;
    case "server-stream":
      client
        .makeServerStreamRequest(...method, message, metadata, options)
        .on("data", () => {})
        .on("error", () => {});
      break;
    case "client-stream":
      send(client.makeClientStreamRequest(...method, metadata, options, () => {}));
      break;
    case "bidi":
      send(
        client
          .makeBidiStreamRequest(...method, metadata, options)
          .on("data", () => {})
          .on("error", () => {}),
      );
      break;
    default:
      kind satisfies never;
  }
  try {
    return await promise;
  } finally {
    clearInterval(timer);
    client.close();
  }
}

/** One unary call to this address by a client of its own, and how it ended. */
export async function endOfCall(address: string, plan: CallPlan = {}): Promise<Seen> {
  const { promise, resolve } = withResolvers<Seen>();
  const client = new Client(address, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_http_proxy": 0,
    ...plan.options,
    interceptors: [watching(() => client.getChannel().getTarget(), resolve)],
  });
  const call = client.makeUnaryRequest(
    "/t.S/M",
    plan.serialize ?? identity,
    plan.deserialize ?? identity,
    plan.request ?? Buffer.from("request"),
    plan.metadata ?? new MetadataOf(),
    {
      ...(plan.deadlineMs === undefined ? {} : { deadline: Date.now() + plan.deadlineMs }),
      ...(plan.credentials === undefined ? {} : { credentials: plan.credentials }),
    },
    () => {},
  );
  plan.started?.();
  if (plan.close === true) client.close();
  if (plan.cancelMs === 0) call.cancel();
  else if (plan.cancelMs !== undefined) setTimeout(() => call.cancel(), plan.cancelMs);
  try {
    return await promise;
  } finally {
    client.close();
  }
}
