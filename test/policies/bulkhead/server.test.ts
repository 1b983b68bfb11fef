import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { ServerPolicy } from "../../../src/pipeline/server.js";
import type { ServerBulkheadOptions } from "../../../src/policies/bulkhead/server.js";
import { handlers, kinds, type Method, scene } from "../../scene.js";

const tenant = (name: string) => {
  const metadata = new Metadata();
  metadata.set("x-tenant", name);
  return metadata;
};
const tenantOf: ServerBulkheadOptions["partition"] = ({ metadata }) =>
  String(metadata.get("x-tenant")[0] ?? "");

/** A server whose handlers take 100 ms. */
async function served(bulkhead: NonNullable<ServerPolicy["bulkhead"]>) {
  const errors: unknown[] = [];
  const made = await scene({
    client: { retry: false, breaker: false },
    server: { bulkhead },
    handlers: handlers((_call, answer) => void made.clock.schedule(100, answer)),
    onError: (error) => errors.push(error),
  });
  const codes = async (calls: readonly (readonly [string, Method?])[]) => {
    const running = calls.map(([name, method = "unary"]) => made.start(method, {}, tenant(name)));
    const ended = await made.link.until(Promise.all(running.map(({ ended: end }) => end)), 1e9);
    return ended.map(({ code }) => (code === Status.OK ? "ok" : "no")).join(" ");
  };
  const snapshot = () => {
    const [numbers] = made.weir.snapshot().policies.bulkhead?.instances.slice(-1) ?? [];
    return numbers?.bulkheads ?? {};
  };
  return { ...made, codes, errors, snapshot };
}

describe.each(kinds)("a server's bulkhead, with %s calls", (kind) => {
  it("keeps a tenant's share free for it, lends what is not used, and gives everything back", async () => {
    const { codes, snapshot, clock } = await served({
      maxConcurrent: 4,
      maxQueued: 0,
      partitions: { acme: { share: 0.5, maxShare: 0.75 } },
      partition: tenantOf,
    });
    // Others may take half of it; of what is acme's own they may borrow all while it wants none.
    expect(
      await codes([
        ["x", kind],
        ["x", kind],
        ["x", kind],
        ["x", kind],
        ["x", kind],
      ]),
    ).toBe("ok ok ok ok no");
    expect(
      await codes([
        ["acme", kind],
        ["acme", kind],
        ["acme", kind],
        ["acme", kind],
        ["x", kind],
        ["x", kind],
      ]),
    ).toBe("ok ok ok no ok no");
    expect(Object.values(snapshot())[0]).toMatchObject({ running: 0, queued: 0, refused: 3 });
    expect(clock.pending.refs).toBe(0);
  });
});

describe("a server's bulkhead", () => {
  it("refuses before the handler, with pushback, and clients may send any method again", async () => {
    const made = await scene({
      client: { breaker: false, retry: { maxAttempts: 3 } },
      server: { bulkhead: { maxConcurrent: 1, maxQueued: 0 } },
      handlers: handlers((_call, answer) => void made.clock.schedule(30, answer)),
    });
    const { start, link } = made;
    const [first, second] = await link.until(
      Promise.all([start("unary").ended, start("unary").ended]),
      1e9,
    );
    expect([first?.code, second?.code]).toEqual([Status.OK, Status.OK]);
    const refused = made.decisions.filter(
      ({ side, verdict }) => side === "server" && verdict === "reject",
    );
    expect(refused[0]).toMatchObject({ policy: "bulkhead", reason: "BULKHEAD_FULL" });
  });

  it("says when another try is worth it", async () => {
    const { start, link } = await served({ maxConcurrent: 1, maxQueued: 0 });
    const [, second] = await link.until(
      Promise.all([start("unary").ended, start("unary").ended]),
      1e9,
    );
    expect(rejectionOf(second?.error)).toMatchObject({ reason: "BULKHEAD_FULL", local: false });
    expect(Number(second?.trailers.get("grpc-retry-pushback-ms")[0])).toBeGreaterThan(0);
  });

  it("is one for each key; one tenant's queue is not another's", async () => {
    const { codes } = await served({ maxConcurrent: 1, maxQueued: 0, key: tenantOf });
    expect(await codes([["a"], ["b"], ["a"], ["c"]])).toBe("ok ok no ok");
  });

  it("tells keys apart that are longer than what is kept of them", async () => {
    const { codes } = await served({ maxConcurrent: 1, maxQueued: 0, key: tenantOf });
    const header = "eyJhbGciOiJSUzI1NiJ9".repeat(20);
    expect(await codes([[`${header}a`], [`${header}b`], [`${header}a`]])).toBe("ok ok no");
  });

  it("forgets tenants beyond maxKeys, and keeps little of keys that are too long", async () => {
    const { codes, snapshot } = await served({
      maxConcurrent: 1,
      maxQueued: 0,
      key: tenantOf,
      maxKeys: 2,
    });
    await codes([["a"], ["b"], ["c"], ["x".repeat(4_000)]]);
    const keys = Object.keys(snapshot());
    expect(keys).toHaveLength(2);
    expect(Math.max(...keys.map(({ length }) => length))).toBeLessThanOrEqual(256);
  });

  it("lets a call through whose functions throw, and reports them", async () => {
    const broken = (): never => {
      throw new Error("broken");
    };
    const { codes, errors } = await served({
      key: broken,
      weight: broken,
      partition: broken,
      partitions: { a: {} },
    });
    expect(await codes([["a"]])).toBe("ok");
    expect(errors).toHaveLength(3);
  });

  it("refuses nobody while it observes", async () => {
    const { codes, decisions } = await served({ maxConcurrent: 1, maxQueued: 0, mode: "observe" });
    expect(await codes([["a"], ["b"]])).toBe("ok ok");
    expect(decisions).toMatchObject([{ policy: "bulkhead", verdict: "reject", enforced: false }]);
  });

  it("refuses those who wait when the weir is closed", async () => {
    const { start, link, weir, clock } = await served({ maxConcurrent: 1, maxWaitMs: 10_000 });
    const calls = [start("unary"), start("unary")];
    await clock.pass(50);
    weir.close();
    const ended = await link.until(Promise.all(calls.map((call) => call.ended)), 1e9);
    expect(ended.map(({ code }) => code)).toEqual([Status.OK, Status.UNAVAILABLE]);
    // It says nothing of another try: there is none on this server.
    expect(ended[1]?.trailers.get("grpc-retry-pushback-ms")).toEqual([]);
  });
});

describe("options of a server's bulkhead", () => {
  it.each([
    ["server.bulkhead.key", { key: "tenant" }],
    ["server.bulkhead.maxKeys", { maxKeys: 0 }],
    ["server.bulkhead.partition", { partitions: { a: {} } }],
    ["server.bulkhead.partitions", { partition: String }],
    ["server.bulkhead.partitions.a.share", { partition: String, partitions: { a: { share: 2 } } }],
    ["server.bulkhead.weight", { weight: 2 }],
    ["server.bulkhead.limit", { limit: 5 }],
  ])("refuse nonsense and name %s", async (option, bulkhead) => {
    await expect(served(bulkhead as ServerBulkheadOptions)).rejects.toThrow(
      expect.objectContaining({ name: "InvalidOptionError", option }),
    );
  });
});
