import type { Load } from "./overhead-load.js";
import type { ClientName, ServerName } from "./overhead-variants.js";

/** Who calls whom. A row differs from the first of its group in what is measured, and in nothing else. */
export interface Row {
  readonly title: string;
  readonly client: ClientName;
  readonly server: ServerName;
  readonly target?: Target;
}

export type Figure = "cpuUs" | "perSecond";

/** A ratio that the toolkit shall keep to. */
export interface Target {
  readonly figure: Figure;
  readonly atMost?: number;
  readonly atLeast?: number;
  /** The client of the row that it is compared with. Without it, the first row of the group. */
  readonly to?: ClientName;
}

/** Rows that are measured by turns, and compared with the first of them. */
export interface Group {
  readonly title: string;
  /** What `µs` and `per second` are of. */
  readonly unit: "call" | "message";
  /** Whose CPU time, and whose heap. */
  readonly side: "client" | "server" | "both";
  readonly load: Load;
  /** Of the warm-up, in calls or messages: 1 where a process has made no calls yet, less where it has. */
  readonly warmShare: number;
  /** Latency at half load is measured as well. */
  readonly paced: boolean;
  /** What a call does to the heap of the side is measured as well. */
  readonly heap: boolean;
  /** How many times each call comes to a handler. Where it is 0, all calls are refused. */
  readonly attempts: 0 | 1 | 2;
  readonly rows: readonly [Row, ...Row[]];
}

/** One turn is some 50 ms: short, so that a busy machine disturbs some turns and leaves others alone. */
const unary: Load = { kind: "unary", calls: 500, concurrent: 32, messages: 1 };
const retried: Load = { kind: "retried", calls: 200, concurrent: 32, messages: 1 };
const stream = { calls: 16, concurrent: 8, messages: 250 } as const;

function onClient(client: ClientName, title: string, target?: Target): Row {
  return { title, client, server: "target", ...(target === undefined ? {} : { target }) };
}

function onServer(server: ServerName, title: string, target?: Target): Row {
  return { title, client: "driver", server, ...(target === undefined ? {} : { target }) };
}

const cpuAtMost = (atMost: number): Target => ({ figure: "cpuUs", atMost });

/** How far two processes that do the same differ: what is nearer to 1 is no difference. */
const noise = "bare again";

const streaming = (atMost: number): Group["rows"] => [
  onClient("bare", "bare grpc-js"),
  onClient("again", noise),
  onClient("full", "weir, full", cpuAtMost(atMost)),
];

/** In this order, in which all rows of a group have the same calls behind them. */
export const groups = {
  client: {
    title: "client, unary calls",
    unit: "call",
    side: "client",
    load: unary,
    warmShare: 1,
    paced: true,
    heap: true,
    attempts: 1,
    rows: [
      onClient("bare", "bare grpc-js"),
      onClient("again", noise),
      onClient("defaults", "weir, defaults"),
      onClient("full", "weir, full", cpuAtMost(1.05)),
      onClient("spans", "weir, full, with spans", {
        figure: "cpuUs",
        atMost: 1,
        to: "instrumentation",
      }),
      onClient("retryPolicy", "grpc-js, retryPolicy"),
      onClient("cockatiel", "cockatiel"),
      onClient("niceGrpc", "nice-grpc"),
      onClient("instrumentation", "instrumentation-grpc"),
    ],
  },
  down: {
    title: "client, a message received",
    unit: "message",
    side: "client",
    load: { kind: "down", ...stream },
    warmShare: 4,
    paced: false,
    heap: false,
    attempts: 1,
    rows: streaming(1.02),
  },
  up: {
    title: "client, a message sent",
    unit: "message",
    side: "client",
    load: { kind: "up", ...stream },
    warmShare: 4,
    paced: false,
    heap: false,
    attempts: 1,
    rows: streaming(1.05),
  },
  server: {
    title: "server, unary calls",
    unit: "call",
    side: "server",
    load: unary,
    warmShare: 1,
    paced: true,
    heap: true,
    attempts: 1,
    rows: [
      onServer("bare", "bare grpc-js"),
      onServer("again", noise),
      onServer("weir", "weir with admission", cpuAtMost(1.08)),
    ],
  },
  pair: {
    title: "client and server, unary calls",
    unit: "call",
    side: "both",
    load: unary,
    warmShare: 0.25,
    paced: true,
    heap: false,
    attempts: 1,
    rows: [
      { title: "bare grpc-js on both sides", client: "bare", server: "bare" },
      { title: noise, client: "again", server: "again" },
      {
        title: "weir on both sides",
        client: "full",
        server: "weir",
        target: { figure: "perSecond", atLeast: 0.95 },
      },
    ],
  },
  retried: {
    title: "client, each call is retried once",
    unit: "call",
    side: "client",
    load: retried,
    warmShare: 0.25,
    paced: false,
    heap: false,
    attempts: 2,
    rows: [
      onClient("retryPolicy", "grpc-js, retryPolicy"),
      onClient("full", "weir, full", cpuAtMost(1)),
      onClient("cockatiel", "cockatiel"),
      onClient("niceGrpc", "nice-grpc"),
    ],
  },
  refusal: {
    title: "server, refused calls",
    unit: "call",
    side: "server",
    load: unary,
    warmShare: 1,
    paced: true,
    heap: true,
    attempts: 0,
    rows: [
      onServer("refusingLimit", "a limit of ten lines"),
      onServer("refusingWeir", "weir with admission", cpuAtMost(1.15)),
    ],
  },
} as const satisfies Readonly<Record<string, Group>>;

export type GroupName = keyof typeof groups;

export const groupNames: readonly GroupName[] = Object.keys(groups).filter(
  (name): name is GroupName => Object.hasOwn(groups, name),
);
