// A client of the chaos: brings each call of its plan to an answer, with retries and hedges, and writes down what it sees.
// Calls that an earlier process of this client has not brought to an answer are sent again, under the same key.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import grpc from "@grpc/grpc-js";
import { createWeir, rejectionOf } from "grpc-weir";
import { journal, nowUs, service } from "./service.mjs";

const { plan, settled, journalPath, targets, concurrent, deadlineMs } = JSON.parse(process.argv[2]);
const calls = JSON.parse(readFileSync(plan, "utf8"));
const done = new Set(settled);
const write = journal(journalPath);

const weir = createWeir();
const Client = grpc.makeGenericClientConstructor(service, "Orders");
const client = new Client(
  `ipv4:${targets.join(",")}`,
  grpc.credentials.createInsecure(),
  weir.client(
    {
      breaker: false,
      deadline: { defaultMs: deadlineMs },
      timeouts: { attemptMs: deadlineMs / 3 },
      idempotencyKey: { honoured: true },
      retry: { maxAttempts: 3, backoff: { baseMs: 10, maxMs: 100 } },
      methods: { "weir.chaos.v1.Orders/PlaceHedged": { hedge: { delayMs: 50, maxAttempts: 3 } } },
    },
    {
      "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 300,
    },
  ),
);

function send({ method, caller, key, request }) {
  return new Promise((resolve) => {
    const metadata = new grpc.Metadata();
    metadata.set("idempotency-key", key);
    metadata.set("x-caller", caller);
    let replayed = false;
    const note = (given) => {
      if (given.get("x-weir-replayed").length > 0) replayed = true;
    };
    const call = client[method]({ request }, metadata, (error, answer) => {
      if (error === null) return resolve({ kind: "answer", answer, replayed });
      note(error.metadata);
      if (error.code === grpc.status.FAILED_PRECONDITION) {
        return resolve({ kind: "answer", answer: JSON.parse(error.details), replayed });
      }
      const reason = rejectionOf(error)?.reason;
      if (reason === "IDEMPOTENCY_KEY_REUSED") return resolve({ kind: "reused" });
      return resolve({
        kind: "unsettled",
        why: `${grpc.status[error.code]} ${reason ?? error.details}`,
      });
    });
    call.on("metadata", note);
    call.on("status", ({ metadata: trailers }) => note(trailers));
  });
}

async function settle(index) {
  for (let tries = 0; ; tries += 1) {
    const startUs = nowUs();
    const id = `${index}/${startUs}`;
    write({ id, index, start: { ...calls[index], startUs } });
    const end = await send(calls[index]);
    write({ id, index, end: { ...end, endUs: nowUs() } });
    if (end.kind !== "unsettled") return;
    await sleep(20 + 80 * Math.random() * Math.min(4, tries + 1));
  }
}

let next = 0;
async function work() {
  while (next < calls.length) {
    const index = next;
    next += 1;
    if (!done.has(index)) await settle(index);
  }
}

process.on("disconnect", () => process.exit(1));
await Promise.all(Array.from({ length: concurrent }, work));
process.send({ done: true }, () => process.exit(0));
