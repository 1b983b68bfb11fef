import { type Client, Metadata, status } from "@grpc/grpc-js";
import { rejectionOf } from "grpc-weir";
import { echoService, numbered, payload, type UnaryName, writeAll } from "./echo.js";

/** `retried`: each call fails once and succeeds when it is tried again. `down` and `up` are streams of messages. */
export type Kind = "unary" | "retried" | "down" | "up";

export interface Load {
  readonly kind: Kind;
  readonly calls: number;
  /** How many calls are under way all the time. */
  readonly concurrent: number;
  /** Of a call; 1 for unary calls. */
  readonly messages: number;
}

export type Done = (error?: Error) => void;

/** A client as the load sees it. */
export interface Caller {
  readonly unary: (method: UnaryName, request: Buffer, done: Done) => void;
  /** Makes streams, where they are measured. */
  readonly client?: Client;
}

export type StreamingCaller = Caller & { readonly client: Client };

export function callerOf(client: Client): StreamingCaller {
  return {
    client,
    unary: (method, request, done) => {
      const { path, requestSerialize, responseDeserialize } = echoService[method];
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        new Metadata(),
        {},
        (error) => done(error ?? undefined),
      );
    },
  };
}

let made = 0;

/** How many calls of loads this process has made. */
export function callsMade(): number {
  return made;
}

/** Starts one call of a load. */
export function start(caller: Caller, { kind, messages }: Load, done: Done): void {
  made += 1;
  switch (kind) {
    case "unary":
      caller.unary("unary", payload, done);
      return;
    case "retried":
      caller.unary("flaky", numbered(made), done);
      return;
    case "down":
      down(streaming(caller), messages, done);
      return;
    case "up":
      up(streaming(caller), messages, done);
      return;
  }
}

/**
 * Makes calls, a new one whenever one has ended. Resolves to how many of them were refused, which on a busy machine is
 * a policy's right; rejects at the first one that fails for another reason: a bench of failures measures nothing.
 *
 * Each slot awaits its call, as applications do. A call that is made inside the callback of another has that one's frames
 * on its stack, and grpc-js captures the stack of every call: the price of that is not the price of a policy.
 */
export async function closedLoop(
  { calls, concurrent }: Pick<Load, "calls" | "concurrent">,
  call: (done: Done) => void,
): Promise<number> {
  let left = calls;
  let refused = 0;
  const once = () =>
    new Promise<void>((resolve, reject) => {
      call((error) => {
        if (error === undefined) resolve();
        else if (isRefusal(error)) {
          refused += 1;
          resolve();
        } else reject(error);
      });
    });
  const slot = async () => {
    while (left > 0) {
      left -= 1;
      await once();
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrent, calls) }, slot));
  return refused;
}

/**
 * Makes calls at a fixed rate, whether others have ended or not, and resolves to how many milliseconds each took, in no
 * order. A call's time begins when it was due, so that a client that is late to make it does not look quick. The loop
 * turns without rest, because a timer of Node may be a millisecond late, which is more than a call takes.
 */
export function fixedRate(
  perSecond: number,
  calls: number,
  call: (done: Done) => void,
): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const tookMs: number[] = [];
    const startedMs = performance.now();
    let due = 0;
    const begin = (dueMs: number) =>
      call((error) => {
        if (error !== undefined && !isRefusal(error)) reject(error);
        else if (tookMs.push(performance.now() - dueMs) === calls) resolve(tookMs);
      });
    const turn = () => {
      for (; due < calls; due += 1) {
        const dueMs = startedMs + (due * 1_000) / perSecond;
        if (dueMs > performance.now()) break;
        begin(dueMs);
      }
      if (due < calls) setImmediate(turn);
    };
    turn();
  });
}

function isRefusal(error: Error): boolean {
  return (
    rejectionOf(error) !== undefined ||
    ("code" in error && error.code === status.RESOURCE_EXHAUSTED)
  );
}

function streaming({ client }: Caller): Client {
  if (client === undefined) throw new Error("this client makes no streams here");
  return client;
}

function down(client: Client, messages: number, done: Done): void {
  const { path, requestSerialize, responseDeserialize } = echoService.count;
  const call = client.makeServerStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    numbered(messages),
    new Metadata(),
    {},
  );
  let received = 0;
  call.on("data", () => {
    received += 1;
  });
  call.on("error", () => {}); // told again with the status
  call.on("status", (ended) => {
    if (ended.code === status.OK) done(wrongCount(received, messages));
    // With the status in it, so that a refusal is told apart.
    else done(Object.assign(new Error(`status ${ended.code}: ${ended.details}`), ended));
  });
}

function up(client: Client, messages: number, done: Done): void {
  const { path, requestSerialize, responseDeserialize } = echoService.collect;
  const call = client.makeClientStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    new Metadata(),
    {},
    (error, answer) => done(error ?? wrongCount(answer?.readUInt32BE() ?? 0, messages)),
  );
  writeAll(call, messages);
}

function wrongCount(came: number, expected: number): Error | undefined {
  return came === expected ? undefined : new Error(`${came} of ${expected} messages came`);
}
