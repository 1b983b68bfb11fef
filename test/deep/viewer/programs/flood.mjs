// Sends a million spans through the viewer, and prints what they took. Run it with --expose-gc.

import { systemClock } from "../../../../dist/core/clock.js";
import { Recorder } from "../../../../dist/viewer/recorder.js";

const spansToSend = 1_000_000;
const spansToTry = 100_000;
const kept = { limits: {}, clock: systemClock };
let told = 0;
const recorder = new Recorder(kept, { onCall: () => (told += 1), onPoints: () => {} });

const heapMb = () => {
  globalThis.gc();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 1e6;
};
const hex = (number, digits) => number.toString(16).padStart(digits, "0");

/** A call with two attempts, and what its server says of both: one trace of five spans in ten that fails. */
function* traceOf(number) {
  const startMs = Date.now() - 50;
  const failed = number % 10 === 0;
  const facts = {
    traceId: hex(number + 1, 32),
    scope: "grpc-weir",
    status: "unset",
    name: `shop.v1.Shop/List`,
  };
  const attributes = (more) => ({
    "rpc.system.name": "grpc",
    "rpc.method": "shop.v1.Shop/List",
    "rpc.status_code": failed ? "UNAVAILABLE" : "OK",
    "server.address": `10.0.0.${number % 250}`,
    "network.peer.address": `10.0.0.${number % 250}`,
    "network.peer.port": number % 60_000,
    "weir.call.priority": "critical",
    "weir.call.deadline_ms": 1_000,
    ...more,
  });
  const decision = {
    name: "weir.decision",
    atMs: startMs + 5,
    attributes: {
      "weir.decision.policy": "retry",
      "weir.decision.verdict": "retry",
      "weir.decision.enforced": true,
    },
  };
  for (const attempt of [1, 2]) {
    const times = { startMs: startMs + attempt, endMs: startMs + 10 * attempt };
    yield {
      ...facts,
      ...times,
      spanId: hex(10 + attempt, 16),
      parentSpanId: hex(attempt, 16),
      kind: "server",
      service: "stock",
      attributes: attributes({}),
      events: [],
    };
    yield {
      ...facts,
      ...times,
      spanId: hex(attempt, 16),
      parentSpanId: hex(9, 16),
      kind: "client",
      service: "edge",
      attributes: attributes({
        "weir.attempt.number": attempt,
        "weir.attempt.cause": "first",
        "weir.attempt.origin": "remote",
      }),
      events: [],
    };
  }
  yield {
    ...facts,
    startMs,
    endMs: startMs + 25,
    spanId: hex(9, 16),
    kind: "client",
    service: "edge",
    attributes: attributes({ "weir.call.attempts": 2 }),
    events: [decision, decision],
  };
}

/** Makes spans and hands them to somebody. Returns the microseconds of the processor that each took. */
function send(spans, take) {
  const began = process.cpuUsage();
  for (let sent = 0, number = 0; sent < spans; number += 1) {
    for (const span of traceOf(number)) {
      take(span);
      sent += 1;
    }
  }
  const { user, system } = process.cpuUsage(began);
  return (user + system) / spans;
}

const before = heapMb();
const making = send(spansToTry, () => {});
const recording = send(spansToSend, (span) => recorder.record(span)) - making;
const { store, board } = recorder;
console.log(
  JSON.stringify({
    heapMb: heapMb() - before,
    estimateMb: store.bytes / 1e6,
    microsecondsPerSpan: recording,
    spans: store.spanCount,
    calls: store.calls.size,
    dropped: store.droppedCalls,
    told,
    points: board.points.length,
  }),
);
recorder.close();
