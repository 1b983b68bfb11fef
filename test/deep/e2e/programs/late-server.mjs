// A server that answers every call a while after it has come, and tells its parent when it did.
import grpc from "@grpc/grpc-js";

const afterMs = Number(process.argv[2]);
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
const later = (answer) => {
  setTimeout(() => {
    answer();
    process.send({ answeredAt: Date.now() });
  }, afterMs);
};
const empty = Buffer.alloc(0);
const single = (_call, callback) => later(() => callback(null, empty));
const streamed = (call) =>
  later(() => {
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
