import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { BoardView, DemoState } from "./api.js";
import { callSearchOf, searchCalls } from "./call-search.js";
import type { RunningDemo } from "./demo.js";
import type { LiveFeed } from "./live-feed.js";
import { bodyOf, HttpError, localServer, mediaTypeOf, sendJson, targetOf } from "./local-http.js";
import type { PageFile } from "./page-files.js";
import type { Recorder } from "./recorder.js";

export interface PageServerParts {
  readonly files: ReadonlyMap<string, PageFile>;
  readonly recorder: Recorder;
  readonly live: LiveFeed;
  readonly demo: RunningDemo | undefined;
}

/**
 * Nothing but the page's own files runs, nothing of another host is loaded, and no other page can embed it.
 *
 * @internal Exported for its tests.
 */
export const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** The longest change of the demo that the page sends. */
const maxChangeBytes = 10_000;

/** The page, and what it asks for. */
export function pageServer(parts: PageServerParts): Server {
  return localServer(async (request, response) => {
    response.setHeader("content-security-policy", contentSecurityPolicy);
    response.setHeader("referrer-policy", "no-referrer");
    response.setHeader("cross-origin-resource-policy", "same-origin");
    response.setHeader("cross-origin-opener-policy", "same-origin");
    const { path } = targetOf(request);
    if (path.startsWith("/api/") && !isOwnPage(request)) {
      throw new HttpError(403, "Only the page itself asks here.");
    }
    if (path === "/api/demo") return demo(parts, request, response);
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("allow", "GET, HEAD");
      throw new HttpError(405, `${path} is only read.`);
    }
    const file = parts.files.get(path);
    if (file !== undefined) return sendFile(file, response);
    answer(parts, request, response);
  });
}

async function sendFile(file: PageFile, response: ServerResponse): Promise<void> {
  const bytes = await file.read();
  response.writeHead(200, {
    "content-type": file.type,
    "content-length": bytes.length,
    "cache-control": file.lasting ? "public, max-age=31536000, immutable" : "no-cache",
  });
  response.end(bytes);
}

function answer(
  { recorder, live }: PageServerParts,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const { path, parameters } = targetOf(request);
  if (path === "/api/calls") {
    sendJson(response, 200, searchCalls(recorder.store, searchOf(parameters)));
  } else if (path === "/api/board") {
    sendJson(response, 200, { points: recorder.board.points } satisfies BoardView);
  } else if (path === "/api/live") {
    if (live.full) throw new HttpError(503, "Too many pages are open.");
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    if (request.method === "HEAD") response.end();
    else live.add(response);
  } else if (path.startsWith(tracePath)) {
    const trace = recorder.store.view(path.slice(tracePath.length).toLowerCase());
    if (trace === undefined) throw new HttpError(404, "This trace is not known, or not kept.");
    sendJson(response, 200, trace);
  } else {
    throw new HttpError(404, "There is nothing at this path.");
  }
}

const tracePath = "/api/traces/";

function searchOf(parameters: URLSearchParams) {
  try {
    return callSearchOf(parameters);
  } catch (error) {
    if (error instanceof RangeError) throw new HttpError(400, error.message);
    throw error;
  }
}

async function demo(
  { demo: running, live }: PageServerParts,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const reads = request.method === "GET" || request.method === "HEAD";
  if (running === undefined) {
    if (!reads) throw new HttpError(404, "No demo runs here.");
    // The page asks to find out. A browser reports a 404 as an error, which this is not.
    response.writeHead(204).end();
    return;
  }
  let state: DemoState;
  if (reads) {
    state = running.state();
  } else if (request.method === "POST") {
    if (mediaTypeOf(request) !== "application/json") {
      throw new HttpError(415, "The body is application/json.");
    }
    const body = await bodyOf(request, maxChangeBytes);
    state = await running.change(body.toString());
    live.demo(state);
  } else {
    response.setHeader("allow", "GET, HEAD, POST");
    throw new HttpError(405, "The demo is read by GET and changed by POST.");
  }
  sendJson(response, 200, state);
}

/** Browsers say from where a request comes; other programs of this machine need not. */
function isOwnPage({ headers }: IncomingMessage): boolean {
  const { origin, host, "sec-fetch-site": site } = headers;
  if (site !== undefined && site !== "same-origin" && site !== "none") return false;
  return origin === undefined || origin === `http://${host}`;
}
