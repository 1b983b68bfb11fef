import { describe, expect, it } from "vitest";
import { statusCode } from "../../../src/core/status.js";
import { type FailedAttempt, notAfter, stopText } from "../../../src/policies/retry/rules.js";
import { rules, unavailable } from "./retry-scene.js";

const code = { cancelled: 1, deadlineExceeded: 4, aborted: 10, internal: 13 } as const;
const codes = [
  statusCode.unavailable,
  statusCode.resourceExhausted,
  code.cancelled,
  code.deadlineExceeded,
  code.aborted,
  code.internal,
];

/** What failed, and whether it is retried for methods that are idempotent, of unknown level, and not. */
type Row = readonly [
  what: string,
  failed: Partial<FailedAttempt>,
  idempotent: boolean,
  unknown: boolean,
  not: boolean,
];

const table: readonly Row[] = [
  ["what never left the process", { origin: "never-sent" }, true, true, true],
  [
    "what never left the process, by a code outside the set",
    { origin: "never-sent", code: 2 },
    true,
    true,
    true,
  ],
  ["a stream that was refused before processing", { origin: "refused" }, true, true, true],
  [
    "an answer that the handler was not reached",
    { handlerNotRun: true, code: statusCode.resourceExhausted, pushback: 50 },
    true,
    true,
    true,
  ],
  ["UNAVAILABLE in trailers alone", {}, true, true, false],
  ["another code of the set in trailers alone", { code: code.aborted }, true, false, false],
  ["DEADLINE_EXCEEDED that the server says", { code: code.deadlineExceeded }, true, false, false],
  ["CANCELLED that the server says", { code: code.cancelled }, true, false, false],
  ["UNAVAILABLE after headers", { trailersOnly: false }, true, false, false],
  ["a code outside the set", { code: 5 }, false, false, false],
  ["a connection that broke", { origin: "transport" }, true, false, false],
  [
    "a connection that broke, by a code outside the set",
    { origin: "transport", code: 2 },
    false,
    false,
    false,
  ],
  [
    "an attempt that ran out of its own time",
    { origin: "attempt-timeout", code: code.deadlineExceeded },
    true,
    false,
    false,
  ],
  [
    "RESOURCE_EXHAUSTED without a word of when",
    { code: statusCode.resourceExhausted },
    false,
    false,
    false,
  ],
  [
    "RESOURCE_EXHAUSTED with pushback",
    { code: statusCode.resourceExhausted, pushback: 50 },
    true,
    false,
    false,
  ],
  [
    "RESOURCE_EXHAUSTED with RetryInfo",
    { code: statusCode.resourceExhausted, retryInfoMs: 50 },
    true,
    false,
    false,
  ],
  [
    "RESOURCE_EXHAUSTED that the transport says, which can name no time",
    { origin: "transport", code: statusCode.resourceExhausted },
    false,
    false,
    false,
  ],
  [
    "a message over a size limit",
    { origin: "local-limit", code: statusCode.resourceExhausted },
    false,
    false,
    false,
  ],
  ["a call that this process could not set up", { origin: "local-setup" }, false, false, false],
  [
    "the caller's deadline",
    { origin: "deadline", code: code.deadlineExceeded },
    false,
    false,
    false,
  ],
  ["the caller's cancellation", { origin: "caller", code: code.cancelled }, false, false, false],
  ["a rejection by a policy of this process", { origin: "local-policy" }, false, false, false],
  [
    "a local rejection that says when to come back",
    { origin: "local-policy", retryInfoMs: 5 },
    false,
    false,
    false,
  ],
];

describe("whether another attempt is made", () => {
  const levels = [
    ["idempotent", true],
    ["of unknown level", undefined],
    ["not idempotent", false],
  ] as const;
  for (const [what, failed, ...answers] of table) {
    for (const [index, [level, idempotent]] of levels.entries()) {
      const retried = answers[index] ?? false;
      it(`is ${retried ? "yes" : "no"} after ${what}, for a method that is ${level}`, () => {
        const { decide, word } = rules({
          codes,
          ...(idempotent === undefined ? {} : { idempotent }),
        });
        if (retried) expect(decide(failed).kind).toBe("retry");
        else expect(word(failed)).toBe("RETRY_NOT_ELIGIBLE");
      });
    }
  }

  it("is no when the server asks not to be retried, whatever else holds", () => {
    const { word } = rules({ idempotent: true });
    expect(word({ pushback: "stop" })).toBe("RETRY_PUSHBACK_STOP");
    expect(word({ pushback: "stop", handlerNotRun: true })).toBe("RETRY_PUSHBACK_STOP");
  });

  it("is no when the server names a wait of more than five minutes, by pushback or RetryInfo", () => {
    const { word } = rules({ idempotent: true });
    expect(word({ pushback: 300_000 })).toBe(300_000);
    expect(word({ pushback: 300_001 })).toBe("RETRY_WAIT_TOO_LONG");
    expect(word({ retryInfoMs: 2 ** 31 - 1 })).toBe("RETRY_WAIT_TOO_LONG");
    expect(word({ pushback: 300_001, remainingMs: 5_000 })).toBe("RETRY_PAST_DEADLINE");
    // A backoff of the user's own may be as long as it likes.
    const patient = rules({ backoff: { baseMs: 600_000, maxMs: 600_000, jitter: "none" } });
    expect(patient.word({})).toBe(600_000);
  });

  it("is yes for each refusal of an idempotent call, and for one of another: a server may always say so", () => {
    const harmless = rules({ idempotent: true });
    const unknown = rules();
    for (const attempts of [1, 2, 3]) {
      expect(typeof harmless.word({ origin: "refused", attempts })).toBe("number");
      const said = unknown.word({ origin: "refused", attempts });
      if (attempts === 1) expect(said).toBe(100);
      else expect(said).toBe("RETRY_ATTEMPTS_SPENT");
    }
  });

  it("is no when a service below has given up on it already", () => {
    const { word } = rules({ idempotent: true });
    expect(word({ relayed: true })).toBe("RETRY_EXHAUSTED_BELOW");
    expect(word({ relayed: true, handlerNotRun: true })).toBe("RETRY_EXHAUSTED_BELOW");
  });

  it("is no when enough services above are retrying already", () => {
    const { word } = rules({ maxDepth: 2 });
    expect(word({ depth: 1 })).toBe(100);
    expect(word({ depth: 2 })).toBe("RETRY_DEPTH");
    expect(rules().word({ depth: 1 })).toBe("RETRY_DEPTH");
    expect(rules().word({ depth: 0 })).toBe(100);
  });

  it("follows the caller's own judgement of an answer in place of the codes", () => {
    const { word } = rules({ idempotent: true });
    expect(word({ wanted: false })).toBe("RETRY_NOT_ELIGIBLE");
    expect(word({ wanted: true, code: 5 })).toBe(100);
    expect(word({ wanted: false, origin: "transport" })).toBe("RETRY_NOT_ELIGIBLE");
    expect(word({ wanted: true, origin: "caller" })).toBe("RETRY_NOT_ELIGIBLE");
  });

  it("is no once the request can no longer be sent again", () => {
    const { word } = rules({ idempotent: true });
    expect(word({ replayable: false })).toBe("RETRY_COMMITTED");
    expect(word({ replayable: false, origin: "never-sent" })).toBe("RETRY_COMMITTED");
  });

  it("is no when all attempts are spent, the first one included", () => {
    const { word } = rules({ maxAttempts: 3 });
    expect(word({ attempts: 2 })).toBe(100);
    expect(word({ attempts: 3 })).toBe("RETRY_ATTEMPTS_SPENT");
    expect(rules({ maxAttempts: 1 }).word()).toBe("RETRY_ATTEMPTS_SPENT");
  });

  it("is no when the wait does not end before the deadline", () => {
    const { word } = rules();
    expect(word({ remainingMs: 101 })).toBe(100);
    expect(word({ remainingMs: 200 })).toBe("RETRY_PAST_DEADLINE");
    expect(word({ pushback: 300, remainingMs: 300 })).toBe("RETRY_PAST_DEADLINE");
    expect(word({ retryInfoMs: 5_000, remainingMs: 4_000 })).toBe("RETRY_PAST_DEADLINE");
    expect(word({ pushback: 0, remainingMs: 0 })).toBe("RETRY_PAST_DEADLINE");
    expect(word({ pushback: 0, remainingMs: -5 })).toBe("RETRY_PAST_DEADLINE");
  });

  it("is no when it could not end before the deadline by what such calls take, where that is known", () => {
    const { word } = rules();
    expect(word({ remainingMs: 400, usualMs: 300 })).toBe(100);
    expect(word({ remainingMs: 499, usualMs: 300 })).toBe("RETRY_INFEASIBLE");
    expect(word({ remainingMs: 349, usualMs: 300, pushback: 50 })).toBe("RETRY_INFEASIBLE");
    expect(word({ remainingMs: 350, usualMs: 300, pushback: 50 })).toBe(50);
    expect(word({ remainingMs: 101, usualMs: undefined })).toBe(100);
    expect(word({ usualMs: 300 })).toBe(200);
  });

  it.each([
    ["the handler was not run", { handlerNotRun: true, code: statusCode.unavailable }],
    ["the call was shed", { handlerNotRun: true, code: statusCode.resourceExhausted, pushback: 9 }],
    ["the stream was refused", { origin: "refused" }],
  ] as const)("believes a peer once that %s, unless the method may run twice", (_what, said) => {
    const once = rules();
    expect(once.word({ ...said, idempotent: false })).toBeTypeOf("number");
    expect(once.word({ ...said, idempotent: false })).toBe("RETRY_ATTEMPTS_SPENT");
    const often = rules();
    expect(often.word({ ...said, idempotent: true })).toBeTypeOf("number");
    expect(often.word({ ...said, idempotent: true })).toBeTypeOf("number");
    // What never left this process is no word of the peer's.
    expect(once.word({ origin: "never-sent", idempotent: false })).toBeTypeOf("number");
  });

  it("names what can never be retried before what could have been", () => {
    const { word } = rules({ maxAttempts: 1 });
    const never = { origin: "caller", attempts: 1, replayable: false, remainingMs: 0 } as const;
    expect(word(never)).toBe("RETRY_NOT_ELIGIBLE");
  });
});

describe("how long is waited before the next attempt", () => {
  it("follows the backoff", () => {
    const { word } = rules();
    expect([word(), word(), word(), word()]).toEqual([100, 200, 400, 800]);
  });

  it("is exactly what the server asks, and the backoff starts anew after it", () => {
    const { word } = rules();
    expect([word(), word(), word({ pushback: 7 }), word(), word()]).toEqual([
      100, 200, 7, 100, 200,
    ]);
  });

  it("is nothing when the server asks for none", () => {
    const { word } = rules();
    expect(word({ pushback: 0 })).toBe(0);
  });

  it("is no shorter than RetryInfo says, and no shorter than the backoff", () => {
    const { word } = rules();
    expect(word({ retryInfoMs: 350 })).toBe(350);
    expect(word({ retryInfoMs: 150 })).toBe(200);
    expect(word({ retryInfoMs: 150 })).toBe(400);
  });

  it("is nothing where the backoff says so", () => {
    const { word } = rules({ backoff: { baseMs: 0, jitter: "none" } });
    expect([word(), word()]).toEqual([0, 0]);
  });

  it("goes by pushback where both are said", () => {
    const { word } = rules();
    expect(word({ pushback: 5, retryInfoMs: 900 })).toBe(5);
  });

  it("starts decorrelated jitter anew after pushback too", () => {
    const { word } = rules({ backoff: { baseMs: 100, maxMs: 10_000, jitter: "decorrelated" } });
    // base + half of (3 * previous - base), where the first previous is the base.
    const [first, second] = [word(), word()];
    expect([first, second]).toEqual([200, 350]);
    expect([word({ pushback: 1 }), word(), word()]).toEqual([1, first, second]);
  });

  it("is the call's own: two calls do not share a sequence", () => {
    const [one, other] = [rules(), rules()];
    expect([one.word(), one.word(), other.word()]).toEqual([100, 200, 100]);
  });
});

describe("a server that says at once, again and again", () => {
  it("is asked at once the first time, and left alone for longer each time after that", () => {
    const { decide } = rules({ idempotent: true });
    const waits: number[] = [];
    for (let attempts = 1; attempts < 10; attempts += 1) {
      const decision = decide({ pushback: 0, attempts });
      if (decision.kind === "retry") waits.push(decision.delayMs);
    }
    expect(waits).toEqual([0, 7.5, 15, 30, 60, 120, 187.5, 187.5, 187.5]);
  });

  it.each([
    [300, [300, 300, 300]],
    [10, [10, 10, 10]],
    [9, [9, 9, 15]],
  ])("is kept to the word when it names a wait that is one: of %i ms", (pushback, waits) => {
    const { word } = rules({ idempotent: true });
    expect([1, 2, 3].map((attempts) => word({ pushback, attempts }))).toEqual(waits);
  });
});

describe("the words for why no attempt follows", () => {
  it.each([
    ["RETRY_ATTEMPTS_SPENT", { attempts: 3 }, "all 3 attempts are spent"],
    ["RETRY_ATTEMPTS_SPENT", { attempts: 1 }, "1 attempt is all there is"],
    [
      "RETRY_PAST_DEADLINE",
      { remainingMs: 40.4 },
      "the wait is longer than the 40 ms that are left",
    ],
    [
      "RETRY_INFEASIBLE",
      { remainingMs: 40.4, usualMs: 90.1 },
      "40 ms are left, and such calls take 90 ms",
    ],
    ["RETRY_WAIT_TOO_LONG", { pushback: 300_001 }, "the server asked for a wait of 300001 ms"],
    ["RETRY_WAIT_TOO_LONG", { retryInfoMs: 300_001 }, "the server asked for a wait of 300001 ms"],
    ["RETRY_PUSHBACK_STOP", {}, "the server asked not to be retried"],
    ["RETRY_COMMITTED", {}, "the response has begun, or the request is kept no longer"],
    ["RETRY_EXHAUSTED_BELOW", {}, "a service below has given up retrying"],
    ["RETRY_DEPTH", {}, "a service above retries already"],
    ["CLOSED", {}, "the client was closed"],
  ] as const)("%s of %o", (reason, failed, words) => {
    expect(stopText(reason, { ...unavailable, ...failed })).toBe(words);
    expect(notAfter("UNAVAILABLE (remote)", words)).toBe(
      `none after UNAVAILABLE (remote): ${words}`,
    );
  });

  it("are none where the reason code says all", () => {
    expect(stopText("BREAKER_OPEN", unavailable)).toBeUndefined();
    expect(notAfter("UNAVAILABLE (remote)", undefined)).toBe("none after UNAVAILABLE (remote)");
  });
});
