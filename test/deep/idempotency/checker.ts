/** Times are microseconds on a clock that all processes of the machine share. */
type Us = number;

/** What a handler has answered for good. It names whom it is for, so that an answer that went astray is known. */
export interface Answer {
  readonly kind: "applied" | "declined";
  readonly caller: string;
  readonly key: string;
  readonly request: string;
  /** What else the answer says. The ledger keeps it with the order. */
  readonly text: string;
}

/**
 * How a call has ended for its client: with an answer; with the refusal of a key that belongs to another request; or
 * with a failure that leaves open what has happened.
 */
export type CallEnd = { readonly endUs: Us } & (
  | { readonly kind: "answer"; readonly answer: Answer; readonly replayed: boolean }
  | { readonly kind: "reused" }
  | { readonly kind: "unsettled" }
);

/** A call as its client saw it. One without an end belongs to a client that has died. */
export interface Invocation {
  readonly client: string;
  readonly caller: string;
  readonly key: string;
  readonly request: string;
  readonly startUs: Us;
  readonly end?: CallEnd;
}

/** A run of the handler, as its server saw it. */
export interface Execution {
  readonly server: string;
  readonly caller: string;
  readonly key: string;
  readonly request: string;
  readonly token: number;
  readonly startUs: Us;
}

/** A step of the ledger: what it was asked under a token, and whether it has written an order. */
export interface LedgerStep {
  readonly caller: string;
  readonly key: string;
  readonly token: number;
  readonly atUs: Us;
  /** The order that it wrote in this step. */
  readonly applied?: Answer;
  /** It refused the step, because it had seen a larger token. */
  readonly fenced?: boolean;
}

export interface History {
  readonly invocations: readonly Invocation[];
  readonly executions: readonly Execution[];
  /** In the order in which the ledger took them. */
  readonly ledger: readonly LedgerStep[];
}

export const rules = {
  "applied once": "the ledger has at most one order for a key",
  fenced: "the ledger takes nothing under a token lower than one that it has seen for the key",
  "tokens differ": "no two runs of a key have the same token",
  "run was asked for": "a run follows a call with its caller, key and request",
  "answer has a run": "an answer follows a run with its caller, key and request",
  "one answer": "all answers of a key are the same",
  "own answer": "an answer is for the caller, the key and the request that it is told to",
  "told OK, in the ledger": "an order that a client was told of is in the ledger, as it was told",
  "told no, not in the ledger":
    "an order that a client was told to be declined is not in the ledger",
  "applied before told": "an order is applied before a client is told of it",
  "no run after an answer":
    "after a client was told the answer of a key, nothing runs for it but under a token from before",
  "one first answer": "all answers of a key but one are marked as replayed",
  "reuse has a cause": "a key is refused as reused only when it belongs to another request",
} as const;

export type Rule = keyof typeof rules;

export interface Violation {
  readonly rule: Rule;
  readonly caller: string;
  readonly key: string;
  /** What contradicts the rule. */
  readonly seen: string;
}

/**
 * Whether what clients, servers and the ledger saw is what one service with one memory could have done, call after call.
 *
 * A key is an object of its own: it belongs to nobody, then to a request, and then has one answer for good. Calls that end
 * with an answer take effect between their start and their end, so one that ended before another began must not be
 * contradicted by it. A call that ends without an answer may have taken effect or not.
 */
export function check(history: History): Violation[] {
  const keys = new Map<string, KeyHistory>();
  const of = ({ caller, key }: { readonly caller: string; readonly key: string }): KeyHistory => {
    const name = JSON.stringify([caller, key]);
    const known = keys.get(name) ?? { caller, key, invocations: [], executions: [], steps: [] };
    keys.set(name, known);
    return known;
  };
  for (const invocation of history.invocations) of(invocation).invocations.push(invocation);
  for (const execution of history.executions) of(execution).executions.push(execution);
  for (const step of history.ledger) of(step).steps.push(step);
  return [...keys.values()].flatMap((one) => [
    ...ledgerRules(one),
    ...runRules(one),
    // An answer that went astray is judged by the runs and the orders of the key that it is for.
    ...answerRules(one, of),
    ...reuseRules(one),
  ]);
}

interface KeyHistory {
  readonly caller: string;
  readonly key: string;
  readonly invocations: Invocation[];
  readonly executions: Execution[];
  readonly steps: LedgerStep[];
}

function violation({ caller, key }: KeyHistory, rule: Rule, ...seen: unknown[]): Violation {
  return { rule, caller, key, seen: seen.map((each) => JSON.stringify(each)).join(" and ") };
}

function ledgerRules(one: KeyHistory): Violation[] {
  const found: Violation[] = [];
  const [first, second] = one.steps.filter(({ applied }) => applied !== undefined);
  if (first !== undefined && second !== undefined) {
    found.push(violation(one, "applied once", first, second));
  }
  let last: LedgerStep | undefined;
  for (const step of one.steps) {
    if (step.fenced === true) continue;
    if (last !== undefined && step.token < last.token) {
      found.push(violation(one, "fenced", last, step));
    } else last = step;
  }
  return found;
}

function runRules(one: KeyHistory): Violation[] {
  const found: Violation[] = [];
  const byToken = new Map<number, Execution>();
  for (const run of one.executions) {
    const other = byToken.get(run.token);
    if (other !== undefined) found.push(violation(one, "tokens differ", other, run));
    byToken.set(run.token, run);
    const asked = one.invocations.some(
      ({ request, startUs }) => request === run.request && startUs <= run.startUs,
    );
    if (!asked) found.push(violation(one, "run was asked for", run));
  }
  const told = earliest(answered(one));
  if (told !== undefined) {
    const { endUs } = told.end;
    // A process that stood still since it was given its token starts late. The resource refuses its token.
    const tokens = one.executions.filter(({ startUs }) => startUs <= endUs).map((run) => run.token);
    const late = one.executions.find(
      ({ startUs, token }) => startUs > endUs && tokens.every((other) => token > other),
    );
    if (late !== undefined) found.push(violation(one, "no run after an answer", told, late));
  }
  return found;
}

function answerRules(
  one: KeyHistory,
  of: (key: { readonly caller: string; readonly key: string }) => KeyHistory,
): Violation[] {
  const found: Violation[] = [];
  const all = answered(one);
  const [first] = all;
  for (const told of all) {
    const { answer, endUs } = told.end;
    if (first !== undefined && !isSame(first.end.answer, answer)) {
      found.push(violation(one, "one answer", first, told));
    }
    if (!isFor(answer, told)) found.push(violation(one, "own answer", told));
    const { executions, steps } = of(answer);
    const ran = executions.some(
      ({ request, startUs }) => request === answer.request && startUs <= endUs,
    );
    if (!ran) found.push(violation(one, "answer has a run", told));
    const order = steps.find(({ applied }) => applied !== undefined);
    if (answer.kind === "declined") {
      if (order !== undefined)
        found.push(violation(one, "told no, not in the ledger", told, order));
    } else if (order?.applied === undefined || !isSame(order.applied, answer)) {
      found.push(violation(one, "told OK, in the ledger", told, order));
    } else if (order.atUs > endUs) found.push(violation(one, "applied before told", told, order));
  }
  const [original, another] = all.filter(({ end }) => !end.replayed);
  if (original !== undefined && another !== undefined) {
    found.push(violation(one, "one first answer", original, another));
  }
  return found;
}

function reuseRules(one: KeyHistory): Violation[] {
  const found: Violation[] = [];
  for (const refused of one.invocations) {
    const { request, startUs, end } = refused;
    if (end?.kind !== "reused") continue;
    const cause = one.invocations.some(
      (other) => other.request !== request && other.startUs <= end.endUs,
    );
    // The key belonged to this very request before the call began.
    const own =
      answered(one).find((told) => told.request === request && told.end.endUs < startUs) ??
      one.steps.find(({ applied, atUs }) => applied?.request === request && atUs < startUs);
    if (!cause || own !== undefined) {
      found.push(violation(one, "reuse has a cause", refused, own));
    }
  }
  return found;
}

type Answered = Invocation & { readonly end: Extract<CallEnd, { kind: "answer" }> };

function answered({ invocations }: KeyHistory): Answered[] {
  return invocations.filter((each): each is Answered => each.end?.kind === "answer");
}

function earliest(all: readonly Answered[]): Answered | undefined {
  return all.reduce<Answered | undefined>(
    (found, each) => (found === undefined || each.end.endUs < found.end.endUs ? each : found),
    undefined,
  );
}

function isSame(one: Answer, other: Answer): boolean {
  return one.kind === other.kind && one.text === other.text && isFor(one, other);
}

function isFor(answer: Answer, { caller, key, request }: Omit<Answer, "kind" | "text">): boolean {
  return answer.caller === caller && answer.key === key && answer.request === request;
}
