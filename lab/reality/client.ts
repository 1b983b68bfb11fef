// A client of an incident on real sockets, in a process of its own.
import { Client, credentials, Metadata, status as Status } from "@grpc/grpc-js";
import { obeyOrders } from "../../bench/peer.js";
import { type Priority, priorities } from "../../src/core/priority.js";
import { priorityKey } from "../../src/grpc/metadata.js";
import type { LoadPhase } from "../../src/lab/load.js";
import { type PhaseReport, Tally } from "../../src/lab/tally.js";
import { createWeir } from "../../src/weir.js";
import { realService } from "./service.js";

export type ClientOrder =
  /** Makes calls for so long, as many as are answered, one after another in several places. */
  | { readonly do: "warm"; readonly port: number; readonly policies: boolean; readonly ms: number }
  | CallOrder;

interface CallOrder {
  readonly do: "call";
  /** When the phases begin, on the wall clock. */
  readonly epochMs: number;
  readonly phases: readonly (LoadPhase & { readonly name: string })[];
  readonly perSecond: number;
  readonly deadlineMs: number;
  readonly shares: Readonly<Record<Priority, number>>;
}

export interface ClientAnswer {
  readonly phases?: readonly PhaseReport[];
  readonly error?: string;
}

/** Calls of each client that run at once while it warms up. */
const warmCalls = 5;

/** When calls are due, in milliseconds since the phases begin: a Poisson process with a rate for each phase. */
function dueTimes({ phases, perSecond }: CallOrder): number[] {
  const due: number[] = [];
  let fromMs = 0;
  for (const { ms, load } of phases) {
    const untilMs = fromMs + ms;
    for (let atMs = fromMs; ; ) {
      atMs += -Math.log(1 - Math.random()) / ((perSecond * load) / 1_000);
      if (atMs >= untilMs) break;
      due.push(atMs);
    }
    fromMs = untilMs;
  }
  return due;
}

function drawPriority(shares: Readonly<Record<Priority, number>>): Priority {
  let left = Math.random();
  for (const priority of priorities) {
    left -= shares[priority];
    if (left < 0) return priority;
  }
  return "normal";
}

const { path, requestSerialize, responseDeserialize } = realService.work;
const payload = Buffer.alloc(64, "w");
let client: Client | undefined;

function connect(port: number, policies: boolean): Promise<Client> {
  const options = policies ? createWeir().client() : {};
  const made = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), options);
  client = made;
  return new Promise((resolve, reject) => {
    made.waitForReady(Date.now() + 5_000, (error) => (error ? reject(error) : resolve(made)));
  });
}

/** Until the code of both processes is compiled, a call costs them several times as much. */
async function warm(order: Extract<ClientOrder, { do: "warm" }>): Promise<ClientAnswer> {
  const its = await connect(order.port, order.policies);
  const beginMs = performance.now();
  const place = async () => {
    for (;;) {
      if (performance.now() - beginMs > order.ms) return;
      await new Promise<void>((resolve) => {
        const deadline = Date.now() + 5_000;
        const answered = () => resolve();
        its.makeUnaryRequest(
          path,
          requestSerialize,
          responseDeserialize,
          payload,
          new Metadata(),
          { deadline },
          answered,
        );
      });
    }
  };
  await Promise.all(Array.from({ length: warmCalls }, place));
  return {};
}

async function call(order: CallOrder): Promise<ClientAnswer> {
  const its = client;
  if (its === undefined) throw new Error("calls come after the warming up");
  const { epochMs, phases, deadlineMs, shares } = order;
  const tally = new Tally(phases);
  const metadata = new Map(
    priorities.map((priority) => {
      const said = new Metadata();
      said.set(priorityKey, priority);
      return [priority, said];
    }),
  );
  const due = dueTimes(order);
  let running = 0;
  let next = 0;
  return new Promise((resolve) => {
    const ended = () => {
      if (running > 0 || next < due.length) return;
      its.close();
      resolve({ phases: tally.report() });
    };
    const make = (dueMs: number) => {
      const priority = drawPriority(shares);
      tally.sent(dueMs, priority);
      running += 1;
      const deadline = Date.now() + deadlineMs;
      its.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        payload,
        metadata.get(priority) ?? new Metadata(),
        { deadline },
        (error) => {
          const status = error ?? { code: Status.OK, details: "", metadata: new Metadata() };
          tally.ended(dueMs, Date.now() - epochMs - dueMs, priority, status);
          running -= 1;
          ended();
        },
      );
    };
    const tick = () => {
      const nowMs = Date.now() - epochMs;
      while (next < due.length && (due[next] ?? 0) <= nowMs) {
        make(due[next] ?? 0);
        next += 1;
      }
      if (next < due.length) setTimeout(tick, Math.max(0, (due[next] ?? 0) - nowMs));
    };
    tick();
    ended();
  });
}

obeyOrders<ClientOrder, ClientAnswer>((order) => (order.do === "warm" ? warm(order) : call(order)));
