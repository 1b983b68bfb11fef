import { credentials, Metadata, Server, ServerCredentials, status as Status } from "@grpc/grpc-js";
import { afterAll, describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { createWeir } from "../../../src/weir.js";
import { echo, handlers, kinds, startCall } from "../../scene.js";

/** Of three calls side by side. What holds the process up at the end of one leaves the others alone. */
const deadlinesMs = [2_000, 2_150, 2_300];
/** More than a busy machine holds an answer up. */
const marginMs = 500;
/** How late the end of what hangs may be, in a process that is not held up: less than a deadline on the wire may be late. */
const lateMs = 40;
const open: { close(): void }[] = [];

afterAll(() => {
  for (const each of open) each.close();
});

async function serve(server: Server, implementation: ConformanceServiceServer): Promise<string> {
  server.addService(ConformanceServiceService, implementation);
  const port = await new Promise<number>((resolve, reject) => {
    const insecure = ServerCredentials.createInsecure();
    server.bindAsync("127.0.0.1:0", insecure, (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  open.push({ close: () => server.forceShutdown() });
  return `127.0.0.1:${port}`;
}

function connect(address: string, options = {}): ConformanceServiceClient {
  const client = new ConformanceServiceClient(address, credentials.createInsecure(), options);
  open.push(client);
  return client;
}

describe("a handler whose own calls and work run out of the time that its caller gave it", () => {
  it.each(["a call", "guarded work"])(
    "answers with what it has, when %s hangs",
    async (what) => {
      const weir = createWeir();
      const silent = await serve(
        new Server(),
        handlers(() => {}),
      );
      const below = connect(silent, weir.client({ deadline: { marginMs } }));
      const guard = weir.guard("db", { marginMs });
      /** How long before the deadlines of their callers the handlers answered. */
      const leftMs: number[] = [];
      const middle = await serve(new Server(weir.server({})), {
        ...echo,
        unary(call, callback) {
          const dueMs = Number(call.metadata.get("due")[0]);
          const partial = () => {
            leftMs.push(dueMs - performance.now());
            callback(null, call.request);
          };
          if (what === "a call") below.unary(call.request, partial);
          else guard.run(() => new Promise(() => {})).catch(partial);
        },
      });
      const callers = [connect(middle), connect(middle, weir.client())];
      const calls = callers.flatMap((caller) =>
        deadlinesMs.map((deadlineMs) => {
          const metadata = new Metadata();
          metadata.set("due", String(performance.now() + deadlineMs));
          const options = { deadline: Date.now() + deadlineMs };
          return startCall(caller, kinds[0], options, metadata).ended;
        }),
      );
      const codes = (await Promise.all(calls)).map(({ code }) => code);
      expect(codes).toEqual(calls.map(() => Status.OK));
      expect(leftMs).toHaveLength(calls.length);
      // In time does not mean by luck: what hangs ends when it should, seen where the machine let the process run.
      expect(Math.max(...leftMs)).toBeGreaterThan(marginMs - lateMs);
    },
    20_000,
  );
});
