import { credentials, Metadata, Server, ServerCredentials, status as Status } from "@grpc/grpc-js";
import { afterAll, describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { createWeir } from "../../../src/weir.js";
import { echo, handlers, kinds, startCall } from "../../scene.js";

const deadlineMs = 400;
/** More than a busy machine holds an answer up, and less than what a deadline on the wire may be late. */
const marginMs = 40;
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
      const middle = await serve(new Server(weir.server({})), {
        ...echo,
        unary(call, callback) {
          const partial = () => callback(null, call.request);
          if (what === "a call") below.unary(call.request, partial);
          else guard.run(() => new Promise(() => {})).catch(partial);
        },
      });
      const callers = { bare: connect(middle), weir: connect(middle, weir.client()) };
      for (const caller of Object.values(callers)) {
        // The first call makes the connections, and has the code compiled.
        await startCall(caller, kinds[0], { deadline: Date.now() + deadlineMs }, new Metadata())
          .ended;
        const ended: (Status | undefined)[] = [];
        for (let nth = 0; nth < 3; nth += 1) {
          const options = { deadline: Date.now() + deadlineMs };
          ended.push((await startCall(caller, kinds[0], options, new Metadata()).ended).code);
        }
        expect(ended).toEqual([Status.OK, Status.OK, Status.OK]);
      }
    },
    20_000,
  );
});
