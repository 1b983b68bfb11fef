import { readFileSync } from "node:fs";
import { status } from "@grpc/grpc-js";
import { VirtualClock } from "grpc-weir/testing";
import { describe, expect, it } from "vitest";
import { packageVersion, processWide } from "../../src/core/process-wide.js";
import * as ambient from "../../src/grpc/context/ambient-priority.js";
import * as history from "../../src/grpc/context/history.js";
import * as inbound from "../../src/grpc/context/inbound-call.js";
import * as degraded from "../../src/grpc/status/degraded.js";
import * as rejections from "../../src/grpc/status/rejection.js";

const manifest: unknown = JSON.parse(
  readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
);

it("knows the version of the package", () => {
  expect(manifest).toMatchObject({ version: packageVersion });
});

it("makes one thing for a name, and another for another", () => {
  const one = processWide("test: one", () => ({ made: 1 }));
  expect(processWide("test: one", () => ({ made: 2 }))).toBe(one);
  expect(processWide("test: two", () => ({ made: 3 }))).toEqual({ made: 3 });
});

describe("two copies of the package", () => {
  it("see the call that the other serves", async () => {
    const second = await copyOf<typeof inbound>("context/inbound-call");
    const call = {} as Parameters<typeof inbound.runInbound>[0];
    expect(second.currentCall).not.toBe(inbound.currentCall);
    expect(inbound.runInbound(call, () => second.currentCall())).toBe(call);
  });

  it("see the priority that the other has set", async () => {
    const second = await copyOf<typeof ambient>("context/ambient-priority");
    expect(ambient.withPriority("high", () => second.ambientPriority())).toBe("high");
  });

  it("know the refusals of the other as local ones", async () => {
    const second = await copyOf<typeof rejections>("status/rejection");
    const refused = rejections.localRejection({
      kind: "refusal",
      reason: "BREAKER_OPEN",
      detail: "open",
    });
    expect(second.rejectionOf(refused)).toMatchObject({ local: true });
  });

  it("know the answers of the other's fallbacks", async () => {
    const second = await copyOf<typeof degraded>("status/degraded");
    const response = {};
    degraded.noteResponse(response, [{ source: "fallback", name: "static" }]);
    expect(second.degradationOf(response)).toHaveLength(1);
  });

  it("know the calls behind the failures of the other", async () => {
    const second = await copyOf<typeof history>("context/history");
    const failure = {};
    const facts = { code: status.INTERNAL } as history.EndedFacts;
    const kept = history.resolveHistoryOptions();
    new history.History(kept, undefined, new VirtualClock(), () => {}).ended(
      facts,
      undefined,
      failure,
    );
    expect(second.callOfFailure(failure)?.facts).toBe(facts);
  });
});

/** The module once more, as a second installation of the package would have it. */
async function copyOf<M>(path: string): Promise<M> {
  return (await import(/* @vite-ignore */ `../../src/grpc/${path}.js?again`)) as M;
}
