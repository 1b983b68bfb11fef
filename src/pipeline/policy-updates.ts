import type { ControlledName } from "../core/control.js";
import { isRecord, readOptions } from "../core/options.js";
import { serviceOf } from "../grpc/types.js";

/** Options by name, as code gives them. */
type Options = Readonly<Record<string, unknown>>;

/** Where the options of a policy stand, by the name of the policy; a policy is only in these places. */
const places: Readonly<Record<ControlledName, readonly string[]>> = {
  retry: ["retry"],
  hedge: ["hedge"],
  breaker: ["breaker"],
  rate: ["rate"],
  throttle: ["throttle"],
  bulkhead: ["bulkhead"],
  "deadline-guard": ["deadlineGuard"],
  feasibility: ["deadlineGuard", "learned"],
  quota: ["quota"],
  idempotency: ["idempotency"],
  admission: ["admission"],
  fallback: ["fallback"],
  brownout: ["brownout"],
  faults: ["faults"],
};

/** Policies that are on without options, by where they are. */
const onByDefault = {
  client: ["retry", "breaker"],
  server: ["deadlineGuard", "learned"],
  guard: [],
} as const;

/** Options of one policy that were set at run time. */
interface Update {
  readonly policy: ControlledName;
  /** The client, server, method, service or guard that it is for; `undefined` for all. */
  readonly of: string | undefined;
  readonly options: Options;
}

/**
 * The options of policies that were set at run time. They are laid over all others, where a policy is on. What was set for one
 * client, service or method wins over what was set for more.
 */
export class PolicyUpdates {
  static readonly none = new PolicyUpdates([]);
  /** One for each policy and what it is for. */
  readonly #updates: readonly Update[];

  private constructor(updates: readonly Update[]) {
    this.#updates = updates;
  }

  /** @internal */
  get size(): number {
    return this.#updates.length;
  }

  /** These updates and another one. Of the same option for the same, the later one counts. */
  with(policy: ControlledName, options: Options, of?: string): PolicyUpdates {
    const before = this.#updates.find((each) => each.policy === policy && each.of === of);
    const update = { policy, of, options: { ...before?.options, ...options } };
    const others = this.#updates.filter((each) => each !== before);
    return new PolicyUpdates([...others, update]);
  }

  /** These updates without those of a policy, or of what it was built for. */
  without(policy: ControlledName, of?: string): PolicyUpdates {
    const left = this.#updates.filter(
      (each) => each.policy !== policy || (of !== undefined && each.of !== of),
    );
    return new PolicyUpdates(left);
  }

  /** The options of a client, with those of its methods. What is set for a client or a service holds for all of its methods. */
  overClient(given: Options): Options {
    const { name, methods, ...base } = given;
    const client = typeof name === "string" ? name : undefined;
    const laid = this.#over(base, clientNames(client), onByDefault.client);
    if (!isRecord(methods)) return { ...given, ...laid };
    const entries = Object.entries(methods).map(([written, options]) => {
      const names = clientNames(client, written.replace(/^\//, ""));
      return [written, isRecord(options) ? this.#over(options, names, []) : options];
    });
    return { ...given, ...laid, methods: Object.fromEntries(entries) };
  }

  overServer(given: Options): Options {
    const { name } = given;
    return this.#over(given, [typeof name === "string" ? name : "server"], onByDefault.server);
  }

  overGuard(given: Options, name: string): Options {
    return this.#over(given, [name], onByDefault.guard);
  }

  /** What was set for the options of a policy, for something with these names. */
  setFor(place: string, names: readonly string[]): Options {
    const { [place]: laid } = this.#over({ [place]: {} }, names, [...onByDefault.server]);
    return isRecord(laid) ? laid : {};
  }

  #over(given: Options, names: readonly string[], on: readonly string[]): Options {
    let laid = given;
    // From the broadest to the narrowest.
    for (const name of [undefined, ...names]) {
      for (const { policy, of, options } of this.#updates) {
        if (of === name) laid = layAt(laid, places[policy], options, on);
      }
    }
    return laid;
  }
}

/** The names under which updates reach a client, or a method or service of it: the broadest first. */
export function clientNames(client: string | undefined, path?: string): readonly string[] {
  const names = [client ?? "client"];
  if (path === undefined) return names;
  const prefix = client === undefined ? "" : `${client} `;
  const service = path.includes("/") ? serviceOf(`/${path}`) : path;
  return [...names, `${prefix}${service}`, `${prefix}${path}`];
}

/** Lays options over those of a policy that is on. */
function layAt(
  given: Options,
  [place, ...inside]: readonly string[],
  options: Options,
  on: readonly string[],
): Options {
  // Options may be inherited, which a spread would leave out.
  if (place === undefined) return { ...readOptions("update", given), ...options };
  const known = given[place] ?? (on.includes(place) ? {} : undefined);
  const lay = (each: unknown) => (isRecord(each) ? layAt(each, inside, options, on) : each);
  if (Array.isArray(known)) return { ...given, [place]: known.map(lay) };
  return isRecord(known) ? { ...given, [place]: lay(known) } : given;
}
