// Nothing listens where this program calls. It waits between its attempts with nothing else to do.
import grpc from "@grpc/grpc-js";
import { createWeir } from "grpc-weir";

const weir = createWeir();
const Service = grpc.makeGenericClientConstructor(
  {
    get: {
      path: "/demo.Probe/Get",
      requestStream: false,
      responseStream: false,
      requestSerialize: (value) => Buffer.from(value),
      requestDeserialize: String,
      responseSerialize: (value) => Buffer.from(value),
      responseDeserialize: String,
    },
  },
  "Probe",
);
const [what, baseMs] = process.argv.slice(2);
const options = weir.client({
  breaker: false,
  retry: { maxAttempts: 3, backoff: { baseMs: Number(baseMs), maxMs: 10_000, jitter: "none" } },
});
const client = new Service("127.0.0.1:1", grpc.credentials.createInsecure(), options);
const began = performance.now();
client.get("hello", (error) => {
  console.log(`${grpc.status[error.code]} after ${Math.round(performance.now() - began)} ms`);
  if (what !== "close") client.close();
});
if (what === "close") setTimeout(() => client.close(), 100);
if (what === "weir") {
  setTimeout(() => {
    weir.close();
    client.close();
  }, 100);
}
