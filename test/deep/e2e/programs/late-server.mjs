// A server that answers every call as long after it has come as the call says.
import { setImmediate as turn } from "node:timers/promises";
import grpc from "@grpc/grpc-js";

const bytes = (value) => value;
const method = (name, requestStream, responseStream) => ({
  path: `/weir.v1.ConformanceService/${name}`,
  requestStream,
  responseStream,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
});
/** By how much the latest timer was late, since somebody was told. */
let lateMs = 0;
const later = (call, answer) => {
  const [afterMs = 0] = call.metadata.get("after-ms");
  const dueMs = performance.now() + Number(afterMs);
  const [turns] = call.metadata.get("turns");
  setTimeout(() => {
    lateMs = Math.max(lateMs, performance.now() - dueMs);
    if (turns === undefined) answer();
    else void behind(Number(turns), answer);
  }, Number(afterMs));
};
/** Answers and their ends take some turns of the event loop. This one waits until the others are in the socket. */
async function behind(turns, answer) {
  for (let left = turns; left > 0; left -= 1) await turn();
  const trailers = new grpc.Metadata();
  trailers.set("late-ms", String(lateMs));
  lateMs = 0;
  answer(trailers);
}
const empty = Buffer.alloc(0);
const single = (call, callback) => later(call, (trailers) => callback(null, empty, trailers));
const streamed = (call) =>
  later(call, () => {
    call.write(empty);
    call.end();
  });

const server = new grpc.Server();
server.addService(
  {
    unary: method("Unary", false, false),
    clientStream: method("ClientStream", true, false),
    serverStream: method("ServerStream", false, true),
    bidiStream: method("BidiStream", true, true),
  },
  {
    unary: single,
    clientStream: (call, callback) => single(call.resume(), callback),
    serverStream: streamed,
    bidiStream: (call) => streamed(call.resume()),
  },
);
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  process.send({ port });
});
process.on("disconnect", () => process.exit());
