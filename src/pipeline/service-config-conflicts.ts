import type { ClientOptions } from "@grpc/grpc-js";
import type { ClientPolicy, MethodPolicy } from "./client.js";

/** The options by which a method has further attempts. */
type Attempting = Pick<MethodPolicy, "retry" | "hedge">;

/**
 * Finds channel options that work against a client policy. Returns one sentence for each, for a log:
 *
 * - `grpc.service_config` with a `retryPolicy` or `hedgingPolicy` for methods that the policy also retries or hedges:
 *   grpc-js makes several attempts of each attempt of the toolkit;
 * - `grpc.enable_retries: 0`, which also turns off the transparent retries of gRFC A6: those of calls that were not
 *   sent, or that the server has not processed.
 *
 * A service config that cannot be parsed is no conflict: grpc-js reports it.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/moving-from.md
 */
export function serviceConfigConflicts(
  options: ClientOptions,
  policy: ClientPolicy = {},
): string[] {
  // With retries off in the channel, nothing multiplies the attempts.
  if (options["grpc.enable_retries"] === 0) {
    return [
      "grpc.enable_retries: 0 also turns off the transparent retries of calls that the server never saw. Leave it " +
        "out: the toolkit keeps retry policies from the channel by grpc.service_config_disable_resolution",
    ];
  }
  const conflicts: string[] = [];
  for (const [index, config] of methodConfigs(options["grpc.service_config"]).entries()) {
    const kind = (["retryPolicy", "hedgingPolicy"] as const).find((name) => isObject(config[name]));
    if (kind === undefined || !namesOf(config).some((name) => attempts(policy, name))) continue;
    conflicts.push(
      `grpc.service_config has methodConfig[${index}].${kind}: each attempt of the toolkit becomes several. Read ` +
        "it with policiesFromServiceConfig and take it out of the channel options, or switch retry off",
    );
  }
  return conflicts;
}

/** Whether the policy makes further attempts of any method that a name in a service config stands for. */
function attempts(policy: ClientPolicy, name: string): boolean {
  const { methods = {} } = policy;
  const service = name.split("/")[0] ?? "";
  const under = Object.entries(methods).map(([key, own]) => [key.replace(/^\//, ""), own] as const);
  const own = new Map(under);
  // As in a client policy: the method's options, then the service's, then the client's.
  const layers = [own.get(name), own.get(service), policy].filter((layer) => layer !== undefined);
  if (retries(layers) || hedges(layers)) return true;
  return under.some(
    ([key, inner]) =>
      (name === "" || key.startsWith(`${name}/`)) &&
      (isObject(inner.retry) || isObject(inner.hedge)),
  );
}

function retries(layers: readonly Attempting[]): boolean {
  // Retries are on by default.
  const retry = layers.find((layer) => layer.retry !== undefined)?.retry;
  return retry !== false && retry?.maxAttempts !== 1;
}

function hedges(layers: readonly Attempting[]): boolean {
  return isObject(layers.find(({ hedge }) => hedge !== undefined)?.hedge);
}

/** The fields that are read. Their types are unknown, because grpc-js is who validates a service config. */
interface Shape {
  readonly methodConfig?: unknown;
  readonly name?: unknown;
  readonly retryPolicy?: unknown;
  readonly hedgingPolicy?: unknown;
  readonly service?: unknown;
  readonly method?: unknown;
}

function methodConfigs(text: unknown): readonly Shape[] {
  let config: unknown;
  try {
    config = typeof text === "string" ? JSON.parse(text) : undefined;
  } catch {
    return [];
  }
  return isObject(config) ? objectsIn(config.methodConfig) : [];
}

/** `pkg.Service/Method`, `pkg.Service`, or the empty string for the default. */
function namesOf({ name }: Shape): readonly string[] {
  return objectsIn(name).map(({ service, method }) => {
    if (typeof service !== "string") return "";
    return typeof method === "string" && method !== "" ? `${service}/${method}` : service;
  });
}

function objectsIn(value: unknown): readonly Shape[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

function isObject(value: unknown): value is Shape {
  return typeof value === "object" && value !== null;
}
