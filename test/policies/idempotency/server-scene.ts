import {
  Metadata,
  type ServerUnaryCall,
  type status as Status,
  type sendUnaryData,
} from "@grpc/grpc-js";
import { type CurrentCall, currentCall } from "../../../src/grpc/context/inbound-call.js";
import { MemoryIdempotencyStore } from "../../../src/policies/idempotency/memory-store.js";
import type { IdempotencyPolicyOptions } from "../../../src/policies/idempotency/server.js";
import type { IdempotencyStore } from "../../../src/policies/idempotency/store.js";
import type { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import {
  type Ended,
  echo,
  payload,
  type Scene,
  type SceneOptions,
  scene,
  withResolvers,
} from "../../scene.js";

export const unary = "weir.v1.ConformanceService/Unary";

/** A run of the handler, which the test lets answer. */
export interface Run {
  readonly sequence: number;
  readonly call: CurrentCall | undefined;
  readonly grpcCall: ServerUnaryCall<unknown, unknown>;
  readonly answer: sendUnaryData<{ payload: Buffer; sequence: number }>;
  /** Answers OK with the request, and a number of the run for `sequence`. */
  readonly ok: () => void;
  readonly fail: (code: Status, details?: string, metadata?: Metadata) => void;
}

export interface KeyedSceneOptions extends Omit<SceneOptions, "server" | "handlers"> {
  readonly idempotency?: Partial<IdempotencyPolicyOptions>;
  readonly server?: SceneOptions["server"];
  /** Answers each run at once. */
  readonly atOnce?: (run: Run) => void;
}

/** A call with a key that is under way. */
export interface Sent {
  readonly ended: Promise<Ended>;
  readonly cancel: () => void;
  /** The initial metadata, once they have come. */
  readonly headers: () => Metadata | undefined;
}

export interface SendOptions {
  readonly sequence?: number;
  readonly withinMs?: number;
  readonly metadata?: Readonly<Record<string, string>>;
}

export interface KeyedScene extends Scene {
  /** The runs of the handler, in their order. */
  readonly runs: Run[];
  /** Sends a call with this key; `undefined` for none. */
  readonly send: (key: string | undefined, options?: SendOptions) => Sent;
  /** The same, and waits for its end. */
  readonly ask: (key: string | undefined, options?: SendOptions) => Promise<Ended>;
}

/** A server whose unary method takes keys, and a client without retries. */
export async function keyedScene(options: KeyedSceneOptions = {}): Promise<KeyedScene> {
  const runs: Run[] = [];
  const { idempotency = {}, atOnce, server, ...rest } = options;
  const joined = await scene({
    client: { retry: false, breaker: false },
    ...rest,
    server: {
      ...server,
      idempotency: { scope: "shared", methods: { [unary]: {} }, ...idempotency },
    },
    handlers: {
      ...echo,
      unary(grpcCall, answer) {
        const number = runs.length + 1;
        const run: Run = {
          sequence: grpcCall.request.sequence,
          call: currentCall(),
          grpcCall,
          answer,
          ok: () => answer(null, { payload, sequence: 100 + number }),
          fail: (code, details = "no", metadata) =>
            answer({ code, details, ...(metadata === undefined ? {} : { metadata }) }),
        };
        runs.push(run);
        atOnce?.(run);
      },
    },
  });
  const { client, clock, link } = joined;
  const send = (key: string | undefined, sent: SendOptions = {}): Sent => {
    const { sequence = 1, withinMs, metadata: more } = sent;
    const { promise: ended, resolve } = withResolvers<Ended>();
    const metadata = keyed(key, more);
    const deadline = withinMs === undefined ? {} : { deadline: clock.wallNow() + withinMs };
    let headers: Metadata | undefined;
    let error: Ended["error"];
    const received: number[] = [];
    const call = client.unary({ payload, sequence }, metadata, deadline, (failed, response) => {
      error = failed ?? undefined;
      if (response !== undefined) received.push(response.sequence);
    });
    call.on("metadata", (initial) => {
      headers = initial;
    });
    call.on("status", ({ code, details, metadata: trailers }) =>
      resolve({ code, details, trailers, received, error }),
    );
    return { ended, cancel: () => call.cancel(), headers: () => headers };
  };
  return { ...joined, runs, send, ask: (...args) => link.until(send(...args).ended, 1e9) };
}

function keyed(key: string | undefined, more: Readonly<Record<string, string>> = {}): Metadata {
  const metadata = new Metadata();
  if (key !== undefined) metadata.set("idempotency-key", key);
  for (const [name, value] of Object.entries(more)) metadata.set(name, value);
  return metadata;
}

/** A store over another one, whose answers can be held back or made to fail. */
export class FaultyStore implements IdempotencyStore {
  readonly asked: string[] = [];
  /** What the next questions get; `undefined` for the answer of the store below. */
  fault: "reject" | "silent" | "nonsense" | "slow" | undefined;
  /** Asked for each question: only these are faulty. */
  faulty: (method: string) => boolean = () => true;
  readonly #store: IdempotencyStore;
  readonly #held: (() => void)[] = [];

  constructor(store: IdempotencyStore) {
    this.#store = store;
  }

  /** Lets the answers through that were held back. */
  flush(): void {
    for (const go of this.#held.splice(0)) go();
  }

  claim: IdempotencyStore["claim"] = (...args) =>
    this.#ask("claim", () => this.#store.claim(...args));
  renew: IdempotencyStore["renew"] = (...args) =>
    this.#ask("renew", () => this.#store.renew(...args));
  complete: IdempotencyStore["complete"] = (...args) =>
    this.#ask("complete", () => this.#store.complete(...args));
  release: IdempotencyStore["release"] = (...args) =>
    this.#ask("release", () => this.#store.release(...args));

  async #ask<T>(method: string, question: () => T | PromiseLike<T>): Promise<T> {
    this.asked.push(method);
    const fault = this.faulty(method) ? this.fault : undefined;
    switch (fault) {
      case undefined:
        return question();
      case "slow": {
        await new Promise<void>((resolve) => this.#held.push(resolve));
        return question();
      }
      case "silent":
        return new Promise(() => {});
      case "nonsense":
        return JSON.parse('{"kind":"started","token":-1}');
      case "reject":
        throw new Error("the store is down");
      default:
        return fault satisfies never;
    }
  }
}

export function memoryStore(clock: VirtualClock): MemoryIdempotencyStore {
  return new MemoryIdempotencyStore(clock, { maxEntries: 1_000, maxBytes: 1 << 20 });
}
