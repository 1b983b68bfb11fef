import { constants } from "node:http2";
import { Metadata, Server, status as Status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import type { DecisionEvent } from "../../../src/core/decision.js";
import { ConformanceServiceService } from "../../../src/gen/weir/v1/conformance.js";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import { createWeir } from "../../../src/weir.js";
import { handlers, kinds, startCall } from "../../scene.js";
import { closeAll, connect } from "../e2e/a6-scene.js";
import { listen } from "../e2e/listen.js";
import { answer, RawPeer } from "./raw-peer.js";

const peers: RawPeer[] = [];
const servers: Server[] = [];

afterEach(async () => {
  closeAll();
  for (const server of servers.splice(0)) server.forceShutdown();
  await Promise.all(peers.splice(0).map((peer) => peer.close()));
});

/** A server whose first attempts take long, and a client of a weir. */
async function slowFirst(policy: ClientPolicy, firstMs: number) {
  const server = new Server();
  servers.push(server);
  server.addService(
    ConformanceServiceService,
    handlers(({ metadata }, reply) => {
      if (metadata.get("grpc-previous-rpc-attempts").length > 0) reply();
      else setTimeout(reply, firstMs);
    }),
  );
  const port = await listen(server);
  const decisions: DecisionEvent[] = [];
  const weir = createWeir({ onDecision: (decision) => decisions.push(decision) });
  return { client: connect(weir, policy, `127.0.0.1:${port}`), decisions };
}

const hedged = {
  breaker: false,
  retry: { idempotent: true, budget: false },
} as const satisfies ClientPolicy;

describe("a connection to a server of Node", () => {
  it("outlives any number of hedges", async () => {
    const policy = { ...hedged, hedge: { delayMs: 5 } };
    const { client, decisions } = await slowFirst(policy, 60);
    const codes = new Map<string, number>();
    const worker = async () => {
      for (let i = 0; i < 30; i += 1) {
        const { code, details } = await startCall(client, "unary", {}, new Metadata()).ended;
        const said = `${Status[code]} ${details}`;
        codes.set(said, (codes.get(said) ?? 0) + 1);
      }
    };
    await Promise.all(Array.from({ length: 50 }, worker));
    expect([...codes]).toEqual([["OK OK", 1_500]]);
    expect(decisions.some(({ reason }) => reason === "RESET_BUDGET")).toBe(true);
  });

  it("outlives any number of attempts that run out of their time", async () => {
    const policy = {
      ...hedged,
      retry: { ...hedged.retry, backoff: { baseMs: 1, maxMs: 1 } },
      timeouts: { firstResponseMs: 5 },
    };
    const { client } = await slowFirst(policy, 60);
    const codes = new Map<string, number>();
    const worker = async () => {
      for (let i = 0; i < 30; i += 1) {
        const { code, details } = await startCall(client, "unary", {}, new Metadata()).ended;
        const said = `${Status[code]} ${details}`;
        codes.set(said, (codes.get(said) ?? 0) + 1);
      }
    };
    await Promise.all(Array.from({ length: 50 }, worker));
    // Where all attempts run out of their time, so does the call.
    const lost = [...codes.keys()].filter((said) => !/^(OK|DEADLINE_EXCEEDED) /.test(said));
    expect(lost).toEqual([]);
  });
});

describe.each(kinds)("a %s whose connection the server closes over too many resets", (method) => {
  /** A peer that closes its first connection with this code, and serves on the next. */
  async function closing(idempotent: boolean) {
    const listening = RawPeer.listen((raw) => {
      raw.stream.resume();
      void listening.then((peer) => {
        if (peer.streams > 1) answer(raw, [Buffer.alloc(0)], { "grpc-status": "0" });
        else peer.destroySessions(constants.NGHTTP2_INTERNAL_ERROR);
      });
    });
    const peer = await listening;
    peers.push(peer);
    const policy = { breaker: false, retry: { idempotent } } as const;
    const client = connect(createWeir(), policy, peer.address);
    return { peer, ended: startCall(client, method, {}, new Metadata()).ended };
  }

  it("is sent again where the method is idempotent, whatever code grpc-js makes of it", async () => {
    const { peer, ended } = await closing(true);
    expect((await ended).code).toBe(Status.OK);
    expect(peer.streams).toBe(2);
  });

  it("is not sent again otherwise", async () => {
    const { peer, ended } = await closing(false);
    expect((await ended).details).toContain("Session closed with error code 2");
    expect(peer.streams).toBe(1);
  });
});
