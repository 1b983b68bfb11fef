import type { Clock } from "../core/clock.js";
import { InvalidOptionError } from "../core/options.js";
import { type Environment, environmentOf } from "../grpc/environment.js";
import { serviceOf } from "../grpc/types.js";
import { buildGuard } from "../guard/compiled.js";
import { ClientPolicies } from "../pipeline/client.js";
import type { OptionData, PolicySet } from "../pipeline/policy-set.js";
import { ServerPolicies } from "../pipeline/server.js";
import { empty } from "../policies/fallback/client-providers.js";
import {
  type DocumentPath,
  type PolicyDocument,
  PolicyDocumentError,
  type PolicyProblem,
  pathText,
} from "./document.js";
import { type MappedPolicies, mapped } from "./mapping.js";

/**
 * The policies that a document has.
 *
 * @param read Turns the document into options. @defaultValue it is one of `weir.v1.Policies`
 * @throws PolicyDocumentError with all problems that were found: what the schema does not know, or else what the policies
 *   refuse.
 */
export function policySetOf(document: PolicyDocument, read = mapped): PolicySet {
  const found = read(document);
  const problems = found.problems.length > 0 ? found.problems : refusals(found, document);
  if (problems.length > 0) throw new PolicyDocumentError(document.name, problems);
  const { client, methods, server, guards, places } = found;
  return {
    client,
    methods,
    server,
    guards,
    placeOf: (option) => {
      const { path } = placeIn(places, option);
      if (path.length === 0) return undefined;
      const line = document.positionOf(path)?.line;
      return line === undefined ? document.name : `${document.name}:${line}`;
    },
  };
}

/** What the policies refuse. Each part of the document is built by itself, so that each tells what is wrong with it. */
function refusals(found: MappedPolicies, document: PolicyDocument): readonly PolicyProblem[] {
  const { client, methods, server, guards } = found;
  const problems: PolicyProblem[] = [];
  const attempt = (build: () => void): boolean => {
    try {
      build();
      return true;
    } catch (error) {
      if (!(error instanceof InvalidOptionError)) throw error;
      problems.push(problemOf(error, found, document));
      return false;
    }
  };
  const environment = stillEnvironment();
  const buildClient = (named: Readonly<Record<string, OptionData>>) => () => {
    const own = Object.entries(named).map(([name, its]) => [name, withCode(its)] as const);
    new ClientPolicies({ ...withCode(client), methods: Object.fromEntries(own) }, environment);
  };
  if (attempt(buildClient({}))) {
    const wrong = new Set<string>();
    // Services first: a method inherits what is wrong with its service, which is told once.
    const names = Object.keys(methods).sort((a, b) => slashes(a) - slashes(b));
    for (const name of names) {
      const service = name.includes("/") ? serviceOf(`/${name}`) : name;
      if (wrong.has(service)) continue;
      const all = [service, name].flatMap((each) => {
        const its = methods[each];
        return its === undefined ? [] : [[each, its] as const];
      });
      if (!attempt(buildClient(Object.fromEntries(all)))) wrong.add(name);
    }
  }
  attempt(() => new ServerPolicies(withServerCode(server), environment).close());
  for (const [name, guard] of Object.entries(guards)) {
    attempt(() => buildGuard(name, withGuardCode(guard), environment));
  }
  return problems;
}

function slashes(name: string): number {
  return name.includes("/") ? 1 : 0;
}

/** An environment in which nothing happens: what is built in it is only checked. */
function stillEnvironment(): Environment {
  const clock: Clock = {
    now: () => 0,
    wallNow: () => 0,
    schedule: () => () => {},
    afterPoll: () => () => {},
  };
  const given = { clock, random: () => 0, onDecision: undefined, onError: () => {} };
  return environmentOf(given, "check");
}

/** What only the code can give, so that the rest can be checked without it. */
function withCode(options: OptionData): OptionData {
  return {
    ...options,
    ...filled(options, "bulkhead", partitionOf),
    ...filled(options, "fallback", () => ({ providers: [empty()] })),
  };
}

function withServerCode(options: OptionData): OptionData {
  return {
    ...options,
    ...filled(options, "bulkhead", partitionOf),
    ...filled(options, "brownout", () => ({ pressure: () => 0 })),
    ...filled(options, "idempotency", ({ scope }) =>
      scope === undefined ? { scope: String } : {},
    ),
  };
}

function withGuardCode(options: OptionData): OptionData {
  return { ...options, ...filled(options, "fallback", () => ({ value: undefined })) };
}

function partitionOf({ partitions }: OptionData): OptionData {
  return partitions === undefined ? {} : { partition: () => "default" };
}

function filled(
  options: OptionData,
  policy: string,
  code: (given: OptionData) => OptionData,
): OptionData {
  const given = options[policy];
  return typeof given === "object" && given !== null
    ? { [policy]: { ...given, ...code(given as OptionData) } }
    : {};
}

function problemOf(
  error: InvalidOptionError,
  { places }: MappedPolicies,
  document: PolicyDocument,
): PolicyProblem {
  const { path, rest } = placeIn(places, error.option);
  const text = error.message.startsWith(error.option)
    ? error.message.slice(error.option.length).trimStart()
    : error.message;
  return {
    file: document.name,
    ...document.positionOf(path),
    path: `${pathText(path)}${rest}`,
    message: inSeconds(text),
  };
}

/** A document has durations in seconds, so a text about a range has them, too. */
function inSeconds(text: string): string {
  const range = /milliseconds from (\d+) to \d+ \(24 days\), got (-?[\d.]+)/;
  return text.replace(range, (_all, from: string, got: string) => {
    return `a duration from ${Number(from) / 1e3}s to 24 days, got ${Number(got) / 1e3}s`;
  });
}

/** Where an option stands, or what is around it; and the rest of its path, which the document does not have. */
function placeIn(
  places: ReadonlyMap<string, DocumentPath>,
  option: string,
): { readonly path: DocumentPath; readonly rest: string } {
  let best = "";
  for (const known of places.keys()) {
    const inside = option === known || /^[.[]/.test(option.slice(known.length));
    if (known.length > best.length && option.startsWith(known) && inside) best = known;
  }
  return {
    path: places.get(best) ?? [],
    rest: best === "" ? `.${option}` : option.slice(best.length),
  };
}
