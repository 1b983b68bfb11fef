import { type ChildProcess, fork } from "node:child_process";
import { stat } from "node:fs";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type ClientOptions, credentials, Metadata, status as Status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { ConformanceServiceClient } from "../../../src/gen/weir/v1/conformance.js";
import type { ClientPolicy } from "../../../src/pipeline/client.js";
import { deadline } from "../../../src/policies/deadline/client.js";
import { timeouts } from "../../../src/policies/deadline/client-attempt-timeouts.js";
import { retry } from "../../../src/policies/retry/client.js";
import { createWeir } from "../../../src/weir.js";
import { kinds, startCall } from "../../scene.js";

/** The server, in a process of its own, answers while ours is held up. */
const answerMs = 60;
const blockFromMs = 30;
const deadlineMs = 150;
/** How late the timers are. */
const lateMs = [3, 25, 55, 500];
/**
 * Starting the calls takes a moment, by which the timers of the first ones are later, and by which the server has less
 * time for them.
 */
const startMs = 16;

let child: ChildProcess;
let address = "";

beforeAll(async () => {
  const program = fileURLToPath(new URL("./programs/late-server.mjs", import.meta.url));
  child = fork(program);
  child.on("message", ({ port }: { port: number }) => {
    address = `127.0.0.1:${port}`;
  });
  await vi.waitFor(() => expect(address).not.toBe(""), { timeout: 15_000 });
});

afterAll(() => {
  child.disconnect();
});

const quiet = { retry: false, breaker: false } as const satisfies ClientPolicy;

/** The time of the call and of the attempt, by a weir and by interceptors that stand alone. */
function clients(attemptMs: number) {
  const weir = createWeir();
  const connect = (options: ClientOptions = {}) =>
    new ConformanceServiceClient(address, credentials.createInsecure(), options);
  return {
    bare: connect(),
    deadline: connect(weir.client(quiet)),
    attempt: connect(weir.client({ ...quiet, timeouts: { attemptMs } })),
    alone: connect({ interceptors: [deadline(), retry()] }),
    attemptAlone: connect({ interceptors: [deadline(), timeouts({ attemptMs })] }),
  };
}

const attempts: readonly string[] = ["attempt", "attemptAlone"];

function hold(untilMs: number): void {
  while (performance.now() < untilMs);
}

/** Hold the process up in each phase of the event loop. Node runs the timers that are due before it reads its sockets. */
const phases: Readonly<Record<string, (holdUp: () => void) => void>> = {
  timers: (holdUp) => setTimeout(holdUp, 0),
  // As a handler that parses a big file would.
  poll: (holdUp) => stat(".", holdUp),
  check: (holdUp) => setImmediate(holdUp),
};

/**
 * One call of each kind by each client, during a pause that ends after all their deadlines have passed.
 *
 * @param slower How many times longer all takes. A busy machine is given more time.
 */
async function round(pause: (holdUp: () => void) => void, late: number, slower: number) {
  const dueMs = deadlineMs * slower;
  const by = clients(dueMs);
  const metadata = new Metadata();
  metadata.set("after-ms", String(answerMs * slower));
  const behind = metadata.clone();
  behind.set("turns", "10");
  // Connections first: their making is not what is timed.
  const first = new Metadata();
  await Promise.all(Object.values(by).map((client) => startCall(client, "unary", {}, first).ended));

  const beganMs = performance.now();
  let over = false;
  // Due before the timers of the calls. What they find unread after this is late.
  setTimeout(() => {
    setImmediate(() => {
      over = true;
    });
  }, dueMs);
  let codes = 0;
  let read = 0;
  let serverLateMs = 0;
  const controls: Promise<void>[] = [];
  const calls = Object.entries(by).map(([name, client]) => {
    const own = attempts.includes(name) ? {} : { deadline: Date.now() + dueMs };
    const running = kinds.map(async (kind) => {
      const { code } = await startCall(client, kind, own, metadata).ended;
      codes += 1;
      return code;
    });
    // By grpc-js alone, without a deadline, and answered behind the others on their connection: when this one has been
    // read, they could be read as well.
    const control = startCall(client, "unary", { interceptors: [] }, behind);
    controls.push(
      control.ended.then(({ trailers }) => {
        if (!over) read += 1;
        serverLateMs = Math.max(serverLateMs, Number(trailers.get("late-ms")[0]));
      }),
    );
    return [name, running] as const;
  });
  const started = performance.now() - beganMs;
  await turn();
  const sent = performance.now() - beganMs;
  await sleep(blockFromMs * slower);
  const endedBefore = await new Promise<number>((resolve) => {
    pause(() => {
      resolve(codes);
      hold(beganMs + started + dueMs + late);
    });
  });
  const ended: Record<string, Status[]> = {};
  for (const [name, running] of calls) {
    ended[name] = await Promise.all(running);
  }
  await Promise.all(controls);
  for (const client of Object.values(by)) client.close();
  // A busy machine may hold up either process at another time than was meant. Such a round shows nothing.
  const meant =
    // Later ones say that the process was held up, a few milliseconds do not.
    (late > startMs || started <= startMs) &&
    sent <= startMs * slower &&
    endedBefore === 0 &&
    read === controls.length &&
    // The server, too, ends a call when its time is up.
    serverLateMs < (dueMs - answerMs * slower) / 2;
  return { ended, meant };
}

describe("a call whose time runs out while the process is held up, its answer unread in the socket", () => {
  it.each(
    Object.entries(phases).flatMap(([phase, pause]) =>
      lateMs.map((late) => ({ phase, pause, late })),
    ),
  )(
    "ends well each time, in the $phase phase and $late ms late",
    async ({ phase, pause, late }) => {
      const rounds: Awaited<ReturnType<typeof round>>["ended"][] = [];
      for (let tries = 0; tries < 12 && rounds.length < 3; tries++) {
        const { ended, meant } = await round(pause, late, 1 + (tries - rounds.length) / 2);
        if (meant) rounds.push(ended);
      }
      const each = (code: Status) => kinds.map(() => code);
      // A busy machine gives fewer rounds that show something; a single one that shows the wrong thing is enough.
      expect(rounds.length).toBeGreaterThan(0);
      expect(rounds).toEqual(
        rounds.map(({ bare }) => ({
          // The measure, where it is certain: grpc-js alone gives up. Behind another timer Node may read first.
          bare: late < 25 || phase === "timers" ? bare : each(Status.DEADLINE_EXCEEDED),
          deadline: each(Status.OK),
          attempt: each(Status.OK),
          alone: each(Status.OK),
          attemptAlone: each(Status.OK),
        })),
      );
    },
    40_000,
  );
});
