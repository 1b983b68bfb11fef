// Clients and servers that come and go, all of one weir. Says what the weir still lists when all garbage is collected.
import grpc from "@grpc/grpc-js";
import { createWeir } from "grpc-weir";

const bytes = (value) => Buffer.from(value);
const definition = {
  get: {
    path: "/demo.Probe/Get",
    requestStream: false,
    responseStream: false,
    requestSerialize: bytes,
    requestDeserialize: String,
    responseSerialize: bytes,
    responseDeserialize: String,
  },
};
const Probe = grpc.makeGenericClientConstructor(definition, "Probe");
const insecure = grpc.credentials.createInsecure();

async function serve(options) {
  const server = new grpc.Server(options);
  server.addService(definition, { get: (call, callback) => callback(null, call.request) });
  const port = await new Promise((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  return { server, target: `127.0.0.1:${port}` };
}

function call(client) {
  return new Promise((resolve) => {
    client.get("hello", (error) => resolve(error === null ? "OK" : grpc.status[error.code]));
  });
}

async function collect() {
  for (let round = 0; round < 6; round += 1) {
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const weir = createWeir();
const listed = () => {
  const { policies, priorities } = weir.snapshot();
  return {
    breakers: policies.breaker?.instances.length ?? 0,
    retries: policies.retry?.instances.length ?? 0,
    bulkheads: policies.bulkhead?.instances.length ?? 0,
    admissions: policies.admission?.instances.length ?? 0,
    servers: priorities.length,
  };
};
const results = {};
const { target } = await serve({});

async function useAndClose(options) {
  const client = new Probe(target, insecure, options);
  await call(client);
  client.close();
}

const kept = new Probe(target, insecure, weir.client({ bulkhead: { maxConcurrent: 7 } }));
results.before = listed();

for (let number = 0; number < 100; number += 1) {
  await useAndClose(weir.client({ bulkhead: { maxConcurrent: 10 } }));
}
await collect();
results.clients = listed();

const policy = { bulkhead: { maxConcurrent: 9 } };
for (let number = 0; number < 100; number += 1) await useAndClose(weir.client(policy));
await collect();
results.onePolicy = listed();

for (let number = 0; number < 20; number += 1) {
  const each = await serve(weir.server({ admission: {} }));
  const client = new Probe(each.target, insecure);
  await call(client);
  client.close();
  each.server.forceShutdown();
}
await collect();
results.servers = listed();

// What lives is still listed, is still in hand, and works.
weir.policy("bulkhead").mode = "off";
const later = new Probe(target, insecure, weir.client({ bulkhead: { maxConcurrent: 1 } }));
const sent = [kept, later].map((client) => Array.from({ length: 20 }, () => call(client)));
results.unbounded = (await Promise.all(sent.flat())).every((ended) => ended === "OK");
results.kept = await call(kept);
const drained = await serve(weir.server({ admission: {} }));
await collect();
const open = new Probe(drained.target, insecure);
results.open = await call(open);
weir.close();
results.closedServer = await call(open);
results.watchers = kept.getChannel().internalChannel.connectivityStateWatchers.length;
console.log(JSON.stringify(results));
process.exit();
