import type { ClientOptions } from "@grpc/grpc-js";
import type { ClientPolicy, MethodPolicy } from "./client.js";

/** What makes further attempts in a policy, whichever of the two there is. */
type Attempting = Pick<MethodPolicy, "retry" | "hedge">;

/**
 * Finds channel options that work against a client policy, as sentences for a log:
 *
 * - a `grpc.service_config` with a `retryPolicy` or `hedgingPolicy` for methods that the policy retries or
 *   hedges too: grpc-js then makes several attempts of each of the toolkit's;
 * - `grpc.enable_retries: 0`, which also turns off the transparent retries of gRFC A6: those of calls that never
 *   left the process or that the server has not begun with.
 *
 * A service config that does not parse is left to grpc-js, which refuses it.
 */
export function serviceConfigConflicts(
  options: ClientOptions,
  policy: ClientPolicy = {},
): string[] {
  // Without retries in the channel there is nothing that could multiply.
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

/** Whether the policy makes further attempts for anything that a name of a service config covers. */
function attempts(policy: ClientPolicy, name: string): boolean {
  const { methods = {} } = policy;
  const service = name.split("/")[0] ?? "";
  const under = Object.entries(methods).map(([key, own]) => [key.replace(/^\//, ""), own] as const);
  const own = new Map(under);
  // Layered as the policies are: method over service over client.
  const layers = [own.get(name), own.get(service), policy].filter((layer) => layer !== undefined);
  if (retries(layers) || hedges(layers)) return true;
  return under.some(
    ([key, inner]) =>
      (name === "" || key.startsWith(`${name}/`)) &&
      (isObject(inner.retry) || isObject(inner.hedge)),
  );
}

function retries(layers: readonly Attempting[]): boolean {
  // On unless somebody says otherwise.
  const retry = layers.find((layer) => layer.retry !== undefined)?.retry;
  return retry !== false && retry?.maxAttempts !== 1;
}

function hedges(layers: readonly Attempting[]): boolean {
  return isObject(layers.find(({ hedge }) => hedge !== undefined)?.hedge);
}

/** What is looked at of a service config. It may be nonsense: then it is grpc-js that says so. */
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

/** `pkg.Service/Method`, `pkg.Service`, or nothing for the default. */
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
