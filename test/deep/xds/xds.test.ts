import { credentials, Metadata, Server, ServerCredentials, status as Status } from "@grpc/grpc-js";
import { register, XdsServer } from "@grpc/grpc-js-xds";
import { afterAll, beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { controlPlane } from "../../../examples/xds/control-plane.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import { createWeir } from "../../../src/weir.js";
import { handlers, kinds, type Method, startCall } from "../../scene.js";
import { freePort } from "../ops/ports.js";

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
  // Both servers have to be connected: until then, the balancer has only one of them to choose.
  const peers = new Set<string | undefined>();
  await vi.waitFor(
    async () => {
      expect((await call("unary")).code).toBe(Status.OK);
      peers.add(attemptsOf()[0]?.peer);
      expect(peers).toEqual(new Set([one.peer, other.peer]));
    },
    { timeout: 15_000, interval: 5 },
  );
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

  it("take what the circuit breaker of a cluster drops as refused: no retry, no failure of the target", async () => {
    onTestFinished(() => plane.change({ cluster: undefined }));
    const breaker = { consecutiveFailures: 3, openMs: 60_000, maxOpenMs: 60_000 };
    const { weir, call, counted, reset } = await meshClient({
      retry: { backoff: { baseMs: 1 } },
      breaker,
    });
    plane.change({
      cluster: {
        circuit_breakers: { thresholds: [{ priority: "DEFAULT", max_requests: { value: 1 } }] },
      },
    });
    for (const { told } of servers) told.waitMs = 300;
    await vi.waitFor(
      async () => {
        reset();
        const first = call("unary");
        await vi.waitFor(() => expect(counted()).toBe(1), { timeout: 5_000 });
        const ended = await Promise.all(Array.from({ length: 5 }, () => call("unary")));
        expect((await first).code).toBe(Status.OK);
        expect(new Set(ended.map(({ details }) => details))).toEqual(
          new Set(["Call dropped by load balancing policy."]),
        );
        expect(counted()).toBe(1);
      },
      { timeout: 10_000, interval: 50 },
    );
    const dropped = weir.history().last.filter(({ status }) => status !== "OK");
    expect(new Set(dropped.map(({ attempts }) => attempts.length))).toEqual(new Set([1]));
    expect((await call("unary")).code).toBe(Status.OK);
  });

  it("see no more of a server that the outlier detection of the cluster has ejected", async () => {
    onTestFinished(() => plane.change({ cluster: undefined }));
    const { call, attemptsOf } = await meshClient({ retry: false, breaker: false });
    plane.change({
      cluster: {
        // grpc-js-xds 1.14.1 takes no notice of a change that only adds an outlier detection.
        circuit_breakers: { thresholds: [{ priority: "DEFAULT", max_requests: { value: 1_000 } }] },
        outlier_detection: {
          interval: { nanos: 2e8 },
          base_ejection_time: { seconds: 60 },
          max_ejection_percent: { value: 50 },
          enforcing_success_rate: { value: 0 },
          enforcing_failure_percentage: { value: 100 },
          failure_percentage_threshold: { value: 50 },
          failure_percentage_minimum_hosts: { value: 1 },
          failure_percentage_request_volume: { value: 2 },
        },
      },
    });
    one.told.fails = true;
    await vi.waitFor(
      async () => {
        const peers = new Set<string | undefined>();
        for (let n = 0; n < 8; n += 1) {
          await call("unary");
          for (const { peer } of attemptsOf()) peers.add(peer);
        }
        expect(peers).toEqual(new Set([other.peer]));
      },
      { timeout: 15_000, interval: 20 },
    );
  });

  it("hedge on another server of the cluster", async () => {
    const { call, attemptsOf } = await meshClient({
      retry: { idempotent: true, budget: false },
      hedge: { maxAttempts: 2, delayMs: 20 },
    });
    one.told.waitMs = 3_000;
    const seen = new Set<number>();
    for (let n = 0; n < 8; n += 1) {
      expect((await call("unary")).code).toBe(Status.OK);
      const peers = attemptsOf().map(({ peer }) => peer);
      expect(peers).toContain(other.peer);
      seen.add(new Set(peers).size);
    }
    expect(seen).toContain(2);
  });
});

describe("the policies of a server on an XdsServer", () => {
  it("are followed as on any other", async () => {
    const weir = createWeir();
    const server = new XdsServer(weir.server({ admission: { limit: 1, maxQueued: 0 } }));
    const release: (() => void)[] = [];
    server.addService(
      ConformanceServiceService,
      handlers((_call, answer) => release.push(answer)),
    );
    const port = await freePort();
    plane.change({ listeners: [port] });
    await new Promise<void>((resolve, reject) =>
      server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      ),
    );
    const client = new ConformanceServiceClient(`127.0.0.1:${port}`, credentials.createInsecure());
    onTestFinished(() => {
      client.close();
      server.forceShutdown();
      weir.close();
      plane.change({ listeners: [] });
    });
    const call = () =>
      startCall(client, "unary", { deadline: Date.now() + 10_000 }, new Metadata()).ended;
    const first = call();
    await vi.waitFor(() => expect(release).toHaveLength(1), { timeout: 10_000 });
    const refused = await call();
    expect(rejectionOf(refused.error ?? {})?.reason).toBe("LOAD_SHED");
    for (const answer of release) answer();
    expect((await first).code).toBe(Status.OK);
    expect(plane.refused).toEqual([]);
  });
});
