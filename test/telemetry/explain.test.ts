import { readFileSync } from "node:fs";
import {
  InterceptingCall,
  type Interceptor,
  Metadata,
  type NextCall,
  ServerInterceptingCall,
  type ServerInterceptor,
  type ServiceError,
  status as Status,
} from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { decisionReasons, refusalReasons } from "../../src/core/decision.js";
import { refusal } from "../../src/core/permit.js";
import type { FinishedCall } from "../../src/grpc/context/finished-call.js";
import { GuardRejectedError } from "../../src/grpc/status/guard-rejected-error.js";
import { localRejection } from "../../src/grpc/status/rejection.js";
import { staticValue } from "../../src/policies/fallback/client-providers.js";
import { explain, meanings } from "../../src/telemetry/explain.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { createWeir } from "../../src/weir.js";
import {
  failing,
  handlers,
  kinds,
  payload,
  type Scene,
  type SceneOptions,
  scene,
} from "../scene.js";

const method = "weir.v1.ConformanceService/Unary";
const request = { payload, sequence: 3 };
const plain = { retry: false, breaker: false } as const;
const backoff = { baseMs: 80, jitter: "none" } as const;
const retrying = { retry: { idempotent: true, backoff }, breaker: false } as const;
const silent = handlers(() => {});

const withDeadline = ({ call, clock }: Scene) =>
  call("unary", { deadline: clock.wallNow() + 1_000 });

/** What is explained of the last call on each side. `host` stands for the address of the server. */
async function told(options: SceneOptions, run: (made: Scene) => Promise<unknown> = withDeadline) {
  const calls: FinishedCall[] = [];
  const made = await scene({ ...options, onCall: (call) => calls.push(call) });
  await run(made);
  await made.clock.pass(1);
  const address = /127\.0\.0\.1:\d+/g;
  const of = (side: string) =>
    explain(calls.findLast((call) => call.side === side))
      .replaceAll(address, "host")
      .split("\n");
  return { client: of("client"), server: of("server") };
}

describe("what is explained of a call that", () => {
  it("ended well at once", async () => {
    const { client, server } = await told({ server: {} });
    expect(client).toEqual([
      `Call ${method} to dns:host: OK after 0 ms.`,
      "Attempt 1: OK from host after 0 ms.",
      "Its deadline was 1000 ms after its start; 1000 ms were left at its end.",
    ]);
    expect(server).toEqual([
      `Inbound call ${method}: OK after 0 ms.`,
      "Its deadline was 1000 ms after its start; 1000 ms were left at its end.",
      "Priority normal.",
    ]);
  });

  it("was retried, and ended well", async () => {
    const { client } = await told({ client: retrying, handlers: failing(1).handlers });
    expect(client).toEqual([
      `Call ${method} to dns:host: OK after 80 ms.`,
      'Attempt 1: UNAVAILABLE (remote) from host after 0 ms: "not now".',
      "Attempt 2 (retry, 80 ms of wait): OK from host after 0 ms.",
      "At 0 ms: retry after UNAVAILABLE (remote), 80 ms.",
      "It waited 80 ms between attempts.",
      "Its deadline was 1000 ms after its start; 920 ms were left at its end.",
    ]);
  });

  it("would have been retried by a policy that observes", async () => {
    const { client } = await told({
      client: { retry: { ...retrying.retry, mode: "observe" } },
      handlers: failing(1).handlers,
    });
    expect(client).toContain(
      "At 0 ms, retry would have tried again (retry after UNAVAILABLE (remote), 80 ms).",
    );
  });

  it("was retried in vain", async () => {
    const { client } = await told({ client: retrying, handlers: failing(9).handlers });
    expect(client.slice(0, 2)).toEqual([
      `Call ${method} to dns:host: UNAVAILABLE after 240 ms.`,
      'The server host said so: "not now"',
    ]);
    expect(client.at(-1)).toBe("What to do: grpc-weir/docs/reasons.md#RETRY_ATTEMPTS_SPENT");
  });

  it("an open breaker refused", async () => {
    const { client } = await told(
      {
        client: { retry: false, breaker: { consecutiveFailures: 2, openMs: 500 } },
        handlers: failing(9).handlers,
      },
      async ({ call }) => {
        for (let n = 0; n < 3; n += 1) await call("unary");
      },
    );
    expect(client).toEqual([
      `Call ${method} to dns:host: UNAVAILABLE after 0 ms.`,
      expect.stringMatching(
        /^A policy of this process refused it \(breaker\): "Breaker open: 2 failures in a row; try again in \d+ ms/,
      ),
      "Why: The circuit breaker of this key is open. [BREAKER_OPEN]",
      "Attempt 1: UNAVAILABLE (local-policy) after 0 ms.",
      "At 0 ms, breaker refused it (2 failures in a row) [BREAKER_OPEN].",
      "What to do: grpc-weir/docs/reasons.md#BREAKER_OPEN",
    ]);
  });

  it("a server shed", async () => {
    const { client, server } = await told(
      { client: plain, server: { admission: { limit: 1, maxQueued: 0 } }, handlers: silent },
      async ({ start, call, clock }) => {
        start("unary");
        await clock.pass(3);
        await call("unary");
      },
    );
    const why = `Why: ${meanings.LOAD_SHED} [LOAD_SHED]`;
    const readOn = "What to do: grpc-weir/docs/reasons.md#LOAD_SHED";
    expect(client).toEqual([
      `Call ${method} to dns:host: RESOURCE_EXHAUSTED after 0 ms.`,
      expect.stringMatching(/^The server host said so: "Load shed; try again in \d+ ms/),
      why,
      "Attempt 1: RESOURCE_EXHAUSTED (remote) from host after 0 ms.",
      readOn,
    ]);
    expect(server).toEqual([
      `Inbound call ${method}: RESOURCE_EXHAUSTED after 0 ms.`,
      expect.stringMatching(/^This server refused it \(admission\): "Load shed; try again/),
      why,
      expect.stringMatching(
        /^At 0 ms, admission refused it \(load .* queued 0 of 0\) \[LOAD_SHED\]\.$/,
      ),
      "Priority normal.",
      readOn,
    ]);
  });

  it("ran out of time", async () => {
    const { client, server } = await told({ server: {}, handlers: silent });
    expect(client).toEqual([
      `Call ${method} to dns:host: DEADLINE_EXCEEDED after 1000 ms.`,
      expect.stringMatching(
        /^The call ran out of time \(deadline\): "Deadline exceeded after 1.000s, 1 attempt/,
      ),
      "Why: The deadline passed while the call ran. [DEADLINE_EXCEEDED]",
      'Attempt 1: DEADLINE_EXCEEDED (deadline) from host after 1000 ms: "Deadline exceeded".',
      expect.stringMatching(
        /^At 1000 ms, deadline ended it, because time was up .*\[DEADLINE_EXCEEDED\]\.$/,
      ),
      "Its deadline was 1000 ms after its start; nothing was left at its end.",
      "What to do: grpc-weir/docs/reasons.md#DEADLINE_EXCEEDED",
    ]);
    expect(server).toEqual([
      `Inbound call ${method}: DEADLINE_EXCEEDED after 1000 ms.`,
      "Its deadline passed before the answer.",
      "Its deadline was 1000 ms after its start; nothing was left at its end.",
      "Priority normal.",
    ]);
  });

  it("a hedge won", async () => {
    const clock = new VirtualClock();
    let calls = 0;
    const { client } = await told({
      clock,
      client: { hedge: { delayMs: 50 }, retry: { idempotent: true } },
      handlers: handlers((_call, answer) => {
        calls += 1;
        clock.schedule(calls === 1 ? 500 : 5, answer);
      }),
    });
    expect(client).toEqual([
      `Call ${method} to dns:host: OK after 55 ms.`,
      "Attempt 1: given up, because another one decided the call.",
      "Attempt 2 (hedge, 50 ms later): OK from host after 5 ms.",
      "At 50 ms: hedge after 50 ms without an answer.",
      "Its deadline was 1000 ms after its start; 945 ms were left at its end.",
    ]);
  });

  it("a fallback answered", async () => {
    const { client } = await told({
      client: { retry: false, fallback: { providers: [staticValue(request, { name: "stock" })] } },
      handlers: failing(9).handlers,
    });
    expect(client).toEqual([
      `Call ${method} to dns:host: OK after 0 ms.`,
      'Attempt 1: UNAVAILABLE (remote) from host after 0 ms: "not now".',
      "At 0 ms, fallback answered from another source (stock, instead of UNAVAILABLE).",
      "Its deadline was 1000 ms after its start; 1000 ms were left at its end.",
      "The answer is degraded: fallback stock.",
    ]);
  });

  it("its caller cancelled", async () => {
    const { client, server } = await told(
      { server: {}, handlers: silent },
      async ({ start, clock, link }) => {
        const running = start("unary");
        await clock.pass(5);
        running.cancel();
        await link.until(running.ended, 100);
      },
    );
    expect(client).toEqual([
      `Call ${method} to dns:host: CANCELLED after 5 ms.`,
      'It was cancelled on this side: "Cancelled on client"',
      "Attempt 1: CANCELLED (caller) from host after 5 ms.",
    ]);
    expect(server).toEqual([
      `Inbound call ${method}: CANCELLED after 5 ms.`,
      "The caller left before the answer.",
      "Priority normal.",
    ]);
  });

  it("waited in a queue", async () => {
    const clock = new VirtualClock();
    const { client } = await told(
      {
        clock,
        client: { ...plain, bulkhead: { maxConcurrent: 1, maxQueued: 5, maxWaitMs: 50 } },
        handlers: handlers((_call, answer) => clock.schedule(20, answer)),
      },
      async ({ start, call }) => {
        start("unary");
        await call("unary");
      },
    );
    expect(client).toEqual([
      `Call ${method} to dns:host: OK after 40 ms.`,
      "Attempt 1: OK from host after 40 ms.",
      "At 20 ms, bulkhead had let it wait for 20 ms.",
      "It waited 20 ms in queues.",
    ]);
  });

  it("had many attempts: the first and the last ones", () => {
    const many = explain({
      ...blank,
      attempts: Array.from({ length: 9 }, (_, index) => ({
        number: index + 1,
        cause: "retry",
        delayMs: 1,
        status: "OK",
      })),
    });
    expect(many.split("\n").filter((line) => /^(Attempt|…)/.test(line))).toEqual([
      expect.stringContaining("Attempt 1 "),
      expect.stringContaining("Attempt 2 "),
      expect.stringContaining("Attempt 3 "),
      "… 4 more attempts …",
      expect.stringContaining("Attempt 8 "),
      expect.stringContaining("Attempt 9 "),
    ]);
  });
});

const blank = {
  side: "client",
  method: "/a.B/C",
  target: "",
  startedEpochMs: 0,
  durationMs: 1,
  details: "",
  attemptCount: 0,
  attempts: [],
  decisions: [],
  waits: [],
  degraded: [],
} as const;

describe.each(kinds)("a %s call that grpc-js gave to the user", (kind) => {
  const open = ({ client }: Scene, ended: () => void) => {
    const done = () => ended();
    if (kind === "unary") return client.unary(request, done);
    if (kind === "clientStream") {
      const call = client.clientStream(done);
      call.end();
      return call;
    }
    if (kind === "serverStream") {
      const call = client.serverStream(request);
      return call
        .on("data", () => {})
        .on("error", () => {})
        .on("status", done);
    }
    const call = client.bidiStream();
    call
      .on("data", () => {})
      .on("error", () => {})
      .on("status", done);
    call.end();
    return call;
  };

  it("is explained while it runs, and when it has ended", async () => {
    const clock = new VirtualClock();
    const made = await scene({
      clock,
      client: {},
      handlers: handlers((_call, answer) => clock.schedule(20, answer)),
    });
    let ended = () => {};
    const end = new Promise<void>((resolve) => {
      ended = resolve;
    });
    const call = open(made, () => ended());
    await clock.pass(5);
    expect(made.weir.explain(call)).toMatch(
      /^Call weir\..* runs for 5 ms\.\nAttempt 1: runs on\.$/,
    );
    await made.link.until(end, 1_000);
    expect(made.weir.explain(call)).toMatch(/^Call weir\..* OK after 20 ms\.\nAttempt 1: OK from/);
  });

  it("is explained through interceptors of the user", async () => {
    const own: Interceptor = (options, next) => new InterceptingCall(next(options));
    const made = await scene({ client: {}, ownClient: { interceptors: [own, own] } });
    let ended = () => {};
    const end = new Promise<void>((resolve) => {
      ended = resolve;
    });
    const call = open(made, () => ended());
    await made.link.until(end, 1_000);
    expect(explain(call)).toMatch(/ OK after 0 ms\.\nAttempt 1: OK/);
  });

  it("is explained by its error, which holds the call apart from others that failed alike", async () => {
    const made = await scene({ client: retrying, handlers: failing(3).handlers });
    const first = await made.call(kind);
    expect(explain(first.error)).toContain("UNAVAILABLE after 240 ms");
    expect(explain({ code: first.code, details: "", metadata: first.trailers })).toContain(
      "Attempt 3",
    );
  });
});

describe("a call in its handler", () => {
  it.each([
    ["alone", []],
    [
      "below interceptors of the user",
      [((_method, call) => new ServerInterceptingCall(call)) satisfies ServerInterceptor],
    ],
  ])("is explained %s", async (_what, interceptors) => {
    const texts: string[] = [];
    const { call, link } = await scene({
      client: {},
      server: {},
      ownServer: { interceptors },
      handlers: {
        ...silent,
        unary: (inbound, callback) => {
          texts.push(explain(inbound));
          callback(null, inbound.request);
          setImmediate(() => texts.push(explain(inbound)));
        },
      },
    });
    await link.until(call("unary"), 100);
    await new Promise((resolve) => setImmediate(resolve));
    expect(texts[0]).toMatch(/^Inbound call weir\..* runs for 0 ms\.\nPriority normal\.$/);
    expect(texts[1]).toMatch(/^Inbound call weir\..* OK after 0 ms\./);
  });
});

describe("failures that share their metadata", () => {
  it("are told apart: grpc-js gives all calls of one failed connect the same", async () => {
    const shared = new Metadata();
    const failingBelow: Interceptor = () =>
      new (class extends InterceptingCall {
        constructor() {
          super(undefined as never);
        }
        override start(...[, listener]: Parameters<InterceptingCall["start"]>) {
          const status = { code: Status.UNAVAILABLE, details: "No connection", metadata: shared };
          process.nextTick(() => listener?.onReceiveStatus?.(status));
        }
        override sendMessage() {}
        override sendMessageWithContext() {}
        override halfClose() {}
        override startRead() {}
        override cancelWithStatus() {}
        override getPeer() {
          return "unknown";
        }
      })();
    const weir = createWeir({ clock: new VirtualClock() });
    const { interceptors = [] } = weir.client(plain);
    const [pipeline] = interceptors;
    const errors: ServiceError["metadata"][] = [];
    for (const path of ["/a.B/One", "/a.B/Two"]) {
      const definition = { path, requestStream: false, responseStream: false };
      const options = {
        method_definition: { ...definition, requestSerialize, responseDeserialize },
      };
      const bottom: NextCall = (below) => failingBelow(below, bottom);
      const call = pipeline?.(options, bottom);
      call?.start(new Metadata(), { onReceiveStatus: ({ metadata }) => errors.push(metadata) });
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(errors.map((metadata) => explain({ metadata }).split(":")[0])).toEqual([
      "Call a.B/One",
      "Call a.B/Two",
    ]);
  });
});

const requestSerialize = (bytes: Buffer) => bytes;
const responseDeserialize = requestSerialize;

describe("an error of a guard", () => {
  const clock = new VirtualClock();

  it("is explained as its run, and then as the call that failed inside of it", async () => {
    const made = await scene({ client: plain, handlers: failing(1).handlers });
    const guard = made.weir.guard("stock", { timeouts: { totalMs: 100 } });
    const run = guard
      .run(async () => {
        const { error } = await made.call("unary");
        throw error;
      })
      .catch((error: unknown) => explain(error));
    expect(await made.link.until(run, 1_000)).toMatch(
      /^Guarded run stock: Error after 0 ms\.\nThe work failed: "14 UNAVAILABLE: not now"\n(.*\n)+\nCall weir/,
    );
  });

  it("that refused a run is explained, also on the shortest path", async () => {
    const guard = createWeir({ clock }).guard("db", { breaker: { consecutiveFailures: 1 } });
    await guard.run(() => Promise.reject(new Error("down"))).catch(() => {});
    const error: unknown = await guard.run(() => "never").catch((refused: unknown) => refused);
    expect(explain(error).split("\n")).toEqual([
      "A call ended with UNAVAILABLE; nothing else is kept of it.",
      expect.stringMatching(/^The guard db refused it: "Breaker open: db: 1 failure; try again/),
      "Why: The circuit breaker of this key is open. [BREAKER_OPEN]",
      "What to do: grpc-weir/docs/reasons.md#BREAKER_OPEN",
    ]);
    expect(error).toBeInstanceOf(GuardRejectedError);
  });
});

describe("what is not known", () => {
  const unknown =
    "Nothing is known of this: it is no call, no failure and no finished call that went through grpc-weir.";

  it.each([
    undefined,
    null,
    7,
    "error",
    new Error("of somebody"),
    { call: { call: {} } },
    { side: "client", method: "/a.B/C" },
    { ...blank, attempts: [undefined] },
    new Proxy(
      {},
      {
        get() {
          throw new Error("no");
        },
      },
    ),
  ])("is said in one line (%#)", (subject) => {
    expect(explain(subject)).toBe(unknown);
  });

  it("a call of which objects refer to each other", () => {
    const ring: { call?: unknown } = {};
    ring.call = ring;
    expect(explain(ring)).toBe(unknown);
  });

  it("a refusal by a server that runs the toolkit is explained by its status alone", () => {
    const status = localRejection(refusal("QUEUE_TIMEOUT", "waited 5 ms"));
    expect(explain(status).split("\n")).toEqual([
      "A call ended with RESOURCE_EXHAUSTED; nothing else is kept of it.",
      expect.stringMatching(/^This process refused it: "Waited too long in a queue: waited 5 ms/),
      "Why: The call waited for as long as it may in a queue. [QUEUE_TIMEOUT]",
      "What to do: grpc-weir/docs/reasons.md#QUEUE_TIMEOUT",
    ]);
  });

  it("a text of another program cannot move the cursor of a terminal", () => {
    const call = {
      side: "client",
      method: "/shop.v1.Shop/List\u001b[2J\u009b1m",
      target: "stock\rfine",
      status: "UNAVAILABLE",
      details: "not now\u009b2J",
      durationMs: 1,
      attempts: [],
      decisions: [],
      waits: [],
      degraded: [],
    };
    expect(explain(call)).toContain("Call shop.v1.Shop/List?[2J?1m to stock?fine: UNAVAILABLE");
    expect(explain(call)).not.toMatch(/[^\P{Cc}\n]/u);
  });

  it("a finished call may have been serialised", () => {
    expect(explain(JSON.parse(JSON.stringify({ ...blank, status: "OK", code: 0 })))).toBe(
      "Call a.B/C: OK after 1 ms.",
    );
  });
});

describe("what is said of a reason", () => {
  const page = readFileSync(new URL("../../docs/reasons.md", import.meta.url), "utf8");

  it.each([...refusalReasons, ...decisionReasons])(
    "begins its row in the documents: %s",
    (reason) => {
      expect(page).toContain(
        `| \`${reason}\` | <a id="${reason}"></a>${meanings[reason].slice(0, -1)}`,
      );
    },
  );
});
