import type { ServerInterceptor } from "@grpc/grpc-js";
import { readOptions } from "../../core/options.js";
import { type EnvironmentOptions, environmentOf, environmentOptionNames } from "../environment.js";
import { type Relay, resolveRelay } from "../status/relay.js";
import { serverPipeline } from "./pipeline-call.js";
import { type PriorityOptions, priorityReader } from "./priority.js";

/**
 * The context as an interceptor of its own, for servers without a weir. Put it first.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/context.md
 */
export function context(
  given: EnvironmentOptions & {
    readonly priority?: PriorityOptions;
    /** @defaultValue `mark` */
    readonly relay?: Relay;
  } = {},
): ServerInterceptor {
  const options = readOptions("context", given, ["priority", "relay", ...environmentOptionNames]);
  const { priority, relay, ...environment } = options;
  const own = environmentOf(environment, "context");
  return serverPipeline(own, {
    priority: priorityReader(priority, own, "context.priority"),
    relay: resolveRelay(relay, "context.relay"),
  });
}
