import { describe, expect, it, vi } from "vitest";
import { environmentOf } from "../../src/grpc/environment.js";
import { ClientPolicies, type ClientPolicy } from "../../src/pipeline/client.js";

const policiesOf = (policy: ClientPolicy) => new ClientPolicies(policy, environmentOf({}, "test"));

const first = "/shop.v1.Orders/Get";
const second = "/shop.v1.Orders/List";
const elsewhere = "/shop.v1.Stock/Get";

describe("the policies of a method", () => {
  it("have the options of the client where the method has none of its own", () => {
    const policies = policiesOf({
      deadline: { defaultMs: 500 },
      timeouts: { attemptMs: 100 },
      waitForReady: true,
      methods: { "shop.v1.Orders/Get": { retry: { maxAttempts: 2 } } },
    });
    expect(policies.for(first)).toMatchObject({
      deadline: { defaultMs: 500 },
      timeouts: { attemptMs: 100 },
      waitForReady: true,
    });
  });

  it("are laid over those of the client option by option", () => {
    const policies = policiesOf({
      deadline: { defaultMs: 500, marginMs: 20 },
      retry: { maxAttempts: 5, maxDepth: 3 },
      methods: { "shop.v1.Orders/Get": { deadline: { marginMs: 1 }, retry: { maxAttempts: 2 } } },
    });
    expect(policies.for(first).deadline).toMatchObject({ defaultMs: 500, marginMs: 1 });
    expect(policies.for(first).retry?.options).toMatchObject({ maxAttempts: 2, maxDepth: 3 });
    expect(policies.for(second).retry?.options).toMatchObject({ maxAttempts: 5, maxDepth: 3 });
  });

  it("begin with those of its service, in whatever order the two are written", () => {
    const policies = policiesOf({
      retry: { maxAttempts: 5 },
      methods: {
        "shop.v1.Orders/Get": { deadline: { defaultMs: 100 } },
        "shop.v1.Orders": { retry: { maxAttempts: 2 } },
      },
    });
    expect(policies.for(first).retry?.options.maxAttempts).toBe(2);
    expect(policies.for(second).retry?.options.maxAttempts).toBe(2);
    expect(policies.for(elsewhere).retry?.options.maxAttempts).toBe(5);
  });

  it("share the state of the service, and of the client, where they name no policy of their own", () => {
    const policies = policiesOf({
      bulkhead: { maxConcurrent: 10 },
      methods: {
        "shop.v1.Orders": { breaker: { minCalls: 5 } },
        "shop.v1.Orders/Get": { deadline: { defaultMs: 100 } },
      },
    });
    expect(policies.for(first).breaker).toBe(policies.for(second).breaker);
    expect(policies.for(first).breaker).not.toBe(policies.for(elsewhere).breaker);
    expect(policies.for(first).bulkhead).toBe(policies.for(elsewhere).bulkhead);
  });

  it("are compiled once for all methods that have the same", () => {
    const policies = policiesOf({
      methods: { "shop.v1.Orders": { deadline: { defaultMs: 100 } } },
    });
    const compile = vi.fn(({ deadline }) => ({ defaultMs: deadline.defaultMs }));
    const compiled = policies.compiled(compile);
    expect(compiled(first)).toEqual({ defaultMs: 100 });
    expect(compiled(elsewhere)).toEqual({ defaultMs: undefined });
    expect(compiled(second)).toBe(compiled(first));
    expect(compiled("/shop.v1.Other/Get")).toBe(compiled(elsewhere));
    expect(compile).toHaveBeenCalledTimes(2);
  });
});
