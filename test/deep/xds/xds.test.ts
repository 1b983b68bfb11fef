import { credentials, Metadata, Server, ServerCredentials, status as Status } from "@grpc/grpc-js";
import { register } from "@grpc/grpc-js-xds";
import { afterAll, beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { controlPlane } from "../../../examples/xds/control-plane.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import { createWeir } from "../../../src/weir.js";
import { handlers, kinds, type Method, startCall } from "../../scene.js";

register();

/** A server that fails or waits as it is told, and counts. */
async function startServer() {
  const told = { fails: false, waitMs: 0, calls: 0 };
  const server = new Server();
  const implementation = handlers((call, answer) => {
    told.calls += 1;
    const end = () =>
      told.fails ? call.fail({ code: Status.UNAVAILABLE, details: "told to fail" }) : answer();
    if (told.waitMs === 0) end();
    else setTimeout(end, told.waitMs);
  });
  server.addService(ConformanceServiceService, implementation);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return { told, port, peer: `127.0.0.1:${port}`, close: () => server.forceShutdown() };
}

const [one, other, third] = await Promise.all([startServer(), startServer(), startServer()]);
const servers = [one, other, third];
const usual = { clusters: { c: [one.port, other.port], d: [third.port] }, to: "c" };
// The bootstrap of a process is read once.
const plane = await controlPlane(usual);
Object.assign(process.env, { GRPC_XDS_BOOTSTRAP_CONFIG: plane.bootstrap });

afterAll(() => {
  plane.close();
  for (const server of servers) server.close();
});

beforeEach(() => {
  for (const { told } of servers) Object.assign(told, { fails: false, waitMs: 0, calls: 0 });
});

/** A client whose channel is led by the control plane, and which has its resources already. */
async function meshClient(policy: ClientPolicy = {}) {
  const weir = createWeir();
  const options = weir.client(policy);
  const client = new ConformanceServiceClient("xds:///shop", credentials.createInsecure(), options);
  onTestFinished(() => {
    client.close();
    weir.close();
  });
  const call = (kind: Method) =>
    startCall(client, kind, { deadline: Date.now() + 15_000 }, new Metadata()).ended;
  const attemptsOf = () => weir.history().last[0]?.attempts ?? [];
  const counted = () => servers.reduce((sum, { told }) => sum + told.calls, 0);
  const reset = () => {
    for (const { told } of servers) told.calls = 0;
  };
  expect((await call("unary")).code).toBe(Status.OK);
  reset();
  return { weir, client, call, attemptsOf, counted, reset };
}

describe("the policies of a client on a channel of xDS", () => {
  it.each(kinds)(
    "make attempts that reach its servers, and know each by its address (%s)",
    async (kind) => {
      const { call, attemptsOf } = await meshClient();
      const peers = new Set<string | undefined>();
      for (let n = 0; n < 6; n += 1) {
        expect((await call(kind)).code).toBe(Status.OK);
        peers.add(attemptsOf()[0]?.peer);
      }
      expect(peers).toEqual(new Set([one.peer, other.peer]));
      expect(plane.refused).toEqual([]);
    },
  );

  it.each(kinds)("retry on another server of the cluster (%s)", async (kind) => {
    const { call, attemptsOf } = await meshClient({ retry: { backoff: { baseMs: 1 } } });
    one.told.fails = true;
    const seen = new Set<number>();
    for (let n = 0; n < 8; n += 1) {
      expect((await call(kind)).code).toBe(Status.OK);
      const attempts = attemptsOf();
      seen.add(attempts.length);
      expect(attempts.at(-1)?.peer).toBe(other.peer);
    }
    expect(seen).toContain(2);
  });

  it("keep the breaker closed while one of two servers fails, and open it when both do", async () => {
    const breaker = { consecutiveFailures: 3, openMs: 60_000, maxOpenMs: 60_000 };
    const { call } = await meshClient({ retry: false, breaker });
    one.told.fails = true;
    const codes: Status[] = [];
    for (let n = 0; n < 12; n += 1) codes.push((await call("unary")).code);
    expect(new Set(codes)).toEqual(new Set([Status.OK, Status.UNAVAILABLE]));
    other.told.fails = true;
    for (let n = 0; n < 12; n += 1) await call("unary");
    expect((await call("unary")).details).toMatch(/failures in a row/);
  });

  it("multiply with the retries of a route, unless one of the two is left out", async () => {
    onTestFinished(() => plane.change({ retryPolicy: undefined }));
    const retry = { backoff: { baseMs: 1 } };
    const breaker = false;
    const [both, onlyRoute] = [
      await meshClient({ retry, breaker }),
      await meshClient({ retry: false, breaker }),
    ];
    for (const server of servers) server.told.fails = true;
    both.reset();
    await both.call("unary");
    expect(both.counted()).toBe(3);
    plane.change({
      retryPolicy: {
        retry_on: "unavailable",
        num_retries: { value: 3 },
        retry_back_off: { base_interval: { nanos: 1e6 }, max_interval: { nanos: 2e6 } },
      },
    });
    await vi.waitFor(
      async () => {
        onlyRoute.reset();
        await onlyRoute.call("unary");
        expect(onlyRoute.counted()).toBe(4);
      },
      { timeout: 10_000, interval: 50 },
    );
    both.reset();
    await both.call("unary");
    expect(both.counted()).toBe(12);
  });

  it("leave a time that the route sets to it, which ends calls as a deadline does", async () => {
    onTestFinished(() => plane.change({ maxMs: undefined }));
    const { call, attemptsOf } = await meshClient();
    plane.change({ maxMs: 150 });
    for (const server of servers) server.told.waitMs = 2_000;
    await vi.waitFor(
      async () => expect((await call("unary")).code).toBe(Status.DEADLINE_EXCEEDED),
      { timeout: 15_000, interval: 50 },
    );
    expect(attemptsOf()).toHaveLength(1);
  });

  it("lose no call when servers leave and come, and when the route leads to another cluster", async () => {
    onTestFinished(() => plane.change(usual));
    const { call, attemptsOf } = await meshClient();
    const codes: Status[] = [];
    let over = false;
    const load = Promise.all(
      kinds.map(async (kind) => {
        while (!over) codes.push((await call(kind)).code);
      }),
    );
    const movedTo = (peers: readonly string[]) =>
      vi.waitFor(() => expect(peers).toContain(attemptsOf()[0]?.peer), { timeout: 10_000 });
    plane.change({ clusters: { c: [other.port], d: [third.port] } });
    await movedTo([other.peer]);
    plane.change({ to: "d" });
    await movedTo([third.peer]);
    plane.change(usual);
    await movedTo([one.peer, other.peer]);
    over = true;
    await load;
    expect(codes.length).toBeGreaterThan(20);
    expect(new Set(codes)).toEqual(new Set([Status.OK]));
  });
});
