import { connect } from "node:net";
import {
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServiceError,
  status as Status,
} from "@grpc/grpc-js";
import { expect, it } from "vitest";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { createWeir } from "../../../src/weir.js";
import { echo, payload } from "../../scene.js";
import { listen } from "./listen.js";

// Real sockets and real time: what is tested is that grpc-js's own shutdown and ours fit together.
it("drains a real server: calls in flight end well, later ones fail at once, and the port is free", async () => {
  const weir = createWeir();
  let release: () => void = () => {};
  const reached = new Promise<void>((started) => {
    const server = new Server(weir.server({ admission: {} }));
    const implementation: ConformanceServiceServer = {
      ...echo,
      unary(call, callback) {
        release = () => callback(null, call.request);
        started();
      },
    };
    server.addService(ConformanceServiceService, implementation);
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
      if (error !== null) throw error;
      serving(server, port);
    });
  });
  let serving: (server: Server, port: number) => void = () => {};
  const [server, port] = await new Promise<[Server, number]>((resolve) => {
    serving = (...bound) => resolve(bound);
  });
  const client = new ConformanceServiceClient(`127.0.0.1:${port}`, credentials.createInsecure());
  const call = (sequence: number) =>
    new Promise<ServiceError | null>((resolve) => {
      const deadline = Date.now() + 10_000;
      client.unary({ payload, sequence }, new Metadata(), { deadline }, (error) => resolve(error));
    });
  const inFlight = call(1);
  await reached;
  const drained = weir.drain(server, { graceMs: 8_000 });
  const late = await call(2);
  expect(late?.code).toBe(Status.UNAVAILABLE);
  release();
  expect(await inFlight).toBeNull();
  expect(await drained).toMatchObject({ inFlight: 1, cutOff: 0 });
  client.close();
  const again = new Server();
  await new Promise<void>((resolve, reject) => {
    again.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
  again.forceShutdown();
});

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "latin1");

/** A server of which somebody keeps something open that is no call. */
async function besieged(visit: (port: number) => Promise<() => void>) {
  const weir = createWeir();
  const server = new Server(weir.server({ admission: {} }));
  const implementation: ConformanceServiceServer = {
    ...echo,
    // Answered while the caller may still send.
    clientStream: (_call, callback) => callback(null, { payload, sequences: [] }),
  };
  server.addService(ConformanceServiceService, implementation);
  const port = await listen(server);
  const leave = await visit(port);
  const report = await weir.drain(server, { graceMs: 1_500 });
  leave();
  weir.close();
  return report;
}

function halfOpen(port: number, said?: Buffer): Promise<() => void> {
  return new Promise((resolve) => {
    const peer = connect({ port, host: "127.0.0.1", allowHalfOpen: true }, () => {
      if (said !== undefined) peer.write(said);
      // The server has to have taken the connection in: it answers a preface.
      if (said === undefined) setTimeout(resolve, 100, () => peer.destroy());
    });
    peer.once("data", () => resolve(() => peer.destroy()));
    peer.on("error", () => {});
    peer.resume();
  });
}

it.each<[string, (port: number) => Promise<() => void>]>([
  ["an HTTP/2 connection whose peer does not close its half", (port) => halfOpen(port, preface)],
  ["a TCP connection on which nothing was said", (port) => halfOpen(port)],
  [
    "a stream that was answered and is kept open by its caller",
    (port) =>
      new Promise((resolve) => {
        const client = new ConformanceServiceClient(
          `127.0.0.1:${port}`,
          credentials.createInsecure(),
        );
        const call = client.clientStream(new Metadata(), {}, () => resolve(() => client.close()));
        call.write({ payload, sequence: 1 });
      }),
  ],
])("does not wait for %s", async (_what, visit) => {
  const { tookMs, ...report } = await besieged(visit);
  expect(report).toEqual({ inFlight: 0, cutOff: 0 });
  expect(tookMs).toBeLessThan(2_500);
});
