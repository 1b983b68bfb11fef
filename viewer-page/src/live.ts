import type { BoardPoint, DemoState, LiveCalls } from "../../src/viewer/api.js";
import { Observable } from "./observable.js";

/** `gone`: the server does not answer; the page tries again by itself. */
export type Connection = "connecting" | "live" | "gone";

export interface LiveListener {
  /** A connection stands. What happened before it must be asked for. */
  onConnected?(): void;
  onCalls?(calls: LiveCalls): void;
  onBoard?(point: BoardPoint): void;
  onDemo?(demo: DemoState): void;
}

const firstRetryMs = 500;
const lastRetryMs = 5_000;

/** The events of the server. The connection is made again when it breaks, whatever broke it. */
export class Live {
  readonly connection = new Observable<Connection>("connecting");
  readonly #listeners = new Set<LiveListener>();
  #retryMs = firstRetryMs;

  constructor() {
    this.#connect();
  }

  listen(listener: LiveListener): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  #connect(): void {
    const source = new EventSource("/api/live");
    source.addEventListener("open", () => {
      this.#retryMs = firstRetryMs;
      this.connection.set("live");
      for (const listener of this.#listeners) listener.onConnected?.();
    });
    // Not left to the browser: after some answers it would not try again.
    source.addEventListener("error", () => {
      source.close();
      this.connection.set("gone");
      setTimeout(() => this.#connect(), this.#retryMs);
      this.#retryMs = Math.min(lastRetryMs, this.#retryMs * 2);
    });
    source.addEventListener("calls", ({ data }) => {
      const calls: LiveCalls = JSON.parse(data);
      for (const listener of this.#listeners) listener.onCalls?.(calls);
    });
    source.addEventListener("board", ({ data }) => {
      const point: BoardPoint = JSON.parse(data);
      for (const listener of this.#listeners) listener.onBoard?.(point);
    });
    source.addEventListener("demo", ({ data }) => {
      const demo: DemoState = JSON.parse(data);
      for (const listener of this.#listeners) listener.onDemo?.(demo);
    });
  }
}
