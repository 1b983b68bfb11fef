import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type {
  BoardPoint,
  CallRow,
  CallsView,
  DemoChange,
  DemoState,
  LiveCalls,
  SpanView,
  TraceView,
} from "../../../src/viewer/api.js";
import { contentSecurityPolicy } from "../../../src/viewer/page-server.js";
import { filterOf, matches } from "../../../viewer-page/src/calls/filter.js";
import { sceneRow, sceneSpans } from "./page-scenes.js";

const built = fileURLToPath(new URL("../../../dist/viewer-page/", import.meta.url));

const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** A viewer that serves the built page with made-up data, which a test changes as it likes. */
export class PageFixture {
  /** The newest first. */
  calls: CallRow[] = [];
  board: readonly BoardPoint[] = [];
  demo: DemoState | undefined;
  /** What the page has asked the demo for. */
  readonly changes: DemoChange[] = [];
  /** The numbers of the scenes that were added, by trace. */
  readonly #scenes = new Map<string, number>();
  readonly #traces = new Map<string, readonly SpanView[]>();
  readonly #streams = new Set<ServerResponse>();
  readonly #server = createServer((request, response) => {
    this.#answer(request, response).catch((error: unknown) => {
      response.writeHead(500).end(String(error));
    });
  });
  #nextCall = 0;
  #port = 0;

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** How many pages listen. */
  get listeners(): number {
    return this.#streams.size;
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.listen(this.#port, "127.0.0.1", resolve);
    });
    const address: AddressInfo | string | null = this.#server.address();
    if (address !== null && typeof address === "object") this.#port = address.port;
  }

  /** Stops, as when the process of the viewer ends. It can listen again, on the same port. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  /** Calls of the scenes in their order, as if they had just ended. */
  add(count: number): readonly CallRow[] {
    const added = Array.from({ length: count }, (_, index) => sceneRow(this.#nextCall + index));
    for (const [index, { traceId }] of added.entries()) {
      this.#scenes.set(traceId, this.#nextCall + index);
    }
    this.#nextCall += count;
    this.calls = [...[...added].reverse(), ...this.calls];
    return added;
  }

  addTrace(spans: readonly SpanView[]): void {
    const [root] = spans;
    if (root !== undefined) this.#traces.set(root.traceId, spans);
  }

  /** Adds calls, and tells the pages. */
  sendCalls(count: number): void {
    const calls = this.add(count);
    const sent: LiveCalls = { calls, skipped: 0 };
    this.#send("calls", sent);
  }

  /** Adds calls of which the pages are told only how many there were. */
  skipCalls(count: number): void {
    this.add(count);
    const sent: LiveCalls = { calls: [], skipped: count };
    this.#send("calls", sent);
  }

  sendBoard(point: BoardPoint): void {
    this.board = [...this.board, point];
    this.#send("board", point);
  }

  #send(event: string, data: LiveCalls | BoardPoint | DemoState): void {
    for (const stream of this.#streams) {
      stream.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", this.url);
    if (url.pathname === "/api/calls") return json(response, this.#callsView(url.searchParams));
    if (url.pathname === "/api/board") return json(response, { points: this.board });
    if (url.pathname === "/api/live") return this.#stream(response);
    if (url.pathname === "/api/demo") return this.#answerDemo(request, response);
    const [, traceId] = /^\/api\/traces\/(\w+)$/.exec(url.pathname) ?? [];
    if (traceId !== undefined) {
      const scene = this.#scenes.get(traceId);
      const spans = scene === undefined ? this.#traces.get(traceId) : sceneSpans(scene);
      if (spans === undefined) return json(response, { error: "there is no such trace" }, 404);
      const view: TraceView = { traceId, spans, truncated: false };
      return json(response, view);
    }
    await serveFile(url.pathname === "/" ? "index.html" : url.pathname.slice(1), response);
  }

  #callsView(query: URLSearchParams): CallsView {
    const filter = filterOf(query);
    const fitting = this.calls.filter((call) => matches(call, filter));
    const before = query.get("before");
    const from = before === null ? 0 : fitting.findIndex(({ id }) => id === before) + 1;
    const limit = Number(query.get("limit") ?? 100);
    const calls = fitting.slice(from, from + limit);
    return { calls, total: fitting.length, kept: this.calls.length, dropped: 0 };
  }

  #stream(response: ServerResponse): void {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.flushHeaders();
    this.#streams.add(response);
    response.on("close", () => this.#streams.delete(response));
  }

  async #answerDemo(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { demo } = this;
    if (demo === undefined) {
      response.writeHead(204).end();
      return;
    }
    if (request.method !== "POST") return json(response, demo);
    let body = "";
    for await (const chunk of request) body += chunk;
    const change: DemoChange = JSON.parse(body);
    this.changes.push(change);
    const { command } = change;
    const running = command === undefined ? demo.running : command === "start";
    const sliders = demo.sliders.map((slider) => {
      const value = Object.entries(change).find(([name]) => name === slider.name)?.[1];
      return typeof value === "number" ? { ...slider, value } : slider;
    });
    this.demo = { ...demo, running, sliders };
    json(response, this.demo);
  }
}

function json(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

async function serveFile(path: string, response: ServerResponse): Promise<void> {
  const content = await readFile(join(built, path)).catch(() => undefined);
  if (content === undefined) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, {
    "content-type": types[extname(path)] ?? "application/octet-stream",
    "content-security-policy": contentSecurityPolicy,
    "x-content-type-options": "nosniff",
  });
  response.end(content);
}
