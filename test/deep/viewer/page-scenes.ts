import type {
  Attributes,
  BoardPoint,
  CallRow,
  DemoState,
  SpanEvent,
  SpanView,
} from "../../../src/viewer/api.js";

/** When the scenes happen: 10 o'clock in UTC. */
const sceneStartMs = Date.UTC(2026, 10, 30, 10, 0, 0);

/** The spans of one trace, written down with times from its start. */
class TraceScene {
  readonly spans: SpanView[] = [];
  readonly #traceId: string;
  readonly #startMs: number;

  constructor(traceId: string, startMs: number) {
    this.#traceId = traceId;
    this.#startMs = startMs;
  }

  #add(
    span: Pick<SpanView, "name" | "kind" | "service"> & Partial<Pick<SpanView, "status">>,
    parent: SpanView | undefined,
    [fromMs, toMs]: readonly [number, number],
    attributes: Attributes,
    events: readonly SpanEvent[] = [],
  ): SpanView {
    const added: SpanView = {
      traceId: this.#traceId,
      spanId: (this.spans.length + 1).toString(16).padStart(16, "0"),
      ...(parent === undefined ? {} : { parentSpanId: parent.spanId }),
      scope: "grpc-weir",
      status: "unset",
      startMs: this.#startMs + fromMs,
      endMs: this.#startMs + toMs,
      attributes,
      events,
      ...span,
    };
    this.spans.push(added);
    return added;
  }

  call(
    parent: SpanView | undefined,
    service: string,
    method: string,
    times: readonly [number, number],
    status: string,
    attributes: Attributes = {},
    events: readonly SpanEvent[] = [],
  ): SpanView {
    const all = { "rpc.system.name": "grpc", "rpc.method": method, "rpc.status_code": status };
    return this.#add(
      { name: method, kind: "client", service, status: status === "OK" ? "unset" : "error" },
      parent,
      times,
      { ...all, "server.address": "orders.internal", "server.port": 8443, ...attributes },
      events,
    );
  }

  attempt(
    call: SpanView,
    number: number,
    times: readonly [number, number],
    status: string,
    attributes: Attributes = {},
  ): SpanView {
    const lost = attributes["weir.attempt.superseded"] === true;
    return this.#add(
      {
        name: `Attempt.${call.name.replace("/", ".")}`,
        kind: "client",
        service: call.service,
        status: status === "OK" || lost ? "unset" : "error",
      },
      call,
      times,
      {
        "rpc.method": call.name,
        "rpc.status_code": status,
        "weir.attempt.number": number,
        "weir.attempt.cause": "first",
        "weir.attempt.origin": "remote",
        "network.peer.address": "10.0.3.17",
        "network.peer.port": 8443,
        ...attributes,
      },
    );
  }

  server(
    parent: SpanView,
    service: string,
    times: readonly [number, number],
    status: string,
    attributes: Attributes = {},
    events: readonly SpanEvent[] = [],
  ): SpanView {
    const method = parent.attributes["rpc.method"] ?? parent.name;
    const error = ["UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE"].includes(status);
    return this.#add(
      { name: String(method), kind: "server", service, status: error ? "error" : "unset" },
      parent,
      times,
      { "rpc.method": method, "rpc.status_code": status, ...attributes },
      events,
    );
  }

  wait(parent: SpanView, kind: string, times: readonly [number, number], policy?: string): void {
    this.#add(
      { name: `wait: ${kind.replace("_", " ")}`, kind: "internal", service: parent.service },
      parent,
      times,
      { "weir.wait.kind": kind, ...(policy === undefined ? {} : { "weir.wait.policy": policy }) },
    );
  }

  work(parent: SpanView, name: string, times: readonly [number, number]): void {
    this.#add({ name, kind: "internal", service: parent.service }, parent, times, {
      "db.system.name": "postgresql",
    });
  }

  decision(atMs: number, policy: string, verdict: string, more: Attributes = {}): SpanEvent {
    const named = Object.entries(more).map(([name, value]) => [`weir.decision.${name}`, value]);
    return {
      name: "weir.decision",
      atMs: this.#startMs + atMs,
      attributes: {
        "weir.decision.policy": policy,
        "weir.decision.verdict": verdict,
        "weir.decision.enforced": true,
        ...Object.fromEntries(named),
      },
    };
  }
}

const checkout = "shop.v1.Checkout/Place";
const reserve = "inventory.v1.Stock/Reserve";
const quote = "pricing.v1.Prices/Quote";

type Scene = (scene: TraceScene) => void;

/** What can become of a call. Times are milliseconds from the start of the trace. */
const scenes = {
  served(scene) {
    const call = scene.call(undefined, "web", checkout, [0, 42], "OK", {
      "weir.call.priority": "normal",
      "weir.call.attempts": 1,
    });
    const attempt = scene.attempt(call, 1, [1, 41], "OK");
    const server = scene.server(attempt, "orders", [4, 38], "OK");
    scene.work(server, "INSERT orders", [9, 31]);
  },

  retried(scene) {
    const retry = scene.decision(12, "retry", "retry", {
      reason: "UNAVAILABLE",
      wait_ms: 82,
      detail: "retry after UNAVAILABLE (remote)",
    });
    const call = scene.call(
      undefined,
      "web",
      checkout,
      [0, 124],
      "OK",
      { "weir.call.priority": "critical", "weir.call.attempts": 2 },
      [retry],
    );
    const first = scene.attempt(call, 1, [0, 12], "UNAVAILABLE");
    scene.server(first, "orders", [3, 10], "UNAVAILABLE");
    scene.wait(call, "backoff", [12, 94]);
    const second = scene.attempt(call, 2, [94, 124], "OK", {
      "weir.attempt.cause": "retry",
      "weir.attempt.delay_ms": 82,
      "weir.attempt.after": "UNAVAILABLE",
    });
    scene.server(second, "orders", [98, 120], "OK");
  },

  hedged(scene) {
    const hedge = scene.decision(50, "hedge", "hedge", { wait_ms: 50 });
    const call = scene.call(
      undefined,
      "web",
      quote,
      [0, 96],
      "OK",
      { "weir.call.priority": "high", "weir.call.attempts": 2 },
      [hedge],
    );
    const first = scene.attempt(call, 1, [0, 96], "CANCELLED", { "weir.attempt.superseded": true });
    scene.server(first, "pricing", [3, 95], "CANCELLED");
    const second = scene.attempt(call, 2, [50, 95], "OK", {
      "weir.attempt.cause": "hedge",
      "weir.attempt.delay_ms": 50,
    });
    scene.server(second, "pricing", [53, 92], "OK");
  },

  shed(scene) {
    const call = scene.call(undefined, "web", checkout, [0, 6], "RESOURCE_EXHAUSTED", {
      "weir.call.priority": "low",
      "weir.call.attempts": 1,
      "weir.rejection.reason": "LOAD_SHED",
    });
    const attempt = scene.attempt(call, 1, [0, 6], "RESOURCE_EXHAUSTED");
    scene.server(
      attempt,
      "orders",
      [2, 4],
      "RESOURCE_EXHAUSTED",
      { "weir.rejection.reason": "LOAD_SHED", "weir.call.priority": "low" },
      [scene.decision(3, "admission", "reject", { reason: "LOAD_SHED", detail: "low is shed" })],
    );
  },

  broken(scene) {
    scene.call(
      undefined,
      "orders",
      reserve,
      [0, 0.4],
      "UNAVAILABLE",
      {
        "weir.call.priority": "normal",
        "weir.call.attempts": 1,
        "weir.rejection.reason": "BREAKER_OPEN",
        "weir.rejection.local": true,
      },
      [
        scene.decision(0.2, "breaker", "reject", {
          reason: "BREAKER_OPEN",
          detail: "12 of 20 calls failed; open for 4.1 s more",
        }),
      ],
    );
  },

  late(scene) {
    const call = scene.call(undefined, "web", quote, [0, 2_000], "DEADLINE_EXCEEDED", {
      "weir.call.priority": "high",
      "weir.call.attempts": 1,
      "weir.rejection.reason": "DEADLINE_EXCEEDED",
    });
    const attempt = scene.attempt(call, 1, [1, 2_000], "DEADLINE_EXCEEDED", {
      "weir.attempt.origin": "deadline",
    });
    scene.server(attempt, "pricing", [4, 2_000], "DEADLINE_EXCEEDED");
  },

  /** A checkout in an incident: retried, queued, and below it another call with a hedge. */
  incident(scene) {
    const call = scene.call(
      undefined,
      "web",
      checkout,
      [0, 486],
      "OK",
      { "weir.call.priority": "critical", "weir.call.attempts": 2, "weir.call.deadline_ms": 2_000 },
      [
        scene.decision(48, "retry", "retry", {
          reason: "UNAVAILABLE",
          wait_ms: 64,
          detail: "retry after UNAVAILABLE (transport)",
        }),
      ],
    );
    scene.wait(call, "connection", [1, 22]);
    scene.attempt(call, 1, [22, 48], "UNAVAILABLE", { "weir.attempt.origin": "transport" });
    scene.wait(call, "backoff", [48, 112], "retry");
    const second = scene.attempt(call, 2, [112, 485], "OK", {
      "weir.attempt.cause": "retry",
      "weir.attempt.delay_ms": 64,
      "weir.attempt.after": "UNAVAILABLE",
    });
    const orders = scene.server(
      second,
      "orders",
      [116, 481],
      "OK",
      { "weir.call.priority": "critical" },
      [
        scene.decision(117, "admission", "queue", {
          wait_ms: 88,
          detail: "3rd of 12 in the queue",
        }),
        scene.decision(118, "quota", "reject", {
          reason: "RATE_LIMIT_EXCEEDED",
          enforced: false,
          detail: "51 of 50 per second",
        }),
      ],
    );
    scene.wait(orders, "event_loop", [116, 121]);
    scene.wait(orders, "queue", [121, 205], "admission");
    const stock = scene.call(
      orders,
      "orders",
      reserve,
      [210, 402],
      "OK",
      {
        "weir.call.priority": "critical",
        "weir.call.attempts": 2,
      },
      [scene.decision(290, "hedge", "hedge", { wait_ms: 80 })],
    );
    const slow = scene.attempt(stock, 1, [210, 402], "CANCELLED", {
      "weir.attempt.superseded": true,
    });
    const slowServer = scene.server(slow, "inventory", [213, 401], "CANCELLED");
    scene.wait(slowServer, "queue", [214, 398], "bulkhead");
    const quick = scene.attempt(stock, 2, [290, 401], "OK", {
      "weir.attempt.cause": "hedge",
      "weir.attempt.delay_ms": 80,
    });
    const quickServer = scene.server(quick, "inventory", [294, 398], "OK");
    scene.work(quickServer, "UPDATE stock", [301, 388]);
    const price = scene.call(orders, "orders", quote, [404, 446], "OK", {
      "weir.call.priority": "critical",
      "weir.call.attempts": 1,
    });
    scene.server(scene.attempt(price, 1, [404, 446], "OK"), "pricing", [407, 443], "OK");
    scene.work(orders, "INSERT orders", [449, 476]);
  },
} satisfies Record<string, Scene>;

export type SceneName = keyof typeof scenes;

/** How often each of them happens. */
const mix: readonly SceneName[] = [
  "served",
  "served",
  "retried",
  "served",
  "hedged",
  "shed",
  "served",
  "incident",
  "broken",
  "served",
  "late",
  "served",
];

export function sceneName(index: number): SceneName {
  return mix[index % mix.length] ?? "served";
}

export function traceIdOf(index: number): string {
  return `4bf92f3577b34da6${(index + 1).toString(16).padStart(16, "0")}`;
}

/** The spans of the trace that begins as the call of this number. */
export function sceneSpans(index: number): readonly SpanView[] {
  const scene = new TraceScene(traceIdOf(index), sceneStartMs + index * 40.25);
  scenes[sceneName(index)](scene);
  return scene.spans;
}

/** The row of the call with which a trace begins. */
export function sceneRow(index: number): CallRow {
  const [root] = sceneSpans(index);
  if (root === undefined) throw new Error(`scene ${index} has no spans`);
  const { attributes, events, service, traceId, spanId, startMs, endMs } = root;
  const priority = attributes["weir.call.priority"];
  const reason = attributes["weir.rejection.reason"];
  return {
    id: `${traceId}-${spanId}`,
    traceId,
    spanId,
    service,
    side: "client",
    method: root.name,
    status: String(attributes["rpc.status_code"]),
    ...(priority === undefined ? {} : { priority: String(priority) }),
    ...(reason === undefined ? {} : { reason: String(reason) }),
    policies: events.map((event) => String(event.attributes["weir.decision.policy"])),
    startMs,
    durationMs: endMs - startMs,
    attempts: Number(attributes["weir.call.attempts"] ?? 1),
  };
}

/** A trace as large as a viewer keeps: calls in a row under one span. */
export function largeTrace(traceId: string, count: number): readonly SpanView[] {
  const scene = new TraceScene(traceId, sceneStartMs);
  const root = scene.call(undefined, "batch", "batch.v1.Import/Run", [0, count * 2], "OK");
  for (let index = 0; scene.spans.length < count; index += 1) {
    const call = scene.call(root, "batch", reserve, [index * 6, index * 6 + 5], "OK");
    if (scene.spans.length < count) scene.attempt(call, 1, [index * 6 + 1, index * 6 + 4], "OK");
  }
  return scene.spans;
}

/** Ten minutes of a board with an incident in the middle. */
export function boardPoints(count = 600): readonly BoardPoint[] {
  return Array.from({ length: count }, (_, second) => boardPoint(second, count));
}

export function boardPoint(second: number, count = 600): BoardPoint {
  const wave = Math.sin(second / 9) * 3 + Math.sin(second / 2.3);
  const bad = second > count * 0.4 && second < count * 0.7;
  const half = second >= count * 0.7 && second < count * 0.75;
  return {
    atMs: sceneStartMs + second * 1_000,
    goodput: {
      critical: 24 + wave / 2,
      high: bad ? 20 + wave / 2 : 24 + wave / 2,
      normal: Math.max(0, (bad ? 9 : 36) + wave),
      low: Math.max(0, (bad ? 0 : 12) + wave / 3),
    },
    failures: bad ? 3 + Math.abs(wave) / 2 : 0,
    refusals: bad ? { LOAD_SHED: 26 + wave, BREAKER_OPEN: 6, CONCURRENCY_LIMIT: 4 } : {},
    p50Ms: bad ? 74 + wave * 4 : 31 + wave,
    p99Ms: bad ? 420 + wave * 22 : 96 + wave * 5,
    queue: { orders: bad ? 14 + wave : 0, inventory: bad ? 6 : 0 },
    limit: { orders: bad ? 26 : 40, inventory: 20 },
    running: { orders: bad ? 26 : 18 + wave, inventory: bad ? 20 : 9 + wave },
    breakers: {
      "orders inventory.internal:8443": bad ? "open" : half ? "half-open" : "closed",
      "web orders.internal:8443": "closed",
    },
  };
}

/** A demo that has played three of its phases. */
export function demoState(): DemoState {
  const phases = ["all is well", "inventory fails one call in four", "twice the load"];
  const shares = { bare: [1, 0.74, 0.31], retryPolicy: [1, 0.96, 0.12], weir: [1, 0.99, 0.68] };
  const critical = { bare: [1, 0.75, 0.3], retryPolicy: [1, 0.97, 0.13], weir: [1, 1, 1] };
  const countsOf = (way: keyof typeof shares, phase: number, sent: number) => ({
    sent,
    ok: Math.round(sent * (shares[way][phase] ?? 0)),
    sentCritical: sent / 4,
    okCritical: Math.round((sent / 4) * (critical[way][phase] ?? 0)),
  });
  const waysOf = (phase: number, sent: number) => ({
    bare: countsOf("bare", phase, sent),
    retryPolicy: countsOf("retryPolicy", phase, sent),
    weir: countsOf("weir", phase, sent),
  });
  return {
    title: "An incident",
    running: true,
    phase: phases[2] ?? "",
    sliders: [
      { name: "load", label: "Load", unit: "calls/s", min: 10, max: 200, step: 5, value: 100 },
      { name: "slowness", label: "Slowness", unit: "ms", min: 20, max: 500, step: 10, value: 100 },
      { name: "failures", label: "Failures", unit: "%", min: 0, max: 100, step: 5, value: 25 },
    ],
    ways: [
      { name: "weir", title: "grpc-weir" },
      { name: "retryPolicy", title: "retryPolicy" },
      { name: "bare", title: "bare grpc-js" },
    ],
    seconds: Array.from({ length: 45 }, (_, second) => {
      const phase = Math.floor(second / 15);
      const counts = waysOf(phase, phase === 2 ? 100 : 48);
      const wobble = Math.sin(second) * 2;
      return {
        atMs: sceneStartMs + second * 1_000,
        phase: phases[phase] ?? "",
        ways: {
          bare: { ...counts.bare, p99Ms: [110, 130, 1_900][phase] ?? null },
          retryPolicy: { ...counts.retryPolicy, p99Ms: [112, 310, 1_980][phase] ?? null },
          weir: {
            ...counts.weir,
            ok: counts.weir.ok + Math.round(wobble),
            p99Ms: ([111, 240, 620][phase] ?? 0) + wobble * 10,
          },
        },
      };
    }),
    table: phases.map((phase, index) => ({
      phase,
      ways: waysOf(index, index === 2 ? 1_500 : 720),
    })),
  };
}
