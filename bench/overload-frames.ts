import { Buffer } from "node:buffer";
import { connect, type Socket } from "node:net";
import { type Calls, deadlineMs, type Ended, type Fate } from "./overload-calls.js";
import { type MethodName, overloadService, payload } from "./overload-handlers.js";
import type { PriorityName } from "./overload-mix.js";

// Frame types and flags, RFC 9113 §6.
const dataFrame = 0;
const headersFrame = 1;
const resetFrame = 3;
const settingsFrame = 4;
const pingFrame = 6;
const goAwayFrame = 7;
const windowFrame = 8;
const endStream = 1;
const ack = 1;
const endHeaders = 4;
const cancelled = 8;
const headBytes = 9;

const preface = Buffer.concat([
  Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
  frame(settingsFrame, 0, 0),
  // A window for all answers there will ever be.
  frame(windowFrame, 0, 0, uint32(0x7fff_ffff - 65_535)),
]);
/** One message of gRPC: not compressed, its length, its bytes. */
const message = Buffer.concat([Buffer.from([0]), uint32(payload.length), payload]);

interface Open {
  readonly startedMs: number;
  readonly ended: Ended;
  /** A message of the answer has come. */
  answered: boolean;
}

/**
 * Calls made of frames that are written by hand. A client of grpc-js takes 200 µs for a call: at ten times what a
 * server can do, clients on the same machine would take its CPU, and their own lateness would be measured as its.
 *
 * Headers are compressed, and not read: a call that ends with a message is served, one that ends in time without any is
 * refused. A handler of this bench does not fail.
 */
export class FrameCalls implements Calls {
  readonly #port: number;
  readonly #requests = new Map<string, Buffer>();
  readonly #open = new Map<number, Open>();
  /** Calls with the deadline, in the order in which it passes. */
  #due: { readonly id: number; readonly atMs: number }[] = [];
  #unsent: { readonly id: number; readonly request: Buffer }[] = [];
  #socket: Socket | undefined;
  #rest: Buffer = Buffer.alloc(0);
  #nextId = 1;
  #window = 65_535;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(port: number) {
    this.#port = port;
  }

  ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.#port, "127.0.0.1", resolve);
      socket.setNoDelay(true);
      socket.once("error", reject);
      socket.on("data", (chunk) => this.#read(chunk));
      socket.on("close", () => this.#lost(socket));
      socket.write(preface);
      this.#socket = socket;
      this.#rest = Buffer.alloc(0);
      this.#nextId = 1;
      this.#window = 65_535;
    });
  }

  call(name: MethodName, priority: PriorityName | undefined, ended: Ended): void {
    const id = this.#nextId;
    this.#nextId += 2;
    const startedMs = performance.now();
    this.#open.set(id, { startedMs, ended, answered: false });
    if (priority !== undefined) {
      this.#due.push({ id, atMs: startedMs + deadlineMs });
      this.#timer ??= setTimeout(this.#expire, deadlineMs);
    }
    this.#unsent.push({ id, request: this.#requestFor(name, priority) });
    this.#send();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.destroy();
  }

  #send(): void {
    const socket = this.#socket;
    if (socket === undefined || this.#unsent.length === 0) return;
    let sent = 0;
    socket.cork();
    for (const { id, request } of this.#unsent) {
      if (this.#window < message.length) break;
      sent += 1;
      // Its deadline has passed while the window was shut.
      if (!this.#open.has(id)) continue;
      this.#window -= message.length;
      const bytes = Buffer.from(request);
      bytes.writeUInt32BE(id, 5);
      bytes.writeUInt32BE(id, bytes.length - message.length - 4);
      socket.write(bytes);
    }
    this.#unsent.splice(0, sent);
    process.nextTick(() => socket.uncork());
  }

  #requestFor(name: MethodName, priority: PriorityName | undefined): Buffer {
    const key = `${name} ${priority ?? ""}`;
    let request = this.#requests.get(key);
    if (request === undefined) {
      const block = headerBlock({
        ":method": "POST",
        ":scheme": "http",
        ":path": overloadService[name].path,
        ":authority": `127.0.0.1:${this.#port}`,
        "user-agent": "grpc-weir-bench",
        "content-type": "application/grpc",
        te: "trailers",
        ...(priority === undefined
          ? {}
          : { "grpc-timeout": `${deadlineMs}m`, "x-request-priority": priority }),
      });
      request = Buffer.concat([
        frame(headersFrame, endHeaders, 0, block),
        frame(dataFrame, endStream, 0, message),
      ]);
      this.#requests.set(key, request);
    }
    return request;
  }

  #read(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (at + headBytes <= bytes.length) {
      const end = at + headBytes + bytes.readUIntBE(at, 3);
      if (end > bytes.length) break;
      const type = bytes.readUInt8(at + 3);
      const flags = bytes.readUInt8(at + 4);
      const id = bytes.readUInt32BE(at + 5);
      this.#take(type, flags, id, bytes.subarray(at + headBytes, end));
      at = end;
    }
    this.#rest = bytes.subarray(at);
  }

  #take(type: number, flags: number, id: number, body: Buffer): void {
    switch (type) {
      case dataFrame: {
        const call = this.#open.get(id);
        if (call !== undefined) call.answered = true;
        break;
      }
      case headersFrame:
        if ((flags & endStream) !== 0) this.#end(id);
        break;
      case resetFrame:
        this.#end(id, "other");
        break;
      case windowFrame:
        if (id !== 0) break;
        this.#window += body.readUInt32BE(0);
        this.#send();
        break;
      case settingsFrame:
        if ((flags & ack) === 0) this.#socket?.write(frame(settingsFrame, ack, 0));
        break;
      case pingFrame:
        if ((flags & ack) === 0) this.#socket?.write(frame(pingFrame, ack, 0, body));
        break;
      case goAwayFrame:
        this.#socket?.destroy();
        break;
    }
  }

  #end(id: number, fate?: Fate): void {
    const call = this.#open.get(id);
    if (call === undefined) return;
    this.#open.delete(id);
    const tookMs = performance.now() - call.startedMs;
    const told = call.answered ? "ok" : "refused";
    call.ended(fate ?? (tookMs > deadlineMs ? "late" : told), tookMs);
  }

  /** Ends the calls whose deadline has passed, as every client of gRPC does. */
  readonly #expire = (): void => {
    const nowMs = performance.now();
    let past = 0;
    for (const { id, atMs } of this.#due) {
      if (atMs > nowMs) break;
      past += 1;
      if (!this.#open.has(id)) continue;
      this.#end(id, "late");
      this.#socket?.write(frame(resetFrame, 0, id, uint32(cancelled)));
    }
    this.#due = this.#due.slice(past);
    const [next] = this.#due;
    this.#timer = next === undefined ? undefined : setTimeout(this.#expire, next.atMs - nowMs);
  };

  /** The connection is gone, and with it what it carried; the next one is made at once. */
  #lost(socket: Socket): void {
    if (this.#closed || socket !== this.#socket) return;
    this.#socket = undefined;
    this.#unsent = [];
    this.#due = [];
    // Whoever is told of it may call again at once.
    const lost = [...this.#open.keys()];
    for (const id of lost) this.#end(id, "other");
    this.ready().catch(() => {});
  }
}

/** Plain literals that go into no table (RFC 7541 §6.2.2), so that the same bytes serve all calls. */
function headerBlock(headers: Readonly<Record<string, string>>): Buffer {
  const literal = (text: string) => Buffer.concat([Buffer.from([text.length]), Buffer.from(text)]);
  return Buffer.concat(
    Object.entries(headers).flatMap(([name, value]) => [
      Buffer.from([0]),
      literal(name),
      literal(value),
    ]),
  );
}

function frame(type: number, flags: number, id: number, body: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(headBytes);
  head.writeUIntBE(body.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, body]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
