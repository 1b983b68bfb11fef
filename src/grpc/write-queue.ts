import type { InterceptorOptions } from "@grpc/grpc-js";
import { handOn } from "./kept-request.js";
import type { ClientCall, MessageContext } from "./types.js";

/**
 * Hands messages to a call one at a time, each after the write callback of the one before. grpc-js
 * keeps a single slot for a message that it cannot send yet, so two in a row without waiting lose
 * the first, and a half-close that overtakes a message ends the stream without it.
 */
export class WriteQueue {
  readonly #definition: InterceptorOptions["method_definition"];
  readonly #waiting: { readonly context: MessageContext; readonly message: unknown }[] = [];
  #call: ClientCall | undefined;
  #onThrow: (error: unknown) => void = () => {};
  /** The message that was handed on and whose callback is still out. */
  #writing: MessageContext | undefined;
  #halfClosed = false;

  constructor(definition: InterceptorOptions["method_definition"]) {
    this.#definition = definition;
  }

  /** Nothing is waiting and the next message may go straight to the call. */
  get idle(): boolean {
    return this.#call !== undefined && this.#writing === undefined && this.#waiting.length === 0;
  }

  push(context: MessageContext, message: unknown): void {
    this.#waiting.push({ context, message });
    this.#pump();
  }

  halfClose(): void {
    this.#halfClosed = true;
    this.#closeIfLast();
  }

  /**
   * From now on messages go to this call.
   * @param onThrow Told what the call throws: a message may be handed on from a timer or a write callback,
   *   where it would reach nobody but the process.
   */
  open(call: ClientCall, onThrow: (error: unknown) => void): void {
    this.#call = call;
    this.#onThrow = onThrow;
    this.#pump();
    this.#closeIfLast();
  }

  /** Gives up: completes the callbacks that are still out, so that no writer waits for ever. */
  abandon(): void {
    this.#call = undefined;
    const writing = this.#writing;
    this.#writing = undefined;
    if (writing !== undefined) completeWrite(writing);
    for (const { context } of this.#waiting.splice(0)) completeWrite(context);
  }

  #pump(): void {
    const call = this.#call;
    if (call === undefined || this.#writing !== undefined) return;
    const next = this.#waiting.shift();
    if (next === undefined) return;
    const { context, message } = next;
    this.#writing = context;
    const callback: MessageContext["callback"] = (error) => {
      if (this.#writing !== context) return;
      this.#writing = undefined;
      context.callback?.(error);
      this.#pump();
      this.#closeIfLast();
    };
    try {
      handOn(call, this.#definition, { ...context, callback }, message);
    } catch (error) {
      this.#onThrow(error);
    }
  }

  /**
   * The half-close goes out with the last message, not after its callback: apart, they are another
   * sequence on the wire, and some servers answer it differently.
   */
  #closeIfLast(): void {
    const call = this.#call;
    if (!this.#halfClosed || call === undefined || this.#waiting.length > 0) return;
    this.#halfClosed = false;
    try {
      call.halfClose();
    } catch (error) {
      this.#onThrow(error);
    }
  }
}

/** Calls a write callback later, as grpc-js does, without an error: the status tells what went wrong. */
export function completeWrite(context: MessageContext): void {
  const { callback } = context;
  if (callback !== undefined) process.nextTick(callback);
}
