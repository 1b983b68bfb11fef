import { randomUUID } from "node:crypto";
import type { ClaimAnswer, IdempotencyStore } from "../../../src/policies/idempotency/store.js";

/** Long enough that no lease runs out and no answer is dropped in a test. */
export const leaseMs = 60_000;
export const ttlMs = 600_000;

/** @param holder Without one, it is a call like no other. */
export async function claim(
  store: IdempotencyStore,
  key: string,
  holder: string = randomUUID(),
): Promise<ClaimAnswer> {
  return store.claim(key, { fingerprint: "f", holder, leaseMs, ttlMs });
}

/** The token of a claim that started. @throws for another answer */
export function tokenOf(answer: ClaimAnswer): number {
  if (answer.kind === "started") return answer.token;
  throw new Error(`the claim should have started, and was answered with ${answer.kind}`);
}

/** Claims a key and completes it. */
export async function answerKey(store: IdempotencyStore, key: string, answer: string | Uint8Array) {
  const token = tokenOf(await claim(store, key));
  const bytes = typeof answer === "string" ? bytesOf(answer) : answer;
  const stored = await store.complete(key, token, bytes, ttlMs);
  if (!stored) throw new Error(`the answer to ${key} was not stored`);
  return token;
}

/** The text that a key was answered with. @throws where it was not */
export async function answerTo(store: IdempotencyStore, key: string): Promise<string> {
  const answer = await claim(store, key);
  if (answer.kind === "done") return new TextDecoder().decode(answer.answer);
  throw new Error(`${key} should have been answered, and is ${answer.kind}`);
}

export function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** The error of a question, and how long it took to come. */
export async function rejection(
  asked: Promise<unknown>,
): Promise<{ readonly error: unknown; readonly tookMs: number }> {
  const startedMs = performance.now();
  try {
    await asked;
  } catch (error) {
    return { error, tookMs: performance.now() - startedMs };
  }
  throw new Error("it should have failed");
}
