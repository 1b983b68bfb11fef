import { Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { refusal } from "../../../src/core/permit.js";
import type { StatusOrigin } from "../../../src/core/status.js";
import { type AttemptRecord, endAttempt } from "../../../src/grpc/context/call-record.js";
import { type EndedEvidence, Failure } from "../../../src/grpc/status/outcome.js";
import { localRejection, rejectionOf } from "../../../src/grpc/status/rejection.js";
import { relayed } from "../../../src/grpc/status/relay.js";
import { serverRejection } from "../../../src/grpc/status/server-rejection.js";

const failure = (status: StatusObject, origin: StatusOrigin = "remote") =>
  new Failure(status, origin, rejectionOf(status));

const failed = (code: Status, origin?: StatusOrigin, details = "") =>
  failure({ code, details, metadata: new Metadata() }, origin);

const outcomeOf = (code: Status, origin: StatusOrigin, seen?: EndedEvidence) =>
  failed(code, origin).outcome(seen);

const said = (code: Status, origin?: StatusOrigin, details?: string) =>
  failed(code, origin, details).ending();

const ended = (status: StatusObject) => failure(status).ending();

describe("how a finished attempt counts", () => {
  it.each([
    ["local-policy", "ignored"],
    ["local-limit", "ignored"],
    ["local-setup", "ignored"],
    ["caller", "ignored"],
    ["attempt-timeout", "failure"],
    ["never-sent", "failure"],
    ["refused", "failure"],
    ["transport", "failure"],
    ["remote", "failure"],
    ["deadline", "failure"],
  ] as const)("is for UNAVAILABLE of origin %s: %s", (origin, outcome) => {
    expect(outcomeOf(Status.UNAVAILABLE, origin)).toBe(outcome);
  });

  it("is a failure for a code that nobody knows", () => {
    expect(outcomeOf(99 as Status, "remote")).toBe("failure");
  });
});

describe("whether the other side did the work", () => {
  it.each([
    Status.UNKNOWN,
    Status.CANCELLED,
    Status.INVALID_ARGUMENT,
    Status.NOT_FOUND,
    Status.ABORTED,
    Status.INTERNAL,
    Status.DATA_LOSS,
    Status.UNIMPLEMENTED,
    Status.UNAUTHENTICATED,
  ])("it did, when it says %i", (code) => {
    expect(said(code).unserved).toBeUndefined();
  });

  it.each([
    [Status.RESOURCE_EXHAUSTED, "shed"],
    [Status.UNAVAILABLE, "unavailable"],
    [Status.DEADLINE_EXCEEDED, "unavailable"],
  ] as const)("it did not, when it says %i: %s", (code, unserved) => {
    expect(said(code).unserved).toBe(unserved);
  });

  it.each([
    "Received message larger than max (5000000 vs 4194304)",
    "grpc: received message larger than max (5000000 vs. 4194304)",
    "gRPC message exceeds maximum size 4194304: 5000000",
    "Received message exceeds the maximum configured message size.",
  ])("nothing is held against it for a message that is too large: %s", (details) => {
    expect(said(Status.RESOURCE_EXHAUSTED, "remote", details).unserved).toBeUndefined();
  });

  it.each(["Too many requests", "over quota", "queue is full, the maximum is 5"])(
    "it did not, when it says: %s",
    (details) => {
      expect(said(Status.RESOURCE_EXHAUSTED, "remote", details).unserved).toBe("shed");
    },
  );

  it.each(["never-sent", "refused", "transport", "deadline"] as const)(
    "it did not, when an attempt ends with UNAVAILABLE or out of time by %s",
    (origin) => {
      expect(said(Status.UNAVAILABLE, origin)).toMatchObject({ unserved: "unavailable" });
      expect(said(Status.DEADLINE_EXCEEDED, origin)).toMatchObject({ unserved: "unavailable" });
    },
  );

  it.each(["deadline", "never-sent", "transport", "remote", "refused"] as const)(
    "it did, for a stream that delivered and ended by %s",
    (origin) => {
      const stream = failed(Status.UNAVAILABLE, origin);
      expect(stream.ending({ delivered: true }).unserved).toBeUndefined();
      expect(stream.outcome({ delivered: true })).toBe("success");
    },
  );

  it.each(["deadline", "never-sent"] as const)(
    "it was not asked, when a connected channel chose no server: %s",
    (origin) => {
      const waited = failed(Status.UNAVAILABLE, origin);
      const seen = { neverLeft: true, connected: true };
      expect(waited.ending(seen).unserved).toBeUndefined();
      expect(waited.outcome(seen)).toBe("ignored");
    },
  );
});

describe("the event behind the end of an attempt", () => {
  const refused = "No connection established. Last error: Error: connect ECONNREFUSED 127.0.0.1:1";

  it("is what grpc-js tells of the last attempt to connect, which all calls hear", () => {
    expect(said(Status.UNAVAILABLE, "never-sent", refused).event).toBe(refused);
  });

  it("is the attempt to connect that goes on, when the call gave up first", () => {
    const late = failed(Status.DEADLINE_EXCEEDED, "deadline");
    expect(late.ending({ neverLeft: true }).event).toBe("connecting");
    expect(late.ending().event).toBeUndefined();
    const timedOut = localRejection(refusal("CONNECTION_TIMEOUT", ""));
    expect(failure(timedOut, "never-sent").ending().event).toBe("connecting");
  });

  it("is the end of the connection, for a call on it", () => {
    for (const text of ["Connection dropped", "read ECONNRESET"]) {
      expect(said(Status.UNAVAILABLE, "transport", text).connectionLost).toBe(true);
      expect(said(Status.UNAVAILABLE, "remote", text).connectionLost).toBeUndefined();
    }
    const ofStream = ["Received RST_STREAM with code 2 (Internal server error)", "503"];
    for (const text of ofStream) expect(said(14, "transport", text).connectionLost).toBe(false);
  });

  it("is none for an answer", () => {
    expect(said(Status.UNAVAILABLE, "remote", refused).event).toBeUndefined();
  });
});

describe("what is known of the other side", () => {
  it.each(["local-policy", "local-limit", "caller"] as const)(
    "nothing is known of it after an end by %s, whatever the code",
    (origin) => {
      for (const code of [Status.RESOURCE_EXHAUSTED, Status.UNAVAILABLE, Status.CANCELLED]) {
        expect(said(code, origin)).toEqual({ unserved: undefined });
      }
    },
  );

  it("it did not within the time of the attempt, whatever the code", () => {
    expect(said(Status.CANCELLED, "attempt-timeout")).toEqual({ unserved: "unavailable" });
  });

  it.each(["CONCURRENCY_LIMIT", "LOAD_SHED", "QUEUE_TIMEOUT", "DRAINING"] as const)(
    "it did not, when a server of ours refuses with %s",
    (reason) => {
      expect(ended(serverRejection(refusal(reason, ""))).unserved).toBe("shed");
    },
  );

  it("it did its part, when a service below it has refused", () => {
    const status = serverRejection(refusal("LOAD_SHED", "", 50));
    const copy = { ...status, metadata: status.metadata.clone() };
    const { metadata } = relayed(copy, { answeredByPolicy: false, failuresBelow: undefined });
    if (!(metadata instanceof Metadata)) throw new Error("no metadata");
    const passedOn = failure({ ...status, metadata });
    expect(passedOn.ending().unserved).toBeUndefined();
    // It has answered, which is a success of its own.
    expect(passedOn.outcome()).toBe("success");
  });
});

describe("when the other side wants to be asked again", () => {
  const pushedBack = (value: string) => {
    const metadata = new Metadata();
    metadata.set("grpc-retry-pushback-ms", value);
    return ended({ code: Status.UNAVAILABLE, details: "", metadata }).retryAfterMs;
  };

  it("is said by pushback", () => {
    expect(pushedBack("120")).toBe(120);
  });

  it.each(["-1", "soon"])("is not said by a pushback of %s", (value) => {
    expect(pushedBack(value)).toBeUndefined();
  });

  it("is said by a rejection of ours, and pushback goes before it", () => {
    const status = serverRejection(refusal("LOAD_SHED", "", 50));
    expect(ended(status).retryAfterMs).toBe(50);
    status.metadata.set("grpc-retry-pushback-ms", "70");
    expect(ended(status).retryAfterMs).toBe(70);
    status.metadata.remove("grpc-retry-pushback-ms");
    expect(ended(status).retryAfterMs).toBe(50);
    // RetryInfo of anybody counts as well.
    expect(new Failure(status, "remote", undefined).ending().retryAfterMs).toBe(50);
  });

  it("is believed of nobody but the server", () => {
    const status = serverRejection(refusal("LOAD_SHED", "", 50));
    for (const origin of ["transport", "caller", "attempt-timeout", "deadline"] as const) {
      expect(failure(status, origin).ending().retryAfterMs).toBeUndefined();
    }
  });
});

describe("the end of an attempt that several layers note", () => {
  const evidence = { sawHeaders: false, peer: "127.0.0.1:1", target: "dns:x" };
  const attempt = (): AttemptRecord => ({
    number: 1,
    previous: 0,
    cause: "first",
    startedAtMs: 0,
    delayMs: 0,
    untilMs: Number.POSITIVE_INFINITY,
  });
  const refused = { code: Status.UNAVAILABLE, details: "Stream refused by server" };

  it("is read by the first of them", () => {
    const status = { ...refused, metadata: new Metadata() };
    const noted = attempt();
    const innermost = endAttempt(noted, status, evidence, 1);
    expect(innermost).toMatchObject({ origin: "refused", status });
    // The next layer has seen headers, by which it would be another origin.
    expect(endAttempt(noted, status, { ...evidence, sawHeaders: true }, 2)).toBe(innermost);
    expect(noted.endedAtMs).toBe(1);
  });

  it("keeps its origin when an interceptor between them gives it another code", () => {
    const metadata = new Metadata();
    const noted = attempt();
    endAttempt(noted, { ...refused, metadata }, evidence, 1);
    const changed = { code: Status.INTERNAL, details: "changed", metadata };
    expect(endAttempt(noted, changed, evidence, 2)).toMatchObject({
      origin: "refused",
      code: Status.INTERNAL,
      status: changed,
    });
    // What the wire said stays what it was.
    expect(noted.failure?.status).toMatchObject(refused);
  });

  it("is none when an interceptor between them makes an answer of it", () => {
    const metadata = new Metadata();
    const noted = attempt();
    endAttempt(noted, { ...refused, metadata }, evidence, 1);
    const answered = { code: Status.OK, details: "", metadata };
    expect(endAttempt(noted, answered, evidence, 2)).toBeUndefined();
  });

  it("is read anew when an interceptor between them ends the attempt with a status of its own", () => {
    const noted = attempt();
    endAttempt(noted, { ...refused, metadata: new Metadata() }, evidence, 1);
    const own = localRejection(refusal("BREAKER_OPEN", ""));
    expect(endAttempt(noted, own, evidence, 2)).toMatchObject({ origin: "local-policy" });
    expect(noted.endedAtMs).toBe(2);
  });
});
