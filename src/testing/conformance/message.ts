import assert from "node:assert/strict";
import type { CallKind } from "../../grpc/types.js";

export const allKinds: readonly CallKind[] = ["unary", "client-stream", "server-stream", "bidi"];
export const requestStreams: readonly CallKind[] = ["client-stream", "bidi"];
export const responseStreams: readonly CallKind[] = ["server-stream", "bidi"];

export const streamsRequests = (kind: CallKind): boolean => requestStreams.includes(kind);
export const streamsResponses = (kind: CallKind): boolean => responseStreams.includes(kind);

/** The fields that the requests and responses of all four methods share. */
export interface Message {
  readonly payload: Buffer;
  readonly sequence: number;
}

/** A message whose content depends on its number, so that mixed-up content is found. */
export function message(sequence: number, bytes = 16): Message {
  return { payload: Buffer.alloc(bytes, `${sequence};`), sequence };
}

/** Messages with the numbers from 1 up. 0 is the default of protobuf, and would not be sent. */
export function messages(count: number, bytes?: number): Message[] {
  return Array.from({ length: count }, (_, index) => message(index + 1, bytes));
}

/** Asserts that two lists have the same messages, in the same order. */
export function assertMessages(
  actual: readonly Message[],
  expected: readonly Message[],
  where: string,
): void {
  assert.deepEqual(
    actual.map((each) => each.sequence),
    expected.map((each) => each.sequence),
    `${where}: messages are lost, doubled or out of order`,
  );
  for (const [index, each] of expected.entries()) {
    // Not with deepEqual, which would print a megabyte when it fails.
    assert.ok(
      actual[index]?.payload.equals(each.payload),
      `${where}: message ${each.sequence} has other content`,
    );
  }
}
