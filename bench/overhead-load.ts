import { type CallOptions, type Client, Metadata, type StatusObject } from "@grpc/grpc-js";
import { rejectionOf } from "grpc-weir";
import { countRequest, echoService, payload } from "./echo.js";

/** What the clients do. `deadline` is unary calls of which each has a deadline. */
export type Kind = "unary" | "deadline" | "server-stream" | "bidi";

export interface Load {
  readonly kind: Kind;
  readonly calls: number;
  /** Of a call; 1 for unary calls. */
  readonly messages: number;
  /** How many calls are under way all the time. */
  readonly concurrent: number;
}

export const deadlineMs = 10_000;

type Done = (error: Error | undefined) => void;

/**
 * Makes all the calls of a load. Resolves to how many of them a policy refused, which on a busy machine is its right;
 * rejects at the first one that fails for another reason: a bench of failures measures nothing.
 */
export function runLoad(client: Client, load: Load, options: () => CallOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    let started = 0;
    let running = 0;
    let refused = 0;
    const call = makers[load.kind];
    const next = () => {
      started += 1;
      running += 1;
      call(client, options(), load.messages, done);
    };
    const done: Done = (error) => {
      running -= 1;
      if (error !== undefined) {
        if (rejectionOf(error) === undefined) {
          reject(error);
          return;
        }
        refused += 1;
      }
      if (started < load.calls) next();
      else if (running === 0) resolve(refused);
    };
    for (let slot = 0; slot < Math.min(load.concurrent, load.calls); slot += 1) next();
  });
}

type Maker = (client: Client, options: CallOptions, messages: number, done: Done) => void;

const unary: Maker = (client, options, _messages, done) => {
  const { path, requestSerialize, responseDeserialize } = echoService.unary;
  client.makeUnaryRequest(
    path,
    requestSerialize,
    responseDeserialize,
    payload,
    new Metadata(),
    options,
    (error) => done(error ?? undefined),
  );
};

const makers: Readonly<Record<Kind, Maker>> = {
  unary,
  deadline: unary,
  "server-stream": (client, options, messages, done) => {
    const { path, requestSerialize, responseDeserialize } = echoService.count;
    const call = client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      countRequest(messages),
      new Metadata(),
      options,
    );
    let received = 0;
    call.on("data", () => {
      received += 1;
    });
    call.on("error", () => {}); // told again with the status
    call.on("status", (status) => done(problem(status, received, messages)));
  },
  bidi: (client, options, messages, done) => {
    const { path, requestSerialize, responseDeserialize } = echoService.bidi;
    const call = client.makeBidiStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      new Metadata(),
      options,
    );
    let received = 0;
    let left = messages;
    const more = () => {
      while (left > 0) {
        left -= 1;
        if (!call.write(payload)) {
          call.once("drain", more);
          return;
        }
      }
      call.end();
    };
    call.on("data", () => {
      received += 1;
    });
    call.on("error", () => {});
    call.on("status", (status) => done(problem(status, received, messages)));
    more();
  },
};

function problem(status: StatusObject, received: number, expected: number): Error | undefined {
  // With the status in it, so that a refusal is told apart.
  if (status.code !== 0) {
    return Object.assign(new Error(`status ${status.code}: ${status.details}`), status);
  }
  if (received !== expected) return new Error(`${received} of ${expected} messages came`);
  return undefined;
}
