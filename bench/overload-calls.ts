import { type CallOptions, Client, credentials, Metadata, status } from "@grpc/grpc-js";
import { createWeir, rejectionOf } from "grpc-weir";
import { type MethodName, overloadService, payload } from "./overload-handlers.js";
import type { PriorityName } from "./overload-mix.js";

export const deadlineMs = 300;

/** How a call ended. `ok`: served within the deadline. `heldBack`: by the client, which did not send it. */
export type Fate = "ok" | "refused" | "heldBack" | "late" | "other";

/** Told once how a call ended. */
export type Ended = (fate: Fate, tookMs: number) => void;

/** A way to make calls, over a connection of its own. */
export interface Calls {
  /** Resolves when calls can be made. */
  ready(): Promise<void>;
  /** Calls with a priority have the deadline, the others have none. */
  call(method: MethodName, priority: PriorityName | undefined, ended: Ended): void;
  close(): void;
}

/** Calls of a grpc-js client that holds back what the server would refuse. */
export class CooperatingCalls implements Calls {
  readonly #weir = createWeir();
  readonly #client: Client;

  constructor(port: number) {
    this.#client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
      ...this.#weir.client({ throttle: {}, retry: false, breaker: false }),
      // Another client of this process would share its connection, and with it its fate.
      "grpc.use_local_subchannel_pool": 1,
    });
  }

  ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#client.waitForReady(Date.now() + 10_000, (error) => {
        if (error === undefined) resolve();
        else reject(error);
      });
    });
  }

  call(name: MethodName, priority: PriorityName | undefined, ended: Ended): void {
    const { path, requestSerialize, responseDeserialize } = overloadService[name];
    const startedMs = performance.now();
    this.#client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      payload,
      new Metadata(),
      this.#optionsFor(priority),
      (error) => {
        const tookMs = performance.now() - startedMs;
        if (error === null) ended(tookMs <= deadlineMs ? "ok" : "late", tookMs);
        else if (error.code === status.DEADLINE_EXCEEDED) ended("late", tookMs);
        else if (error.code !== status.RESOURCE_EXHAUSTED) ended("other", tookMs);
        else ended(rejectionOf(error)?.local === true ? "heldBack" : "refused", tookMs);
      },
    );
  }

  close(): void {
    this.#client.close();
    this.#weir.close();
  }

  #optionsFor(priority: PriorityName | undefined): CallOptions {
    if (priority === undefined) return {};
    return this.#weir.with({ deadline: Date.now() + deadlineMs }, { priority });
  }
}
