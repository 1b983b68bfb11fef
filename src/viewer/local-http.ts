import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import type { ApiError } from "./api.js";

/** The only address that anything of the viewer listens on. */
export const loopback = "127.0.0.1";

/** Refuses a request with a status and a reason for a person. */
export class HttpError extends Error {
  override readonly name = "HttpError";
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** What answers a request. It throws {@link HttpError} to refuse it. */
export type Answer = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

/**
 * An HTTP server for programs of this machine. It refuses requests under another host name: a page of a foreign site may
 * let its own name resolve to this address, and would be able to read the answers.
 */
export function localServer(answer: Answer): Server {
  // Everything it hands out is small, and what it takes in comes from this machine.
  const server = createServer({ requestTimeout: 60_000 }, (request, response) => {
    serve(answer, request, response).catch(() => response.destroy());
  });
  server.maxConnections = 256;
  return server;
}

async function serve(
  answer: Answer,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  response.setHeader("x-content-type-options", "nosniff");
  try {
    if (!isLocal(request.headers.host)) {
      throw new HttpError(421, "This answers to localhost and 127.0.0.1 only.");
    }
    await answer(request, response);
  } catch (error) {
    if (response.headersSent) throw error;
    const status = error instanceof HttpError ? error.status : 500;
    // The rest of a body is read past, so that the answer arrives.
    request.resume();
    sendJson(response, status, { error: textOf(error) } satisfies ApiError);
  }
}

/** What a person is told of an error. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Any port: it may be forwarded. */
function isLocal(host: string | undefined): boolean {
  return host !== undefined && /^(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?$/i.test(host);
}

export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  const bytes = Buffer.from(JSON.stringify(body));
  response.writeHead(status, {
    "content-type": "application/json; charset=utf-8",
    "content-length": bytes.length,
    "cache-control": "no-store",
  });
  response.end(bytes);
}

/** What a request asks for. */
export function targetOf({ url = "/" }: IncomingMessage) {
  const [path = "/", query = ""] = url.split("?", 2);
  return { path, parameters: new URLSearchParams(query) };
}

/** The media type of the body, without its parameters. */
export function mediaTypeOf({ headers }: IncomingMessage): string {
  return (headers["content-type"] ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
}

const unzip = promisify<Buffer, { maxOutputLength: number }, Buffer>(gunzip);

/**
 * Reads the body of a request, unzipped.
 *
 * @throws HttpError when it is longer than `maxBytes`, before or after unzipping, or cannot be unzipped.
 */
export async function bodyOf(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const tooLong = () => new HttpError(413, `The body is longer than ${maxBytes} bytes.`);
  if (Number(request.headers["content-length"] ?? 0) > maxBytes) throw tooLong();
  const encoding = request.headers["content-encoding"]?.toLowerCase() ?? "identity";
  if (encoding !== "gzip" && encoding !== "identity") {
    throw new HttpError(415, "The body may be gzip, or not compressed.");
  }
  const chunks: Buffer[] = [];
  let length = 0;
  // The stream outlives an error here, so that the answer can be sent.
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    const bytes: Buffer = chunk;
    length += bytes.length;
    if (length > maxBytes) throw tooLong();
    chunks.push(bytes);
  }
  const body = Buffer.concat(chunks, length);
  if (encoding === "identity") return body;
  try {
    return await unzip(body, { maxOutputLength: maxBytes });
  } catch (error) {
    if (error instanceof RangeError) throw tooLong();
    throw new HttpError(400, `The body cannot be unzipped: ${textOf(error)}.`);
  }
}
