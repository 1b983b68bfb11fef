import { type CallOptions, Metadata, type ServiceError } from "@grpc/grpc-js";
import type { MethodPolicy } from "../../../src/pipeline/client.js";
import type {
  FallbackPolicyOptions,
  FallbackSnapshot,
} from "../../../src/policies/fallback/client-policy.js";
import type { FallbackContext } from "../../../src/policies/fallback/client-providers.js";
import {
  failing,
  type Method,
  payload,
  type Scene,
  type SceneOptions,
  scene,
} from "../../scene.js";

/** The methods for which a fallback can be given the whole request. */
export const replaceable = ["unary", "serverStream"] as const satisfies readonly Method[];

export const message = (sequence: number) => ({ payload, sequence });

/** What a provider gives for a method: a message, or two of them. */
export function given(context: Pick<FallbackContext, "kind">, sequence: number): unknown {
  return context.kind === "unary" ? message(sequence) : [message(sequence), message(sequence + 1)];
}

/** What a caller then receives. */
export function received(method: Method, sequence: number): readonly number[] {
  return method === "unary" ? [sequence] : [sequence, sequence + 1];
}

export interface FallbackScene extends Scene {
  readonly numbers: () => FallbackSnapshot;
  readonly provider: (name: string) => FallbackSnapshot["providers"][string] | undefined;
}

/** A client with a fallback and nothing else, before a server that fails unless told otherwise. */
export async function fallbackScene(
  fallback: FallbackPolicyOptions,
  more: SceneOptions = {},
  policies: MethodPolicy = {},
): Promise<FallbackScene> {
  const made = await scene({
    handlers: failing(Number.POSITIVE_INFINITY).handlers,
    ...more,
    client: { retry: false, breaker: false, ...policies, fallback },
  });
  const numbers = () => {
    const [first] = made.weir.policy("fallback").snapshot();
    return first as FallbackSnapshot;
  };
  return { ...made, numbers, provider: (name) => numbers().providers[name] };
}

/** So long from now. */
export function within({ clock }: Pick<Scene, "clock">, ms: number): CallOptions {
  return { deadline: clock.wallNow() + ms };
}

/** A single response, and what it says of itself. */
export function unary(
  { client, link }: Pick<Scene, "client" | "link">,
  sequence: number,
  options: CallOptions = {},
): Promise<{ readonly sequence: number; readonly response: object }> {
  return link.until(
    new Promise((resolve, reject) => {
      client.unary(
        message(sequence),
        new Metadata(),
        options,
        (error: ServiceError | null, response) =>
          error === null ? resolve({ sequence: response.sequence, response }) : reject(error),
      );
    }),
    1e9,
  );
}
