import { isRecord } from "../core/options.js";
import type { OptionData, PolicyChange, PolicySet } from "../pipeline/policy-set.js";

/** What has changed from one document to another, in the order of the later one. What has gone comes last. */
export function changesBetween(before: PolicySet, after: PolicySet): readonly PolicyChange[] {
  const old = optionsOf(before);
  const now = optionsOf(after);
  const changes: PolicyChange[] = [];
  for (const option of new Set([...now.keys(), ...old.keys()])) {
    const [was, is] = [old.get(option), now.get(option)];
    if (JSON.stringify(was) === JSON.stringify(is)) continue;
    // A policy that came or went is told once, and not for each of its options.
    if (coveredBy(option, old, now)) continue;
    const place = is === undefined ? before.placeOf(option) : after.placeOf(option);
    changes.push({ option, before: was, after: is, meaning: meaningOf(option, was, is), place });
  }
  return changes;
}

/** Stands for an object of options, whatever is in it. */
const given = "given";

/** All options that have a value, by their paths. An object of options has one of its own. */
function optionsOf({ client, methods, server, guards }: PolicySet): Map<string, unknown> {
  const found = new Map<string, unknown>();
  const policies = (path: string, options: OptionData) => {
    for (const [policy, value] of Object.entries(options)) add(found, `${path}.${policy}`, value);
  };
  policies("client", client);
  for (const [name, options] of Object.entries(methods)) {
    policies(`client.methods["${name}"]`, options);
  }
  policies("server", server);
  for (const [name, options] of Object.entries(guards)) policies(`guard("${name}")`, options);
  return found;
}

function add(found: Map<string, unknown>, path: string, value: unknown): void {
  if (value === undefined) return;
  if (!isRecord(value)) {
    found.set(path, value);
    return;
  }
  found.set(path, given);
  for (const [name, inside] of Object.entries(value)) {
    add(found, /^\w+$/.test(name) ? `${path}.${name}` : `${path}["${name}"]`, inside);
  }
}

/** Whether something around the option came or went. */
function coveredBy(
  option: string,
  old: ReadonlyMap<string, unknown>,
  now: ReadonlyMap<string, unknown>,
): boolean {
  for (const [around, value] of [...old, ...now]) {
    const inside = option !== around && /^[.[]/.test(option.slice(around.length));
    if (!inside || !option.startsWith(around) || value !== given) continue;
    if (old.get(around) !== now.get(around)) return true;
  }
  return false;
}

/** What it does when a number becomes greater, and when it becomes smaller. By the end of the path. */
const numbers: readonly (readonly [end: RegExp, greater: string, smaller: string])[] = [
  [
    /\.retry\.maxAttempts$/,
    "Failed calls are tried more often, which is more load on a target that is ill",
    "Failed calls are tried less often",
  ],
  [
    /\.budget\.(ratio|maxTokens|minPerSecond|tokenRatio)$/,
    "More further attempts are allowed while much fails",
    "Fewer further attempts are allowed while much fails",
  ],
  [/\.backoff\.(baseMs|maxMs|multiplier)$/, "Retries wait longer", "Retries come sooner"],
  [/\.hedge\.(delayMs|minDelayMs|quantile)$/, "Fewer calls are hedged", "More calls are hedged"],
  [
    /\.(deadline\.defaultMs|timeouts\.\w+)$/,
    "Calls may take longer, and hold what they hold for longer",
    "Calls that take longer than that fail now",
  ],
  [
    /\.breaker\.(consecutiveFailures|failureRate|slowMs|slowRate|minCalls)$/,
    "It takes more to open the breaker",
    "It takes less to open the breaker",
  ],
  [
    /\.breaker\.(openMs|maxOpenMs|openFactor)$/,
    "An open breaker refuses for longer",
    "An open breaker asks the target sooner",
  ],
  [
    /\.(maxConcurrent|limit)$/,
    "More calls run at once",
    "Fewer calls run at once: the others wait or are refused",
  ],
  [/\.maxQueued$/, "More calls may wait", "Fewer calls may wait: the others are refused at once"],
  [
    /\.maxWaitMs$/,
    "Calls may wait longer before they are refused",
    "Calls that wait are refused sooner",
  ],
  [
    /\.resets\.(ratePerSecond|burst)$/,
    "More attempts that were given up are cancelled at once",
    "More attempts that were given up run to their end",
  ],
  [/\.(ratePerSecond|burst)$/, "More calls are let through", "Fewer calls are let through"],
  [
    /\.(throttle|pressure)\.maxRefusedShare$/,
    "A larger share of the calls may be refused",
    "Fewer of the calls may be refused",
  ],
  [
    /\.passShare$/,
    "More calls go on that the policy would refuse",
    "Fewer calls go on that the policy would refuse",
  ],
  [
    /\.(throttle|learned)\.minCalls$/,
    "The policy waits for more calls before it acts",
    "The policy acts after fewer calls",
  ],
  [
    /\.thresholds\.(low|normal|high)$/,
    "Calls of this priority are refused at a higher load",
    "Calls of this priority are refused at a lower load",
  ],
  [/\.throttle\.k$/, "The throttle holds back less", "The throttle holds back more"],
];

const modes: Readonly<Record<string, string> & { readonly enforce: string }> = {
  enforce: "It acts on calls",
  observe: "It decides and counts, and changes no call",
  off: "It does nothing",
};

function meaningOf(option: string, before: unknown, after: unknown): string | undefined {
  const [, policy] = /^(?:client(?:\.methods\["[^"]*"\])?|server|guard\("[^"]*"\))\.(\w+)$/.exec(
    option,
  ) ?? [undefined, undefined];
  if (policy !== undefined) {
    if (after === false) return "It is off";
    if (after === given) return before === false ? "It is on" : "It is stated here now";
    if (after === undefined) return "What a broader entry says holds, or else the default";
  }
  if (option.endsWith(".mode")) return typeof after === "string" ? modes[after] : modes.enforce;
  if (option.endsWith(".idempotent")) {
    return after === true
      ? "It may run twice: attempts that a handler may have seen are retried"
      : "It is not said that it may run twice: only attempts that no handler has seen are retried";
  }
  if (typeof before !== "number" || typeof after !== "number") return undefined;
  const known = numbers.find(([end]) => end.test(option));
  return known === undefined ? undefined : known[after > before ? 1 : 2];
}

/** `policies.yaml:3 client.retry.maxAttempts: 3 → 5. Failed calls are tried more often, …` */
export function changeText({ option, before, after, meaning, place }: PolicyChange): string {
  const where = place === undefined ? "" : `${place} `;
  const why = meaning === undefined ? "" : `. ${meaning}`;
  return `${where}${option}: ${valueText(before)} → ${valueText(after)}${why}`;
}

function valueText(value: unknown): string {
  if (value === undefined) return "not given";
  return typeof value === "string" ? value : JSON.stringify(value);
}
