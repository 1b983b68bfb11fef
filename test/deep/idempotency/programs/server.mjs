// A server of the chaos: places orders in the ledger, once for each key, with the policy and a store in Redis.
import { createConnection } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import grpc from "@grpc/grpc-js";
import { createWeir, currentCall } from "grpc-weir";
import { journal, nowUs, service } from "./service.mjs";
import { storeNamed } from "./stores.mjs";

const settings = JSON.parse(process.argv[2]);
const { name, port, redisPort, ledgerPort, journalPath, leaseMs, store, declines, thinkMs } =
  settings;
const write = journal(journalPath);
const ask = ledgerClient(ledgerPort);
let runs = 0;

async function place({ request: { request }, metadata }, method) {
  const caller = String(metadata.get("x-caller")[0]);
  const key = `${method} ${metadata.get("idempotency-key")[0]}`;
  const token = currentCall().idempotency.fencingToken;
  write({ server: name, caller, key, request, token, startUs: nowUs() });
  const known = await ask({ token, read: { caller, key } });
  if (known.kind === "fenced") throw overtaken();
  if (known.kind === "known") return own(known.order, request);
  await sleep(Math.random() * (Math.random() < 0.02 ? 2 * leaseMs : thinkMs));
  runs += 1;
  const answer = { caller, key, request, text: `${name}, run ${runs}` };
  if (Math.random() < declines) {
    const declined = JSON.stringify({ ...answer, kind: "declined" });
    throw Object.assign(new Error(declined), {
      code: grpc.status.FAILED_PRECONDITION,
      details: declined,
    });
  }
  const written = await ask({ token, write: { ...answer, kind: "applied" } });
  if (written.kind === "fenced") throw overtaken();
  return own(written.order, request);
}

/** The order of a key, if it is of this request. Another request does not get it, and does not keep the key. */
function own(order, request) {
  if (order.request === request) return order;
  throw aborted("the key has an order of another request");
}

function overtaken() {
  return aborted("another holder has taken over");
}

function aborted(details) {
  return Object.assign(new Error(details), { code: grpc.status.ABORTED, details });
}

function ledgerClient(toPort) {
  const waiting = new Map();
  let last = 0;
  let begun = "";
  const socket = createConnection(toPort, "127.0.0.1").setEncoding("utf8").setNoDelay();
  socket.on("data", (text) => {
    const lines = (begun + text).split("\n");
    begun = lines.pop();
    for (const line of lines) {
      const { id, answer } = JSON.parse(line);
      waiting.get(id)(answer);
      waiting.delete(id);
    }
  });
  return (question) =>
    new Promise((resolve) => {
      last += 1;
      waiting.set(last, resolve);
      socket.write(`${JSON.stringify({ id: last, ...question })}\n`);
    });
}

const weir = createWeir();
const server = new grpc.Server(
  weir.server({
    idempotency: {
      store: storeNamed(store, redisPort),
      scope: ({ metadata }) => metadata.get("x-caller")[0],
      services: [service],
      methods: Object.fromEntries(Object.values(service).map(({ path }) => [path, {}])),
      leaseMs,
      storeTimeoutMs: 500,
    },
  }),
);
const handler = (method) => (call, callback) => {
  place(call, method).then(
    (answer) => callback(null, answer),
    (error) => callback(error),
  );
};
server.addService(service, { Place: handler("Place"), PlaceHedged: handler("PlaceHedged") });
process.on("disconnect", () => process.exit());
server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  process.send({ listening: true });
});
