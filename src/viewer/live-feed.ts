import type { Writable } from "node:stream";
import type { CancelTask, Clock } from "../core/clock.js";
import type { BoardPoint, CallRow, DemoState, LiveCalls } from "./api.js";

/** Calls are told at most so often, and so many at a time. */
const everyMs = 250;
const maxCalls = 200;
/** Who listens, at most; a page is one. */
const maxListeners = 32;
/** A listener that has not taken so many bytes is too slow, and is dropped. Its page connects again. */
const maxBehindBytes = 1_000_000;

/** `GET /api/live`: Server-Sent Events for all pages that are open. */
export class LiveFeed {
  readonly #clock: Clock;
  readonly #listeners = new Set<Writable>();
  #calls: CallRow[] = [];
  #skipped = 0;
  #cancelFlush: CancelTask | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  /** Whether as many listen as may. */
  get full(): boolean {
    return this.#listeners.size >= maxListeners;
  }

  /** Sends the events to a page until it goes away. */
  add(page: Writable): void {
    // A page whose connection broke comes back after a second.
    page.write("retry: 1000\n\n");
    this.#listeners.add(page);
    page.on("close", () => this.#listeners.delete(page));
  }

  call(call: CallRow): void {
    if (this.#listeners.size === 0) return;
    if (this.#calls.length < maxCalls) this.#calls.push(call);
    else this.#skipped += 1;
    this.#cancelFlush ??= this.#clock.schedule(everyMs, () => this.#flush(), { ref: false });
  }

  points(points: readonly BoardPoint[]): void {
    for (const point of points) this.#send("board", point);
  }

  demo(state: DemoState): void {
    this.#send("demo", state);
  }

  close(): void {
    this.#cancelFlush?.();
    for (const page of this.#listeners) page.end();
    this.#listeners.clear();
  }

  #flush(): void {
    this.#cancelFlush = undefined;
    const calls: LiveCalls = { calls: this.#calls, skipped: this.#skipped };
    this.#calls = [];
    this.#skipped = 0;
    this.#send("calls", calls);
  }

  #send(event: string, data: BoardPoint | DemoState | LiveCalls): void {
    if (this.#listeners.size === 0) return;
    const text = `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
    for (const page of this.#listeners) {
      if (page.writableLength > maxBehindBytes) {
        this.#listeners.delete(page);
        page.destroy();
      } else {
        page.write(text);
      }
    }
  }
}
