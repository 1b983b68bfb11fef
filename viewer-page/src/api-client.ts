import type {
  ApiError,
  BoardView,
  CallsView,
  DemoChange,
  DemoState,
  TraceView,
} from "../../src/viewer/api.js";

/** What the server of the viewer answered instead of what was asked for, or that it did not answer. */
export class ApiFailure extends Error {
  /** The HTTP status; absent when there was no answer. */
  readonly status: number | undefined;

  constructor(message: string, status?: number) {
    super(message);
    this.name = "ApiFailure";
    this.status = status;
  }
}

/** What to tell the reader about a failure. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function fetchCalls(query: URLSearchParams, signal: AbortSignal): Promise<CallsView> {
  return ask<CallsView>(`/api/calls?${query}`, { signal });
}

export function fetchTrace(traceId: string, signal: AbortSignal): Promise<TraceView> {
  return ask<TraceView>(`/api/traces/${encodeURIComponent(traceId)}`, { signal });
}

export function fetchBoard(): Promise<BoardView> {
  return ask<BoardView>("/api/board");
}

/** Undefined where no demo runs. */
export async function fetchDemo(): Promise<DemoState | undefined> {
  const response = await answerTo("/api/demo");
  return response.status === 204 ? undefined : response.json();
}

export function changeDemo(change: DemoChange): Promise<DemoState> {
  return ask<DemoState>("/api/demo", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(change),
  });
}

/** The answer is taken at its word: page and server are built and shipped together. */
async function ask<T>(path: string, init: RequestInit = {}): Promise<T> {
  const response = await answerTo(path, init);
  return response.json();
}

async function answerTo(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (init.signal?.aborted === true) throw error;
    throw new ApiFailure("The viewer does not answer.");
  }
  if (response.ok) return response;
  const body: Partial<ApiError> = await response.json().catch(() => ({}));
  throw new ApiFailure(body.error ?? `The viewer answers ${response.status}.`, response.status);
}
