import { constants } from "node:http2";
import { Metadata, status as Status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import type { DecisionEvent } from "../../../src/core/decision.js";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import { createWeir } from "../../../src/weir.js";
import { kinds, startCall } from "../../scene.js";
import { answer, RawPeer, type RawStream } from "../grpc-js/raw-peer.js";
import { closeAll, connect } from "./a6-scene.js";

const peers: RawPeer[] = [];

afterEach(async () => {
  closeAll();
  await Promise.all(peers.splice(0).map((peer) => peer.close()));
});

const policy = {
  breaker: false,
  // Methods that must not run twice: only what the server has not begun with may be sent again.
  retry: {
    idempotent: false,
    maxAttempts: 2,
    backoff: { baseMs: 20, maxMs: 20, jitter: "none" },
    budget: { ratio: false, maxTokens: 10, tokenRatio: 0.5 },
  },
} as const satisfies ClientPolicy;

/** A peer that refuses so many streams and answers the others, and a client of a weir. */
async function refusing(streams: number, own: Record<string, number> = {}) {
  const previous: unknown[] = [];
  const peer = await RawPeer.listen((raw: RawStream) => {
    previous.push(raw.headers["grpc-previous-rpc-attempts"]);
    if (previous.length <= streams) raw.stream.close(constants.NGHTTP2_REFUSED_STREAM);
    else {
      raw.stream.resume();
      answer(raw, [Buffer.alloc(0)], { "grpc-status": "0" });
    }
  });
  peers.push(peer);
  const decisions: DecisionEvent[] = [];
  const reports: unknown[] = [];
  const weir = createWeir({
    onDecision: (decision) => decisions.push(decision),
    onError: (error) => reports.push(error),
  });
  const client = connect(weir, policy, peer.address, own);
  return { weir, client, decisions, reports, previous };
}

function tokensLeft(weir: { snapshot(): unknown }): unknown {
  return /"left":([\d.]+)/.exec(JSON.stringify(weir.snapshot()))?.[1];
}

describe.each(kinds)("%s", (method) => {
  it("goes through below the policy when the server refuses its stream once", async () => {
    const { weir, client, decisions, previous } = await refusing(1);
    const { code } = await startCall(client, method, {}, new Metadata()).ended;
    expect(code).toBe(Status.OK);
    // Neither an attempt nor a failure: nothing is said of it, and the throttle is as full as before.
    expect(previous).toEqual([undefined, undefined]);
    expect(decisions).toEqual([]);
    expect(tokensLeft(weir)).toBe("10");
  });

  it("is the policy's when the server refuses it twice, and retried although it must not run twice", async () => {
    const { weir, client, decisions, previous } = await refusing(2);
    const { code } = await startCall(client, method, {}, new Metadata()).ended;
    expect(code).toBe(Status.OK);
    expect(previous).toEqual([undefined, undefined, "1"]);
    expect(decisions).toMatchObject([{ verdict: "retry", waitMs: 20 }]);
    expect(tokensLeft(weir)).toBe("9.5");
  });

  it("ends with the refusal when the attempts are spent, each of two streams", async () => {
    const { client, decisions, previous } = await refusing(99);
    const { code, details } = await startCall(client, method, {}, new Metadata()).ended;
    expect([code, details]).toEqual([Status.UNAVAILABLE, "Stream refused by server"]);
    expect(previous).toHaveLength(4);
    expect(decisions.at(-1)).toMatchObject({ reason: "RETRY_ATTEMPTS_SPENT" });
  });

  it("waits for a connection before it is retried when none can be made, and is counted", async () => {
    const peer = await RawPeer.listen(() => {});
    await peer.close();
    const decisions: DecisionEvent[] = [];
    const weir = createWeir({ onDecision: (decision) => decisions.push(decision) });
    const client = connect(weir, policy, peer.address);
    const { code } = await startCall(client, method, {}, new Metadata()).ended;
    expect(code).toBe(Status.UNAVAILABLE);
    expect(decisions.map(({ verdict, reason }) => reason ?? verdict)).toEqual([
      "retry",
      "RETRY_AWAITS_CONNECTION",
      "CONNECTION_TIMEOUT",
    ]);
    // The attempt that waited was not made.
    expect(tokensLeft(weir)).toBe("9");
  });
});

describe("the channel options of a client", () => {
  it("leave grpc.enable_retries alone and keep retry policies of the DNS away", () => {
    const options = createWeir().client(policy);
    expect(options).not.toHaveProperty(["grpc.enable_retries"]);
    expect(options["grpc.service_config_disable_resolution"]).toBe(1);
  });

  it("keep a grpc.enable_retries: 0 of the user's, which costs the transparent retry, and say so", async () => {
    const { client, reports, previous } = await refusing(1, { "grpc.enable_retries": 0 });
    expect(String(reports[0])).toContain("transparent retries");
    const { code } = await startCall(client, "unary", {}, new Metadata()).ended;
    // The policy makes up for it, at the price of an attempt.
    expect(code).toBe(Status.OK);
    expect(previous).toEqual([undefined, "1"]);
  });
});
