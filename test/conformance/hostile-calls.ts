import {
  type ClientOptions,
  type Interceptor,
  Metadata,
  type ServerInterceptor,
  status as Status,
} from "@grpc/grpc-js";
import { BasicTracerProvider } from "@opentelemetry/sdk-trace-base";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as client from "../../src/client.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../src/gen/weir/v1/conformance.js";
import { clientSpans } from "../../src/otel.js";
import * as server from "../../src/server.js";
import {
  type InMemoryTransport,
  inMemoryTransport,
} from "../../src/testing/in-memory/in-memory.js";
import { createWeir, type Weir } from "../../src/weir.js";
import { Dice } from "../race/dice.js";
import { forSeeds } from "../replay.js";
import { handlers, kinds, type Method, startCall } from "../scene.js";
import {
  type Hostility,
  hostileAbove,
  hostileBelow,
  hostileServer,
  onPurpose,
  Witness,
} from "./hostile.js";

const { HOSTILE_SEEDS } = process.env;

// Asked for while the faults are built.
Object.assign(process.env, { GRPC_WEIR_FAULTS: "1" });

/** What every call has, so that it ends where nothing else ends it. */
const deadlineMs = 2_000;
/** When a caller gives up whose call has no deadline of the toolkit's. */
const patienceMs = 5_000;

interface Env {
  readonly weir: Weir;
  readonly env: Pick<InMemoryTransport, "clock" | "random">;
}
interface Subject {
  readonly client?: (made: Env) => readonly Interceptor[] | ClientOptions;
  readonly server?: (made: Env) => readonly ServerInterceptor[];
  /** @defaultValue all four */
  readonly kinds?: readonly Method[];
  /** Something in it ends a call at its deadline. */
  readonly timely?: boolean;
}

const everything = {
  timeouts: { attemptMs: 900, idleMs: 900, connectionMs: 500 },
  idempotencyKey: { honoured: true },
  retry: { maxAttempts: 3 },
  hedge: { delayMs: 40 },
  breaker: {},
  throttle: {},
  rate: { ratePerSecond: 1_000 },
  bulkhead: { maxConcurrent: 2, maxQueued: 10, maxWaitMs: 100 },
  fallback: {
    reserveMs: 100,
    providers: [
      client.staleCache({ shared: true, freshMs: 5 }),
      client.value(() => undefined, { when: () => true }),
    ],
  },
} as const;

const subjects: Readonly<Record<string, Subject>> = {
  "client with its defaults": { client: ({ weir }) => weir.client(), timely: true },
  "client without retries": { client: ({ weir }) => weir.client({ retry: false }), timely: true },
  "client with everything": {
    client: ({ weir }) => weir.client(everything),
    server: ({ weir }) => weir.server({ admission: {} }).interceptors ?? [],
    timely: true,
  },
  "client that observes everything": {
    client: ({ weir }) =>
      weir.client({
        retry: { idempotent: true, mode: "observe" },
        breaker: { mode: "observe" },
        bulkhead: { mode: "observe" },
        fallback: { mode: "observe", providers: [client.empty()] },
      }),
    timely: true,
  },
  context: { client: ({ env }) => [client.context({ clock: env.clock })] },
  deadline: { client: ({ env }) => [client.deadline({ clock: env.clock })], timely: true },
  "idempotency key": {
    client: ({ env }) => [client.idempotencyKey({ clock: env.clock, source: "uuid" })],
  },
  retry: { client: ({ env }) => [client.retry({ ...env, idempotent: true })] },
  hedge: {
    client: ({ env }) => [client.hedge({ ...env, delayMs: 20, retry: { idempotent: true } })],
  },
  breaker: { client: ({ env }) => [client.breaker({ clock: env.clock })] },
  bulkhead: { client: ({ env }) => [client.bulkhead({ clock: env.clock, maxConcurrent: 2 })] },
  throttle: { client: ({ env }) => [client.throttle(env)] },
  timeouts: { client: ({ env }) => [client.timeouts({ clock: env.clock, attemptMs: 900 })] },
  fallback: {
    // Calls with several requests have none.
    kinds: ["unary", "serverStream"],
    client: ({ env }) => [
      client.fallback({ clock: env.clock, onError: () => {}, providers: [client.empty()] }),
    ],
  },
  faults: {
    client: ({ env }) => [
      client.faults({ ...env, latency: { rate: 0.5, ms: 20 }, midStream: { rate: 0.3 } }),
    ],
  },
  spans: {
    client: () => {
      const { call, attempt } = clientSpans({ tracerProvider: new BasicTracerProvider() });
      return [call, attempt];
    },
  },
  "standalone interceptors in a row": {
    client: ({ env }) => [
      client.context({ clock: env.clock }),
      client.deadline({ clock: env.clock }),
      client.retry({ ...env, idempotent: true }),
      client.breaker({ clock: env.clock }),
      client.bulkhead({ clock: env.clock, maxConcurrent: 2 }),
      client.timeouts({ clock: env.clock, attemptMs: 900 }),
    ],
    timely: true,
  },
  "server with its defaults": { server: ({ weir }) => weir.server().interceptors ?? [] },
  "server with everything": {
    server: ({ weir }) =>
      weir.server({
        deadlineGuard: { minRemainingMs: 1 },
        quota: [{ ratePerSecond: 10_000 }],
        bulkhead: { maxConcurrent: 4 },
        admission: { limit: 4, maxQueued: 10, streams: { maxAgeMs: 60_000 } },
        brownout: { optional: { pictures: {} } },
        faults: { latency: { rate: 0.2, ms: 5 } },
      }).interceptors ?? [],
  },
  "server interceptors in a row": {
    server: ({ env }) => [
      server.context({ clock: env.clock }),
      server.deadlineGuard({ clock: env.clock }),
      server.bulkhead({ clock: env.clock, maxConcurrent: 4 }),
      server.admission({ clock: env.clock }),
    ],
  },
};

/**
 * What may reach the process: what a hostile listener throws, and, where no context stands above, what a stream of Node
 * says of a write that is called back twice. With grpc-js it is the same.
 */
const expected = new RegExp(`${onPurpose}|ERR_MULTIPLE_CALLBACK|Callback called multiple times`);

/** Numbers of snapshots that say what is out or waits now. */
const out = /"(running|abandoned|queued|asking|probesOut|active|inFlight|waiting)":(?!0[,}])/;

const startOf = { unary: 0, clientStream: 1, serverStream: 2, bidiStream: 3 } as const;

function isList<T>(given: readonly T[] | object): given is readonly T[] {
  return Array.isArray(given);
}

async function run(subject: Subject, kind: Method, seed: number): Promise<void> {
  const dice = new Dice(seed * 4 + startOf[kind]);
  const transport = inMemoryTransport({ seed });
  const { clock, random } = transport;
  const weir = createWeir({ clock, random, onError: () => {} });
  const made = { weir, env: { clock, random } };
  const witness = new Witness();
  const plans: string[] = [];
  const take = ({ plan, interceptor }: Hostility, where: string): Interceptor => {
    plans.push(`${where}: ${plan}`);
    return interceptor;
  };
  const given = subject.client?.(made) ?? [];
  const options: ClientOptions = isList(given) ? { interceptors: [...given] } : given;
  const row = [...(options.interceptors ?? [])];
  if (subject.client !== undefined) {
    const place = dice.pick("below", "below", "between", "none");
    if (place === "below") row.push(take(hostileBelow(dice, clock), place));
    else if (place === "between" && row.length > 1) {
      const at = 1 + Math.floor(dice.random() * (row.length - 1));
      row.splice(at, 0, take(hostileBelow(dice, clock), `${place}, at ${at}`));
    }
    row.unshift(witness.interceptor);
    if (dice.chance(0.5)) row.unshift(take(hostileAbove(dice, clock), "above"));
  }
  const serverRow = [...(subject.server?.(made) ?? [])];
  if (subject.client === undefined) {
    const hostile = hostileServer(dice, clock);
    const at = Math.floor(dice.random() * (serverRow.length + 1));
    serverRow.splice(at, 0, hostile.interceptor);
    plans.push(`server, at ${at} of ${serverRow.length - 1}: ${hostile.plan}`);
  }
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation: handlers((call, answer) => {
      const does = dice.pick("answers", "answers", "answers late", "fails", "nothing");
      if (does === "answers") answer();
      else if (does === "answers late") clock.schedule(dice.pick(5, 500), answer);
      else if (does === "fails") call.fail({ code: Status.UNAVAILABLE, details: "not now" });
    }),
    clientOptions: { ...options, interceptors: row },
    serverInterceptors: serverRow,
  });
  const stub = link.client(ConformanceServiceClient);
  const strays: unknown[] = [];
  const stray = (error: unknown) => {
    strays.push(error);
  };
  process.on("uncaughtException", stray);
  process.on("unhandledRejection", stray);
  // Under a virtual clock, what would reach the process from a timer reaches whoever lets time pass.
  const pass = async (ms: number) => {
    const untilMs = clock.now() + ms;
    do {
      try {
        await link.pass(Math.max(0, untilMs - clock.now()));
      } catch (error) {
        strays.push(error);
      }
    } while (clock.now() < untilMs);
  };
  const plan = () => `${plans.join("; ")}`;
  try {
    const startedMs = clock.now();
    const cancels: (() => void)[] = [];
    for (let call = 0; call < 3; call += 1) {
      const callOptions = { deadline: clock.wallNow() + deadlineMs };
      try {
        cancels.push(startCall(stub, kind, callOptions, new Metadata()).cancel);
      } catch (error) {
        expect(String(error), plan()).toContain(onPurpose);
      }
      await pass(dice.pick(0, 1, 30));
    }
    await pass(deadlineMs + 100 - (clock.now() - startedMs) + 100);
    // Between the deadline and the caller, an interceptor may keep what the deadline says.
    if (subject.timely === true && !plans.some((each) => each.startsWith("between"))) {
      expect(witness.ends.every(Boolean), `${plan()}: has no end at its deadline`).toBe(true);
    }
    await pass(patienceMs);
    // Twice: an interceptor above may have asked again when the first call was cancelled.
    for (const cancel of [...cancels, ...cancels]) {
      try {
        cancel();
      } catch (error) {
        expect(String(error), plan()).toContain(onPurpose);
      }
      await pass(10);
    }
    expect(witness.ends.every(Boolean), `${plan()}: has no end when it is cancelled`).toBe(true);
    expect(witness.faults, plan()).toEqual([]);
    // The net of grpc-js stands five minutes behind.
    await pass(700_000);
    const unexpected = strays.map(String).filter((text) => !expected.test(text));
    expect(unexpected, plan()).toEqual([]);
    expect(JSON.stringify(weir.snapshot()), plan()).not.toMatch(out);
    expect(clock.pending.refs, `${plan()}: timers are left behind`).toBe(0);
  } finally {
    process.off("uncaughtException", stray);
    process.off("unhandledRejection", stray);
    await link.close();
  }
}

/**
 * Draws hostile interceptors for every subject and kind of call.
 * @param count Seeds for each; HOSTILE_SEEDS in the environment overrides it.
 */
export function hostileCalls(count: number): void {
  const seeds = Array.from({ length: Number(HOSTILE_SEEDS ?? count) }, (_, index) => index + 1);
  describe("a foreign interceptor, whatever it does", () => {
    const events = ["unhandledRejection", "uncaughtException"] as const;
    let ofTheRunner: [(typeof events)[number], NodeJS.UnhandledRejectionListener][] = [];
    beforeAll(() => {
      // What a hostile listener throws reaches the process, as with grpc-js; the runner must not hear it.
      ofTheRunner = events.flatMap((event) =>
        process
          .rawListeners(event)
          .map((listener) => [event, listener] as (typeof ofTheRunner)[number]),
      );
      for (const [event, listener] of ofTheRunner) process.off(event, listener);
    });
    afterAll(() => {
      for (const [event, listener] of ofTheRunner) process.on(event, listener);
    });

    describe.each(Object.entries(subjects))("leaves calls of a %s whole", (_name, subject) => {
      it.each(subject.kinds ?? kinds)("%s", (kind) =>
        forSeeds(seeds, (seed) => run(subject, kind, seed)),
      );
    });
  });
}
