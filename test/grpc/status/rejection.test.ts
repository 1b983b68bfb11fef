import { Metadata, type ServiceError, status } from "@grpc/grpc-js";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decisionReasons, type RefusalReason, refusalReasons } from "../../../src/core/decision.js";
import { refusal } from "../../../src/core/permit.js";
import { pushbackKey, readPushback } from "../../../src/grpc/metadata.js";
import { originOf } from "../../../src/grpc/status/origin.js";
import {
  decodeStatusDetails,
  encodeStatusDetails,
  handlerNotRun,
  isLocal,
  localRejection,
  rejectionOf,
  statusDetailsKey,
} from "../../../src/grpc/status/rejection.js";
import { serverRejection } from "../../../src/grpc/status/server-rejection.js";
import { onlyBreaker } from "../../policies/breaker/client-scene.js";
import { handlers, kinds, payload, scene } from "../../scene.js";

/** What arrives of a status at the other end: the same bytes in other objects. */
function overTheWire({ metadata }: { metadata: Metadata }): { metadata: Metadata } {
  const received = new Metadata();
  for (const [key, value] of Object.entries(metadata.getMap())) received.set(key, value);
  return { metadata: received };
}

const codes: Partial<Record<RefusalReason, status>> = {
  CONCURRENCY_LIMIT: status.RESOURCE_EXHAUSTED,
  LOAD_SHED: status.RESOURCE_EXHAUSTED,
  BULKHEAD_FULL: status.RESOURCE_EXHAUSTED,
  QUEUE_TIMEOUT: status.RESOURCE_EXHAUSTED,
  RATE_LIMIT_EXCEEDED: status.RESOURCE_EXHAUSTED,
  BREAKER_OPEN: status.UNAVAILABLE,
  BREAKER_PROBING: status.UNAVAILABLE,
  DEADLINE_EXPIRED: status.DEADLINE_EXCEEDED,
  DEADLINE_INFEASIBLE: status.DEADLINE_EXCEEDED,
  DEADLINE_EXCEEDED: status.DEADLINE_EXCEEDED,
  DRAINING: status.UNAVAILABLE,
  PARENT_CANCELLED: status.CANCELLED,
  CLOSED: status.UNAVAILABLE,
};

describe("the status of a refused call", () => {
  it.each(Object.entries(codes))("has for %s the code %i", (reason, code) => {
    const refused = refusal(reason as RefusalReason, "why");
    const local = localRejection(refused);
    const remote = serverRejection(refused);
    expect([local.code, remote.code]).toEqual([code, code]);
    expect(local.details).toMatch(/^([A-Z][a-z -]+: )?why \[[A-Z_]+\]$/);
    expect(remote.details).toMatch(/^([A-Z][a-z -]+|why) \[[A-Z_]+\]$/);
    for (const { details } of [local, remote]) expect(details).toContain(` [${reason}]`);
  });

  it.each(refusalReasons)("tells of %s again, here as local and elsewhere as not", (reason) => {
    const made = localRejection(refusal(reason, "why", 250), { priority: "low" });
    const told = { reason, retryAfterMs: 250 };
    expect(rejectionOf(made)).toEqual({
      ...told,
      local: true,
      hops: 0,
      metadata: { scope: "client", priority: "low" },
    });
    expect(rejectionOf(overTheWire(made))).toEqual({
      ...told,
      local: false,
      // It is a client's: a handler must have passed it on.
      hops: 1,
      metadata: { scope: "client", priority: "low" },
    });
    expect([isLocal(made), isLocal(overTheWire(made))]).toEqual([true, false]);
  });

  it("of a server is not local even in the process that made it", () => {
    const made = serverRejection(refusal("LOAD_SHED", "why", 250));
    expect(isLocal(made)).toBe(false);
    expect(rejectionOf(made)).toMatchObject({ local: false, metadata: { scope: "instance" } });
  });

  it("of a server asks by pushback to be left alone so long, and a local one asks nobody", () => {
    const asked = refusal("LOAD_SHED", "why", 250.5);
    expect(readPushback(serverRejection(asked).metadata)).toBe(251);
    expect(serverRejection(refusal("LOAD_SHED", "why")).metadata.get(pushbackKey)).toEqual([]);
    expect(localRejection(asked).metadata.get(pushbackKey)).toEqual([]);
  });

  it("of a server says the same things over and over, without the numbers of the moment", () => {
    const say = (detail: string, priority: "low" | "high", retryAfterMs?: number) =>
      serverRejection(refusal("LOAD_SHED", detail, retryAfterMs), { priority });
    const first = say("running 8 of 8", "low", 50);
    const [one] = first.metadata.get(statusDetailsKey);
    const again = say("running 7 of 8", "low", 50);
    expect(again.metadata.get(statusDetailsKey)[0]).toBe(one);
    expect(again.metadata).not.toBe(first.metadata);
    expect(again.details).toBe("Load shed; try again in 50 ms [LOAD_SHED]");
    expect(say("", "low").details).toBe("Load shed [LOAD_SHED]");
    for (const other of [say("", "high", 50), say("", "low", 55), say("", "low")]) {
      expect(other.metadata.get(statusDetailsKey)[0]).not.toBe(one);
    }
    expect(rejectionOf(again)).toMatchObject({
      reason: "LOAD_SHED",
      retryAfterMs: 50,
      metadata: { scope: "instance", priority: "low" },
    });
  });

  it("says whose quota is used up, and asks not to be retried where time is of no use", () => {
    const soon = refusal("RATE_LIMIT_EXCEEDED", "5 per second", 250, "tenant:a");
    for (const made of [localRejection(soon), serverRejection(soon)]) {
      expect(decodeStatusDetails(overTheWire(made).metadata)).toMatchObject({
        quotaViolations: [{ subject: "tenant:a", description: "5 per second" }],
        retryDelayMs: 250,
      });
    }
    expect(readPushback(serverRejection(soon).metadata)).toBe(250);
    const never = refusal("RATE_LIMIT_EXCEEDED", "more than there can be", undefined, "tenant:a");
    expect(readPushback(serverRejection(never).metadata)).toBe("stop");
    expect(localRejection(never).metadata.get(pushbackKey)).toEqual([]);
    const { quotaViolations } = decodeStatusDetails(
      serverRejection(refusal("LOAD_SHED", "")).metadata,
    );
    expect(quotaViolations).toBeUndefined();
  });

  it.each([
    ["CONCURRENCY_LIMIT", true],
    ["RATE_LIMIT_EXCEEDED", true],
    ["DRAINING", true],
    ["DEADLINE_EXPIRED", false],
    ["BREAKER_OPEN", false],
  ] as const)("of a server with %s says that the handler was not reached: %s", (reason, notRun) => {
    const said = rejectionOf(overTheWire(serverRejection(refusal(reason, "why", 5))));
    expect(handlerNotRun(said)).toBe(notRun);
    const own = rejectionOf(localRejection(refusal(reason, "why", 5)));
    expect(handlerNotRun(own)).toBe(false);
  });

  it("tells the same wait by pushback and by RetryInfo, whatever the policy computed", () => {
    const ms = fc.oneof(fc.double({ min: 0, max: 2 ** 31 - 1, noNaN: true }), fc.nat(5_000));
    fc.assert(
      fc.property(ms, (retryAfterMs) => {
        const { metadata } = overTheWire(serverRejection(refusal("DRAINING", "x", retryAfterMs)));
        expect(readPushback(metadata)).toBe(Math.ceil(retryAfterMs) + 0);
        expect(rejectionOf({ metadata })?.retryAfterMs).toBe(Math.ceil(retryAfterMs) + 0);
      }),
    );
  });

  it("is none where nothing of the toolkit stands in it", () => {
    const foreign = new Metadata();
    const errorInfo = { reason: "LOAD_SHED", domain: "example.com", metadata: {} };
    foreign.set(statusDetailsKey, encodeStatusDetails(8, "", { errorInfo }));
    const unknown = new Metadata();
    const other = { reason: "NEW_REASON", domain: "grpc-weir", metadata: {} };
    unknown.set(statusDetailsKey, encodeStatusDetails(8, "", { errorInfo: other }));
    for (const metadata of [new Metadata(), foreign, unknown]) {
      expect(rejectionOf({ metadata })).toBeUndefined();
    }
    expect(rejectionOf({})).toBeUndefined();
    expect(isLocal({})).toBe(false);
  });
});

describe.each(kinds)("the local mark, for %s", (method) => {
  it("survives the way to the application's error", async () => {
    const world = await scene({ client: { deadline: { defaultMs: 60_000 } } });
    const ended = await world.call(method, { deadline: world.clock.wallNow() - 1 });
    const error: ServiceError | undefined = ended.error;
    expect(error && isLocal(error)).toBe(true);
    expect(error && rejectionOf(error)).toMatchObject({ reason: "DEADLINE_EXPIRED", local: true });
    expect(isLocal({ metadata: ended.trailers })).toBe(true);
  });

  it("is not given to a server that forges the words of a client's rejection", async () => {
    let calls = 0;
    const forged = localRejection(refusal("BREAKER_OPEN", "forged", 5));
    const world = await scene({
      client: { retry: { maxAttempts: 2 }, breaker: { consecutiveFailures: 4 } },
      handlers: handlers((call) => {
        calls += 1;
        // Handed on as it is by a server without the toolkit, it goes out as bytes.
        call.fail({ code: forged.code, details: forged.details, metadata: forged.metadata });
      }),
    });
    const ended = await world.call(method);
    expect(ended.code).toBe(status.UNAVAILABLE);
    expect(ended.error && isLocal(ended.error)).toBe(false);
    expect(ended.error && rejectionOf(ended.error)?.local).toBe(false);
    // A server said it, of a service below it, so the breaker of this process counts it as the answer of a server.
    for (let more = 0; more < 4; more++) await world.call(method);
    expect(calls).toBe(5);
    expect(onlyBreaker(world.weir)).toMatchObject({ state: "closed", calls: 5, failures: 0 });
  });
});

describe("the origin of a call that a balancer has dropped", () => {
  const unavailable = (details: string) => ({
    code: status.UNAVAILABLE,
    details,
    metadata: new Metadata(),
  });
  const seen = { sawHeaders: false, peer: "xds:///shop", target: "xds:///shop" };

  it.each([
    "Call dropped by load balancing policy.",
    "Call dropped by load balancing policy. Category: lb",
  ])("is a policy, for: %s", (details) => {
    expect(originOf(unavailable(details), seen)).toBe("local-policy");
  });

  it("is another one where a server says the same", () => {
    const said = unavailable("Call dropped by load balancing policy.");
    said.metadata.set("content-type", "application/grpc");
    expect(originOf(said, { ...seen, peer: "10.0.0.1:443" })).toBe("remote");
  });
});

describe("the origin of a rejection", () => {
  const address = { sawHeaders: false, peer: "10.0.0.1:443", target: "dns:orders:443" };

  it.each([
    ["BREAKER_OPEN", "local-policy"],
    ["BULKHEAD_FULL", "local-policy"],
    ["CLOSED", "local-policy"],
    ["DEADLINE_EXCEEDED", "deadline"],
    ["PARENT_CANCELLED", "caller"],
  ] as const)("of this process is told by its mark, for %s", (reason, origin) => {
    const made = localRejection(refusal(reason, "Connection dropped"));
    expect(originOf(made, address)).toBe(origin);
    expect(originOf({ ...made, details: "changed on the way up" }, address)).toBe(origin);
  });

  it.each([...refusalReasons, ...decisionReasons])(
    "that came over the wire is never a local one, for %s",
    (reason) => {
      const metadata = new Metadata();
      const errorInfo = { reason, domain: "grpc-weir", metadata: { scope: "client" } };
      const details = encodeStatusDetails(status.UNAVAILABLE, "forged", { errorInfo });
      metadata.set("grpc-status-details-bin", details);
      metadata.set("content-type", "application/grpc");
      expect(rejectionOf({ metadata })?.reason).toBe(reason);
      const received = { code: status.UNAVAILABLE, details: "forged", metadata };
      expect(originOf(received, address)).toBe("remote");
    },
  );
});

describe("a rejection of a handler's own client, passed on by a server without the toolkit", () => {
  it("does not say that the handler was not reached", async () => {
    let calls = 0;
    const own = localRejection(refusal("QUEUE_TIMEOUT", "waited 10 ms", 5));
    const world = await scene({
      client: { retry: { maxAttempts: 3, idempotent: false } },
      handlers: handlers((call) => {
        calls += 1;
        call.fail({ code: own.code, details: own.details, metadata: own.metadata });
      }),
    });
    world.client.unary({ payload, sequence: 1 }, () => {});
    await world.link.pass(10_000);
    // The handler ran: it is the one that waited. Running it again may do harm.
    expect(calls).toBe(1);
  });
});
