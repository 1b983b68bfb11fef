import assert from "node:assert/strict";
import {
  type CallOptions,
  type ClientReadableStream,
  type ClientUnaryCall,
  type ClientWritableStream,
  Metadata,
  type ServiceError,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import type { ConformanceServiceClient } from "../../gen/weir/v1/conformance.js";
import type { CallKind } from "../../grpc/types.js";
import { Changes } from "./changes.js";
import { type Message, message, streamsRequests, streamsResponses } from "./message.js";

/** What one call of a case sends. */
export interface CallSetup {
  /** The requests, written at once. A kind without request stream sends the first one only. @defaultValue one message */
  readonly requests?: readonly Message[];
  /** Whether the client half-closes after the requests. @defaultValue true */
  readonly halfClose?: boolean;
  /** Whether the client reads responses. @defaultValue true */
  readonly read?: boolean;
  readonly metadata?: Metadata;
  readonly deadline?: number;
}

/** The client side of one call of any kind, with all events of its surface. */
export class Caller {
  readonly kind: CallKind;
  readonly messages: Message[] = [];
  readonly headers: Metadata[] = [];
  readonly statuses: StatusObject[] = [];
  readonly errors: Error[] = [];
  /** How often the surface ended: calls of the callback of a single response, or `end` of a stream. */
  ends = 0;
  readonly #changes = new Changes();
  readonly #reads: boolean;
  readonly #surface: ClientUnaryCall;
  #readable: ClientReadableStream<Message> | undefined;
  #writable: ClientWritableStream<Message> | undefined;

  constructor(kind: CallKind, client: ConformanceServiceClient, setup: CallSetup) {
    this.kind = kind;
    this.#reads = setup.read ?? true;
    const requests = setup.requests ?? [message(1)];
    const metadata = setup.metadata ?? new Metadata();
    const options = setup.deadline === undefined ? {} : { deadline: setup.deadline };
    this.#surface = this.#start(client, requests[0] ?? message(1), metadata, options);
    this.#surface.on("metadata", (headers: Metadata) =>
      this.#note(() => this.headers.push(headers)),
    );
    this.#surface.on("status", (ended: StatusObject) =>
      this.#note(() => this.statuses.push(ended)),
    );
    if (!streamsRequests(kind)) return;
    for (const request of requests) void this.write(request);
    if (setup.halfClose ?? true) this.halfClose();
  }

  /** The status, once the surface has emitted all events of the end. */
  async ended(): Promise<StatusObject> {
    await this.#changes.when(() => this.#over());
    const [ended] = this.statuses;
    assert.ok(ended, "the call ended without a status");
    return ended;
  }

  /** Resolves when headers have come, or cannot come any more. */
  answered(): Promise<void> {
    return this.#changes.when(() => this.headers.length > 0 || this.#over());
  }

  /** Resolves when `count` messages have come, or no more can come. */
  received(count: number): Promise<void> {
    return this.#changes.when(() => this.messages.length >= count || this.#over());
  }

  /** Resolves when the write is called back. */
  write(request: Message): Promise<void> {
    const writable = this.#writable;
    assert.ok(writable, `${this.kind} has no request stream`);
    return new Promise((resolve) => {
      writable.write(request, () => resolve());
    });
  }

  halfClose(): void {
    this.#writable?.end();
  }

  cancel(): void {
    this.#surface.cancel();
  }

  pause(): void {
    this.#readable?.pause();
  }

  resume(): void {
    this.#readable?.resume();
  }

  /** Runs `task` for each message as it comes. */
  onMessage(task: () => void): void {
    this.#readable?.on("data", task);
  }

  /** Checks what must be true for each caller, however the call ended. */
  verify(): void {
    const [ended] = this.statuses;
    assert.equal(this.statuses.length, 1, "the surface did not emit the status exactly once");
    assert.ok(this.headers.length <= 1, "the surface emitted the headers more than once");
    const failed = ended?.code !== status.OK;
    const codes = this.errors.map((error) => ("code" in error ? error.code : error.message));
    assert.deepEqual(codes, failed ? [ended?.code] : [], "the errors are not the status");
    if (!streamsResponses(this.kind)) {
      assert.equal(this.ends, 1, "the callback was not called exactly once");
      assert.equal(this.messages.length, failed ? 0 : 1, "response and status do not agree");
    } else if (!failed) {
      assert.equal(this.ends, 1, "the stream did not end exactly once");
    } else {
      // After an error, grpc-js ends the stream too if it is read.
      assert.ok(this.ends <= 1, "the stream ended more than once");
    }
  }

  #over(): boolean {
    if (this.statuses.length === 0) return false;
    return this.errors.length > 0 || this.ends > 0;
  }

  #note(change: () => void): void {
    change();
    this.#changes.notify();
  }

  #start(
    client: ConformanceServiceClient,
    request: Message,
    metadata: Metadata,
    options: CallOptions,
  ): ClientUnaryCall {
    const respond = (error: ServiceError | null, response: Message | undefined) =>
      this.#note(() => {
        this.ends += 1;
        if (error !== null) this.errors.push(error);
        else if (response !== undefined) this.messages.push(response);
      });
    switch (this.kind) {
      case "unary":
        return client.unary(request, metadata, options, respond);
      case "client-stream": {
        const call = client.clientStream(metadata, options, (error, response) =>
          respond(error, response && { ...response, sequence: response.sequences[0] ?? 0 }),
        );
        return this.#writeTo(call);
      }
      case "server-stream":
        return this.#readFrom(client.serverStream(request, metadata, options));
      case "bidi": {
        const call = client.bidiStream(metadata, options);
        this.#writable = call;
        return this.#readFrom(call);
      }
    }
  }

  #writeTo(call: ClientWritableStream<Message>): ClientUnaryCall {
    this.#writable = call;
    call.on("error", (error: Error) => this.#note(() => this.errors.push(error)));
    return call;
  }

  #readFrom(call: ClientReadableStream<Message>): ClientUnaryCall {
    this.#readable = call;
    call.on("error", (error: Error) => this.#note(() => this.errors.push(error)));
    call.on("end", () => this.#note(() => (this.ends += 1)));
    if (this.#reads) {
      call.on("data", (response: Message) => this.#note(() => this.messages.push(response)));
    }
    return call;
  }
}
