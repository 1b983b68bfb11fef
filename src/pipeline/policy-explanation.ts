import { type ControlledName, controlledNames } from "../core/control.js";
import { shown } from "../core/options.js";
import { serviceOf } from "../grpc/types.js";
import type { ModeInEnvironment } from "./environment-modes.js";
import type { PolicySet } from "./policy-set.js";
import { clientNames, type PolicyUpdates } from "./policy-updates.js";

/**
 * Where the value of an option comes from: the later ones of the list win over the earlier ones. `update` is what was set at run
 * time by `weir.policy(name).update()`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export type SettingOrigin = "default" | "schema" | "data" | "code" | "update" | "environment";

/**
 * One option that holds for a method, and who says so.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface PolicySetting {
  /** For example `retry.maxAttempts`; `retry` for a policy that is on or off as a whole. */
  readonly option: string;
  /** As in code. Durations are in milliseconds. */
  readonly value: unknown;
  readonly from: SettingOrigin;
  /** For people: `policies.yaml:12`, or the entry of the code. */
  readonly place: string;
}

/**
 * What holds for a method, on each client and each server of a weir. Options that nobody sets have their defaults.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface PolicyExplanation {
  /** `pkg.Service/Method`. */
  readonly method: string;
  readonly clients: readonly ExplainedPolicies[];
  readonly servers: readonly ExplainedPolicies[];
  /** The same as text, with one line for each option. */
  readonly text: string;
}

/**
 * The settings of one client or server.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export interface ExplainedPolicies {
  /** The name that snapshots have for it. */
  readonly name: string;
  readonly settings: readonly PolicySetting[];
}

/** Options of one place, by policy. The first of a list wins. */
interface Level {
  readonly from: SettingOrigin;
  /** How many methods it is for: 0 for one, 1 for those of a service, 2 for all. */
  readonly breadth: number;
  readonly options: Readonly<Record<string, unknown>>;
  readonly place: (option: string) => string;
}

/** What holds beside the code. */
export interface AroundCode {
  readonly data: PolicySet | undefined;
  readonly schema: PolicySet | undefined;
  readonly updates: PolicyUpdates;
  readonly modes: ModeInEnvironment | undefined;
}

/** The places that may leave a policy out, or take back that a weaker one does. */
const strength: Readonly<Partial<Record<SettingOrigin, number>>> = {
  schema: 1,
  data: 2,
  code: 3,
};

type Options = Readonly<Record<string, unknown>>;

/** The options that a client has for all its methods, of which no part is a policy of a method. */
const ofNoMethod = ["name", "methods", "idempotency", "parts"];

/** What holds for a method of a client. */
export function clientSettings(
  method: string,
  code: Options,
  { data, schema, updates, modes }: AroundCode,
  idempotent: boolean,
): readonly PolicySetting[] {
  const service = serviceOf(`/${method}`);
  const { methods: named } = code as { readonly methods?: unknown };
  const inCode = (name: string, breadth: number): Level => {
    const place = `methods["${name}"]`;
    return {
      from: "code",
      breadth,
      options: optionsOf(optionsOf(named)[name] ?? optionsOf(named)[`/${name}`]),
      place: () => place,
    };
  };
  const inData = (name: string, breadth: number): Level => ({
    from: "data",
    breadth,
    options: data?.methods[name] ?? {},
    place: (option) => data?.placeOf(`client.methods["${name}"].${option}`) ?? "",
  });
  const inSchema = (name: string, breadth: number): Level => ({
    from: "schema",
    breadth,
    options: schema?.methods[name] ?? {},
    place: (option) => placeInSchema(schema, `client.methods["${name}"].${option}`, name),
  });
  const levels: Level[] = [
    inCode(method, 0),
    inCode(service, 1),
    { from: "code", breadth: 2, options: code, place: () => "the client" },
    inData(method, 0),
    inData(service, 1),
    {
      from: "data",
      breadth: 2,
      options: data?.client ?? {},
      place: (option) => data?.placeOf(`client.${option}`) ?? "",
    },
    inSchema(method, 0),
    inSchema(service, 1),
    {
      from: "schema",
      breadth: 0,
      options: idempotent ? { retry: { idempotent: true } } : {},
      place: () => "idempotency_level",
    },
    { from: "default", breadth: 2, options: { retry: {}, breaker: {} }, place: () => "" },
  ];
  const { name } = code as { readonly name?: unknown };
  const names = clientNames(typeof name === "string" ? name : undefined, method);
  const set = (policy: string) => updates.setFor(policy, names);
  return settingsOf(levels, ofNoMethod, set, modes);
}

/** What holds for a method on a server: what holds for all, and what its schema says. */
export function serverSettings(
  method: string,
  server: string,
  code: Options,
  { data, schema, updates, modes }: AroundCode,
): readonly PolicySetting[] {
  const inSchema = (name: string, breadth: number): Level => {
    const { priority, idempotency } = schema?.server ?? {};
    const isOn = [code, data?.server ?? {}].some(({ idempotency: own }) => isOptions(own));
    return {
      from: "schema",
      breadth,
      options: {
        ...only("priority", "methodDefaults", priority, name),
        ...(isOn ? only("idempotency", "methods", idempotency, name) : {}),
      },
      place: (option) => placeInSchema(schema, `server.${option}["${name}"]`, name),
    };
  };
  const levels: Level[] = [
    { from: "code", breadth: 2, options: code, place: () => "the server" },
    {
      from: "data",
      breadth: 2,
      options: data?.server ?? {},
      place: (option) => data?.placeOf(`server.${option}`) ?? "",
    },
    inSchema(method, 0),
    inSchema(serviceOf(`/${method}`), 1),
    { from: "default", breadth: 2, options: { deadlineGuard: {} }, place: () => "" },
  ];
  return settingsOf(levels, ["name"], (policy) => updates.setFor(policy, [server]), modes);
}

/** The option of a schema, and the service or method that has it. */
function placeInSchema(schema: PolicySet | undefined, option: string, name: string): string {
  const place = schema?.placeOf(option) ?? "";
  return name.startsWith(place) ? name : `${place} ${name}`;
}

/** What a map of a policy has for one name. */
function only(policy: string, option: string, options: unknown, name: string): Options {
  const value = optionsOf(optionsOf(options)[option])[name];
  return value === undefined ? {} : { [policy]: { [option]: { [name]: value } } };
}

export function explanationText(
  method: string,
  clients: readonly ExplainedPolicies[],
  servers: readonly ExplainedPolicies[],
): string {
  const part = (kind: string, { name, settings }: ExplainedPolicies) => [
    `${kind} ${name}`,
    ...settings.map(({ option, value, from, place }) => {
      const where = place === "" ? from : `${from} (${place})`;
      return `  ${option.padEnd(30)} ${valueText(value).padEnd(14)} ${where}`;
    }),
  ];
  return [
    method,
    ...clients.flatMap((client) => part("client", client)),
    ...servers.flatMap((server) => part("server", server)),
  ].join("\n");
}

function settingsOf(
  levels: readonly Level[],
  leftOut: readonly string[],
  updated: (policy: string) => Options,
  modes: ModeInEnvironment | undefined,
): readonly PolicySetting[] {
  const policies = new Set(levels.flatMap(({ options }) => Object.keys(options)));
  const settings: PolicySetting[] = [];
  for (const policy of policies) {
    if (leftOut.includes(policy)) continue;
    const given = levels.filter(({ options }) => options[policy] !== undefined);
    const [first] = given;
    if (first === undefined) continue;
    const value = first.options[policy];
    if (!isOptions(value)) {
      settings.push({
        option: policy,
        value: plain(value),
        from: first.from,
        place: first.place(policy),
      });
      continue;
    }
    const update: Level = {
      from: "update",
      breadth: 0,
      options: { [policy]: updated(policy) },
      place: () => "set at run time",
    };
    const isSet = Object.keys(updated(policy)).length > 0;
    const all = isSet ? [update, ...given] : given;
    settings.push(...optionSettings(policy, all), ...modeSettings(policy, given, modes));
  }
  return settings;
}

/** The options of one policy that is on. */
function optionSettings(policy: string, given: readonly Level[]): readonly PolicySetting[] {
  const settings = new Map<string, PolicySetting>();
  for (const { options, from, place, breadth } of given) {
    const its = options[policy];
    if (!isOptions(its)) {
      // Data leaves it out, and the code turns it on for the same methods or more: as if the data said nothing here.
      const own = strength[from] ?? 0;
      const overruled = given.some(
        (each) => (strength[each.from] ?? 0) > own && each.breadth >= breadth,
      );
      if (own > 0 && overruled) continue;
      // What is broader than where the policy is left out does not reach the method.
      break;
    }
    for (const [name, value] of Object.entries(its)) {
      const option = `${policy}.${name}`;
      if (value === undefined || settings.has(option)) continue;
      settings.set(option, { option, value: plain(value), from, place: place(option) });
    }
  }
  const [first] = given;
  if (settings.size > 0 || first === undefined) return [...settings.values()];
  return [{ option: policy, value: "on", from: first.from, place: first.place(policy) }];
}

function modeSettings(
  policy: string,
  given: readonly Level[],
  modes: ModeInEnvironment | undefined,
): readonly PolicySetting[] {
  const name = controlledNames.find((each) => each === optionNames[policy] || each === policy);
  if (name === undefined || modes === undefined) return [];
  const own = given.map(({ options }) => modeIn(options[policy])).find(isMode) ?? "enforce";
  const mode = modes(name, own);
  if (mode === own) return [];
  return [{ option: `${policy}.mode`, value: mode, from: "environment", place: "GRPC_WEIR_MODE" }];
}

const optionNames: Readonly<Record<string, ControlledName>> = { deadlineGuard: "deadline-guard" };

function modeIn(options: unknown): unknown {
  const { mode } = optionsOf(options) as { readonly mode?: unknown };
  return mode;
}

function isMode(value: unknown): value is "enforce" | "observe" | "off" {
  return value === "enforce" || value === "observe" || value === "off";
}

function optionsOf(value: unknown): Options {
  return isOptions(value) ? value : {};
}

function isOptions(value: unknown): value is Options {
  return typeof value === "object" && value !== null && !(Symbol.iterator in value);
}

/** Functions and objects of the program are named, and not shown. */
function plain(value: unknown): unknown {
  if (typeof value === "function") return "a function";
  if (Array.isArray(value)) return value.map(plain);
  if (!isOptions(value)) return value;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return shown(value);
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
}

function valueText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
