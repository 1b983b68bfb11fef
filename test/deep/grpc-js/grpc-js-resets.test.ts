import { Client, credentials, Metadata, Server, type ServiceError, status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { listen } from "../e2e/listen.js";
import { watching } from "./origin-watch.js";

/** Facts about resets of streams that the toolkit builds on, between a client and a server of grpc-js. */
const same = (bytes: Buffer) => bytes;
const method = (name: string) => ({
  path: `/t.T/${name}`,
  requestStream: false,
  responseStream: false,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
});

const open: { close(): void }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

interface Call {
  readonly cancel: () => void;
  readonly ended: Promise<ServiceError | null>;
}

async function pair() {
  const server = new Server();
  let arrived = 0;
  server.addService(
    { Silent: method("Silent"), Echo: method("Echo") },
    {
      Silent: () => {
        arrived += 1;
      },
      Echo: (call: { request: Buffer }, callback: (error: null, answer: Buffer) => void) =>
        callback(null, call.request),
    },
  );
  const port = await listen(server);
  const peers: string[] = [];
  const client: Client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    interceptors: [
      watching(
        () => client.getChannel().getTarget(),
        ({ evidence }) => peers.push(evidence.peer),
      ),
    ],
  });
  open.push({ close: () => client.close() }, { close: () => server.forceShutdown() });
  const start = (name: string): Call => {
    let cancel = () => {};
    const ended = new Promise<ServiceError | null>((resolve) => {
      const bytes = Buffer.alloc(0);
      const call = client.makeUnaryRequest(
        `/t.T/${name}`,
        same,
        same,
        bytes,
        new Metadata(),
        resolve,
      );
      cancel = () => call.cancel();
    });
    return { cancel, ended };
  };
  /** So many calls that are cancelled when the server has them. */
  const reset = async (times: number): Promise<void> => {
    for (let left = times; left > 0; left -= 50) {
      const due = arrived + 50;
      const calls = Array.from({ length: 50 }, () => start("Silent"));
      while (arrived < due) await new Promise((resolve) => setTimeout(resolve, 1));
      for (const { cancel } of calls) cancel();
      await Promise.all(calls.map(({ ended }) => ended));
    }
  };
  return { start, reset, peers, address: `127.0.0.1:${port}` };
}

/** Whether the call has ended by now, with all that is on its way. */
async function overYet({ ended }: Call): Promise<ServiceError | null | undefined> {
  const soon = new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), 100));
  return Promise.race([ended, soon]);
}

describe("a server of Node", () => {
  it("bears about 1,000 resets in a row, and closes the connection behind them", async () => {
    const { start, reset } = await pair();
    const neighbour = start("Silent");
    await reset(900);
    expect(await overYet(neighbour)).toBeUndefined();
    // It may be closed while these are under way.
    void reset(400).catch(() => {});
    const ended = await neighbour.ended;
    expect(ended?.code).toBe(status.INTERNAL);
    expect(ended?.details).toBe(
      "Received RST_STREAM with code 2 triggered by internal client error: Session closed with error code 2",
    );
  });

  it("takes no call for a reset that is cancelled when it has ended", async () => {
    const { start } = await pair();
    const neighbour = start("Silent");
    for (let i = 0; i < 30; i += 1) {
      const calls = Array.from({ length: 50 }, () => start("Echo"));
      await Promise.all(calls.map(({ ended }) => ended));
      for (const { cancel } of calls) cancel();
    }
    expect(await overYet(neighbour)).toBeUndefined();
  });
});

describe("a call of grpc-js", () => {
  it("tells with its status whether there was a stream that cancelling it has reset", async () => {
    const { start, reset, peers, address } = await pair();
    const early = start("Silent");
    early.cancel();
    await early.ended;
    expect(peers).toEqual([`dns:${address}`]);
    await reset(50);
    expect(new Set(peers.slice(1))).toEqual(new Set([address]));
  });
});
