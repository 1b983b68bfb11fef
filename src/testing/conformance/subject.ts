import type { ClientOptions, Interceptor, ServerInterceptor, ServerOptions } from "@grpc/grpc-js";
import type { Clock, Random } from "../../core/clock.js";

/** What the interceptors under test live by: the time and chance of the transport. */
export interface ConformanceEnv {
  readonly clock: Clock;
  readonly random: Random;
}

/** What is tested: the interceptors of a client, of a server, or of both. */
export interface ConformanceSubject {
  /** Interceptors alone, or whole client options. Called once per case. */
  readonly client?: (env: ConformanceEnv) => readonly Interceptor[] | ClientOptions;
  /** Interceptors alone, nearest the wire first, or whole server options. Called once per case. */
  readonly server?: (env: ConformanceEnv) => readonly ServerInterceptor[] | ServerOptions;
}

/** The client options of a subject, whichever way it gave them. */
export function clientOptionsOf(subject: ConformanceSubject, env: ConformanceEnv): ClientOptions {
  const given = subject.client?.(only(env)) ?? [];
  if (isList(given)) return { interceptors: [...given] };
  if (given.interceptor_providers !== undefined) {
    throw new TypeError("conformance: interceptor_providers are not supported, give interceptors");
  }
  return given;
}

/** The server options of a subject, whichever way it gave them. */
export function serverOptionsOf(subject: ConformanceSubject, env: ConformanceEnv): ServerOptions {
  const given = subject.server?.(only(env)) ?? [];
  return isList(given) ? { interceptors: [...given] } : given;
}

function isList<T>(given: readonly T[] | object): given is readonly T[] {
  return Array.isArray(given);
}

/** Nothing but what it says: subjects spread it into options that refuse what they do not know. */
function only({ clock, random }: ConformanceEnv): ConformanceEnv {
  return { clock, random };
}
