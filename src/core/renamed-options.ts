/**
 * Options that had another name once, by the message of `policy.proto` that has them: the old name, and the present one. Both
 * are those of the code. An old name is refused, and the error says the new one.
 */
const renamed: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  Throttle: {
    minRequests: "minCalls",
    maxRejectRatio: "maxRefusedShare",
    probeRatio: "passShare",
  },
  Feasibility: { minSamples: "minCalls" },
  Fairness: { by: "key", maxCallers: "maxKeys" },
  Pressure: { maxShare: "maxRefusedShare" },
  Resets: { perSecond: "ratePerSecond" },
  StaleCache: { maxAnswerBytes: "maxResponseBytes" },
  GuardPolicy: { timeoutMs: "timeouts.totalMs", attemptTimeoutMs: "timeouts.attemptMs" },
};

/** The old names of a message, each with what an error says of it. */
export function renamedOptions(message: string): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(renamed[message] ?? {}).map(([old, now]) => [old, `called ${now}`]),
  );
}

/** The present name of a field of a document, which has no unit in its name. `undefined` where the name is not an old one. */
export function renamedField(message: string, field: string): string | undefined {
  const names = renamed[message] ?? {};
  return (names[field] ?? names[`${field}Ms`])?.replace(/Ms$/, "");
}
