import { type handleUnaryCall, status } from "@grpc/grpc-js";
import { echoService, payload } from "./echo.js";

/** What the server does with the first attempt of each call. */
export type Kind = "success" | "retry";

export interface Load {
  readonly kind: Kind;
  readonly calls: number;
  /** How many calls are under way all the time. */
  readonly concurrent: number;
}

/** A client as the load sees it. They all give promises, because that is what applications await. */
export type Call = (request: Buffer) => Promise<Buffer>;

/** Typed as unary, which nice-grpc goes by. */
export const retriesService = {
  unary: { ...echoService.unary, requestStream: false, responseStream: false },
} as const;

/** The first byte says whether the first attempt shall fail, the next four are the number of the call. */
function request(kind: Kind, call: number): Buffer {
  const bytes = Buffer.from(payload);
  bytes.writeUInt8(kind === "retry" ? 1 : 0, 0);
  bytes.writeUInt32BE(call, 1);
  return bytes;
}

let made = 0;

/** Makes all the calls of a load. Rejects at the first one that fails: a bench of failures measures nothing. */
export async function runLoad(call: Call, { kind, calls, concurrent }: Load): Promise<void> {
  let left = calls;
  const slot = async () => {
    while (left > 0) {
      left -= 1;
      made += 1;
      await call(request(kind, made));
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrent, calls) }, slot));
}

/**
 * A server that fails first attempts. It knows them by the number in the message: not every client sends
 * `grpc-previous-rpc-attempts`. Only one client at a time has calls under way, so that numbers do not collide.
 */
export class FailingServer {
  readonly #failed = new Set<number>();
  /** How many attempts have come. */
  attempts = 0;

  readonly unary: handleUnaryCall<Buffer, Buffer> = ({ request }, callback) => {
    this.attempts += 1;
    const call = request.readUInt32BE(1);
    if (request.readUInt8(0) === 0 || this.#failed.delete(call)) {
      callback(null, request);
    } else {
      this.#failed.add(call);
      callback({ code: status.UNAVAILABLE, details: "the first attempt of each call fails" });
    }
  };
}
