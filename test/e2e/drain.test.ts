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
} from "../../src/gen/weir/v1/conformance.js";
import { createWeir } from "../../src/weir.js";
import { echo, payload } from "../scene.js";

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
