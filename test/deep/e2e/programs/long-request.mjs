// Streams a long request through a client with retries, and tells how much memory that held.
// The server is the same program, in a process of its own: what it holds is not what is measured.
import { fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import grpc from "@grpc/grpc-js";
import { createWeir } from "grpc-weir";

const mebi = 2 ** 20;
const messageBytes = 2 ** 16;
const methods = {
  put: {
    path: "/demo.Store/Put",
    requestStream: true,
    responseStream: false,
    requestSerialize: (value) => value,
    requestDeserialize: (value) => value,
    responseSerialize: (value) => Buffer.from(JSON.stringify(value)),
    responseDeserialize: (value) => JSON.parse(value.toString()),
  },
};

/** Fails the first attempt after `failAfter` messages, then reads everything, or nothing at all. */
function serve(reads, failAfter) {
  let attempts = 0;
  const server = new grpc.Server();
  server.addService(methods, {
    put(call, callback) {
      attempts += 1;
      if (!reads) return;
      let messages = 0;
      let inOrder = true;
      call.on("data", (message) => {
        inOrder &&= message.readUInt32BE(0) === messages;
        messages += 1;
        if (attempts === 1 && messages === failAfter) {
          callback({ code: grpc.status.UNAVAILABLE, details: "try again" });
        }
      });
      call.on("end", () => callback(null, { attempts, messages, inOrder }));
    },
  });
  server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) throw error;
    process.send(port);
  });
  process.on("disconnect", () => process.exit());
}

/** In MiB, of what is still referred to. */
async function heldMiB() {
  // Buffers are let go of by finalizers, which run behind a collection.
  for (let n = 0; n < 2; n++) {
    globalThis.gc();
    await sleep(1);
  }
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / mebi;
}

async function run({ reads, failAfter, totalMiB, maxBufferMiB }) {
  const server = fork(process.argv[1], ["serve", String(reads), String(failAfter)], {
    execArgv: [],
  });
  const [port] = await once(server, "message");
  const Store = grpc.makeGenericClientConstructor(methods, "Store");
  const options = createWeir().client({
    retry: {
      idempotent: true,
      backoff: { baseMs: 1, maxMs: 1 },
      maxBufferBytes: maxBufferMiB * mebi,
    },
  });
  const client = new Store(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), options);
  await new Promise((resolve) => client.waitForReady(Date.now() + 10_000, resolve));
  const baseMiB = await heldMiB();
  const samples = [];
  const sample = async () => samples.push((await heldMiB()) - baseMiB);

  const ended = withResolvers();
  const call = client.put((error, response) => ended.resolve({ error: error?.message, response }));
  const messages = (totalMiB * mebi) / messageBytes;
  const everyMessages = Math.max(1, Math.round(messages / 24));
  let held = false;
  for (let number = 0; number < messages && !held; number++) {
    const message = Buffer.alloc(messageBytes);
    message.writeUInt32BE(number, 0);
    if (!call.write(message)) {
      // A server that does not read holds the caller up, for ever.
      held = await Promise.race([once(call, "drain").then(() => false), sleep(1_500, true)]);
    }
    if (number % everyMessages === 0) await sample();
  }
  await sample();
  if (held) call.cancel();
  else call.end();
  const { error, response } = await ended.promise;
  await sample();
  client.close();
  server.disconnect();
  const peakMiB = Math.max(...samples);
  const endMiB = samples.at(-2);
  console.log(JSON.stringify({ peakMiB, endMiB, held, error, response }));
}

function withResolvers() {
  const made = {};
  made.promise = new Promise((resolve) => {
    made.resolve = resolve;
  });
  return made;
}

const [what, ...args] = process.argv.slice(2);
if (what === "serve") serve(args[0] === "true", Number(args[1]));
else await run(JSON.parse(what));
