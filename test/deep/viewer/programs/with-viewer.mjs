// Starts a viewer that receives OTLP, opens connections to it, and has nothing else to do.
import { once } from "node:events";
import { connect } from "node:net";
import { traceViewer } from "../../../../dist/viewer.js";

const keepProcessAlive = process.argv[2] === "stay";
const { url, otlp } = await traceViewer({
  port: 0,
  otlp: { grpcPort: 0, httpPort: 0 },
  keepProcessAlive,
});
for (const address of [url, otlp.grpc, otlp.http]) {
  const socket = connect(Number(new URL(address).port), "127.0.0.1");
  await once(socket, "connect");
  socket.unref();
}
console.log("ready");
