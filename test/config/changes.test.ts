import { describe, expect, it } from "vitest";
import { changesBetween, changeText } from "../../src/config/changes.js";
import { read } from "./documents.js";

/** What one text changes of another, as people see it. */
function changed(before: string, after: string): string[] {
  return changesBetween(read(before, "old.yaml"), read(after, "new.yaml")).map(changeText);
}

describe("what a document changes", () => {
  it("is nothing where both say the same in other words", () => {
    const before = 'client:\n  retry: { maxAttempts: 4, codes: ["UNAVAILABLE"] }\n  breaker: {}';
    const after = '{ "client": { "breaker": {}, "retry": { "codes": [14], "maxAttempts": 4 } } }';

    expect(changed(before, after)).toEqual([]);
  });

  it("is told with the place, both values, and what it does", () => {
    const before = "client:\n  retry: { maxAttempts: 2 }\n  breaker: { open: 1s }";
    const after = "client:\n  retry: { maxAttempts: 4 }\n  breaker: { open: 0.5s }";

    expect(changed(before, after)).toEqual([
      "new.yaml:2 client.retry.maxAttempts: 2 → 4. Failed calls are tried more often, which is more load on a target that is ill",
      "new.yaml:3 client.breaker.openMs: 1000 → 500. An open breaker asks the target sooner",
    ]);
    expect(changed(after, before)).toEqual([
      "new.yaml:2 client.retry.maxAttempts: 4 → 2. Failed calls are tried less often",
      "new.yaml:3 client.breaker.openMs: 500 → 1000. An open breaker refuses for longer",
    ]);
  });

  it("is told once of a policy that came, went or is switched off", () => {
    const before =
      "client:\n  throttle: { k: 2, window: 5s }\n  retry: { maxAttempts: 2 }\n  breaker: {}";
    const after =
      "client:\n  retryOff: true\n  breaker: {}\n  rate: { ratePerSecond: 5, burst: 10 }";

    expect(changed(before, after)).toEqual([
      "new.yaml:2 client.retry: given → false. It is off",
      "new.yaml:4 client.rate: not given → given. It is stated here now",
      "old.yaml:2 client.throttle: given → not given. What a broader entry says holds, or else the default",
    ]);
    expect(changed(after, before)).toContain("new.yaml:3 client.retry: false → given. It is on");
  });

  it("says what the numbers of throttles, resets and pressure do", () => {
    const before =
      "client:\n  throttle: { minCalls: 5, passShare: 0.1 }\n  resets: { ratePerSecond: 5 }\nserver:\n  admission: { pressure: { maxRefusedShare: 0.9 } }";
    const after = before
      .replace("minCalls: 5", "minCalls: 50")
      .replace("passShare: 0.1", "passShare: 0.01")
      .replace("ratePerSecond: 5", "ratePerSecond: 26")
      .replace("maxRefusedShare: 0.9", "maxRefusedShare: 0.5");

    expect(changed(before, after)).toEqual([
      "new.yaml:2 client.throttle.minCalls: 5 → 50. The policy waits for more calls before it acts",
      "new.yaml:2 client.throttle.passShare: 0.1 → 0.01. Fewer calls go on that the policy would refuse",
      "new.yaml:3 client.resets.ratePerSecond: 5 → 26. More attempts that were given up are cancelled at once",
      "new.yaml:5 server.admission.pressure.maxRefusedShare: 0.9 → 0.5. Fewer of the calls may be refused",
    ]);
  });

  it("is told of methods, servers and guards", () => {
    const before =
      "methods:\n  - name: a.B/Get\n    retry: { idempotent: true }\nserver:\n  admission: { limit: 10, mode: observe }\nguards:\n  - name: db\n    bulkhead: { maxConcurrent: 10 }";
    const after = before
      .replace("true", "false")
      .replace("limit: 10, mode: observe", "limit: 20")
      .replace("maxConcurrent: 10", "maxConcurrent: 5");

    expect(changed(before, after)).toEqual([
      'new.yaml:3 client.methods["a.B/Get"].retry.idempotent: true → false. It is not said that it may run twice: only attempts that no handler has seen are retried',
      "new.yaml:5 server.admission.limit: 10 → 20. More calls run at once",
      'new.yaml:8 guard("db").bulkhead.maxConcurrent: 10 → 5. Fewer calls run at once: the others wait or are refused',
      "old.yaml:5 server.admission.mode: observe → not given. It acts on calls",
    ]);
  });

  it("of other options says the values alone", () => {
    expect(
      changed(
        "client: { retry: { backoff: { jitter: full } } }",
        "client: { retry: { backoff: { jitter: equal } } }",
      ),
    ).toEqual(["new.yaml:1 client.retry.backoff.jitter: full → equal"]);
  });
});
