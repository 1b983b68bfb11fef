import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { ConformanceServiceServer } from "../../src/gen/weir/v1/conformance.js";
import { InboundCall, runInbound } from "../../src/grpc/context/inbound-call.js";
import type { ClientPolicy } from "../../src/pipeline/client.js";
import { echo, path, payload, scene } from "../scene.js";

const single = ["unary", "clientStream"] as const;
const answerAfterMs = 1_000;

/** Handlers that send headers at once, and an end a second later. */
function begun(clock: () => { schedule(ms: number, task: () => void): unknown }, fails: boolean) {
  const end = (task: () => void) => void clock().schedule(answerAfterMs, task);
  const failure = { code: Status.UNAVAILABLE, details: "not now" };
  let calls = 0;
  const handlers: ConformanceServiceServer = {
    ...echo,
    unary(call, callback) {
      calls += 1;
      call.sendMetadata(new Metadata());
      end(() => (fails ? callback(failure) : callback(null, call.request)));
    },
    clientStream(call, callback) {
      calls += 1;
      call.sendMetadata(new Metadata());
      call.resume();
      end(() => (fails ? callback(failure) : callback(null, { payload, sequences: [] })));
    },
  };
  return { handlers, calls: () => calls };
}

/** What the caller of a call hears, when, while so many services above retry what it is made for. */
async function timesOf(
  kind: (typeof single)[number],
  client: ClientPolicy,
  fails = false,
  retryDepth = 0,
) {
  const server = begun(() => made.clock, fails);
  const made = await scene({ client, handlers: server.handlers });
  const { clock, client: stub, link } = made;
  const beganMs = clock.now();
  const heard: string[] = [];
  let ended = () => {};
  const end = new Promise<void>((resolve) => {
    ended = resolve;
  });
  const note = (what: string) => heard.push(`${what} at ${Math.round(clock.now() - beganMs)} ms`);
  const inbound = new InboundCall({
    method: path.unary,
    kind: "unary",
    caller: { getPeer: () => "above", getAuthContext: () => ({}) },
    clock,
    report: () => {},
    startedAtMs: beganMs,
    deadlineMs: Number.POSITIVE_INFINITY,
  });
  inbound.metadata = new Metadata();
  inbound.metadata.set("x-weir-retry-depth", String(retryDepth));
  const call = runInbound(inbound, () =>
    kind === "unary" ? stub.unary({ payload, sequence: 1 }, () => {}) : stub.clientStream(() => {}),
  );
  call.on("metadata", () => note("headers"));
  call.on("status", ({ code }: { code: Status }) => {
    note(Status[code]);
    ended();
  });
  if ("end" in call && typeof call.end === "function") call.end();
  await link.until(end, 1e6);
  return { heard, calls: server.calls(), decisions: made.decisions };
}

describe.each(single)("the headers of a %s", (kind) => {
  it.each([
    ["where nobody has said that the method is idempotent", {}],
    ["of a method that is not idempotent", { retry: { idempotent: false } }],
    ["without a second attempt", { retry: { idempotent: true, maxAttempts: 1 } }],
    ["while retries are observed", { retry: { idempotent: true, mode: "observe" } }],
    ["without retries", { retry: false }],
  ] as const)("are shown at once %s", async (_where, client) => {
    const { heard } = await timesOf(kind, client);
    expect(heard).toEqual(["headers at 0 ms", "OK at 1000 ms"]);
  });

  it("are shown at once while a service above retries, for then nothing is retried here", async () => {
    const client = { retry: { idempotent: true } };
    const { heard } = await timesOf(kind, client, false, 1);
    expect(heard).toEqual(["headers at 0 ms", "OK at 1000 ms"]);
    const deeper = { retry: { idempotent: true, maxDepth: 2 } };
    expect((await timesOf(kind, deeper, false, 1)).heard[0]).toBe("headers at 1000 ms");
  });

  it("wait where a failure behind them can be retried", async () => {
    const { heard } = await timesOf(kind, { retry: { idempotent: true } });
    expect(heard).toEqual(["headers at 1000 ms", "OK at 1000 ms"]);
    const failed = await timesOf(kind, { retry: { idempotent: true, maxAttempts: 3 } }, true);
    expect(failed.calls).toBe(3);
    // Those of the last attempt, behind which nothing is left, do not.
    expect(failed.heard.map((event) => event.split(" ")[0])).toEqual(["headers", "UNAVAILABLE"]);
    expect(failed.heard[0]).not.toBe(failed.heard[1]?.replace("UNAVAILABLE", "headers"));
  });

  it("make a failure behind them the end where they were shown", async () => {
    const { heard, calls } = await timesOf(kind, {}, true);
    expect(heard).toEqual(["headers at 0 ms", "UNAVAILABLE at 1000 ms"]);
    expect(calls).toBe(1);
  });

  it("leave it to the report what observed retries would have done behind them", async () => {
    const client = { retry: { idempotent: true, mode: "observe" } } as const;
    const { heard, decisions } = await timesOf(kind, client, true);
    expect(heard).toEqual(["headers at 0 ms", "UNAVAILABLE at 1000 ms"]);
    expect(decisions).toMatchObject([{ policy: "retry", verdict: "retry", enforced: false }]);
  });
});
