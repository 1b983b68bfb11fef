import { createServer } from "node:net";
import { Client, connectivityState, credentials, Metadata, status as Status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { ChannelWatch } from "../../../src/grpc/channel/watch.js";

/** Facts about the channels of grpc-js that the toolkit builds on. They need a socket: a port where nobody listens. */
const same = (bytes: Buffer) => bytes;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise<unknown>((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

const clients: Client[] = [];

async function client(): Promise<Client> {
  const made = new Client(`127.0.0.1:${await freePort()}`, credentials.createInsecure());
  clients.push(made);
  return made;
}

afterEach(() => {
  for (const each of clients.splice(0)) each.close();
});

function call(from: Client, metadata = new Metadata()): Promise<string> {
  return new Promise((resolve) => {
    from.makeUnaryRequest("/t.T/Unary", same, same, Buffer.alloc(0), metadata, (error) =>
      resolve(error === null ? "OK" : `${Status[error.code]} ${error.details}`),
    );
  });
}

describe("a channel of grpc-js", () => {
  it("tells of a failed connection before the calls that waited for it, and repeats its error from memory", async () => {
    const made = await client();
    const watch = ChannelWatch.of(made.getChannel());
    const states: string[] = [];
    watch.subscribe((state) => states.push(connectivityState[state]));
    const numbers = await Promise.all(
      [call(made), call(made)].map(async (ended) => {
        expect(await ended).toMatch(/^UNAVAILABLE No connection established/);
        return watch.failures;
      }),
    );
    expect(numbers).toEqual([1, 1]);
    expect(await call(made)).toMatch(/^UNAVAILABLE No connection established/);
    expect(states).toEqual(["CONNECTING", "TRANSIENT_FAILURE"]);
    expect(watch.failures).toBe(1);
  });

  it("says that it is closed from inside closing, before calls that wait have their ends", async () => {
    const made = await client();
    const watch = ChannelWatch.of(made.getChannel());
    const order: string[] = [];
    watch.subscribe((state) => order.push(connectivityState[state]));
    const waiting = call(made, new Metadata({ waitForReady: true })).then((end) => order.push(end));
    made.close();
    await waiting;
    expect(order).toEqual([
      "CONNECTING",
      "SHUTDOWN",
      "UNAVAILABLE Channel closed before call started",
    ]);
  });

  it("is revived when it is asked to connect after closing, and its watch does not believe it", async () => {
    const made = await client();
    const channel = made.getChannel();
    const watch = ChannelWatch.of(channel);
    made.close();
    expect(channel.getConnectivityState(false)).toBe(connectivityState.SHUTDOWN);
    channel.getConnectivityState(true);
    expect(channel.getConnectivityState(false)).toBe(connectivityState.CONNECTING);
    expect(watch.closed).toBe(true);
  });
});
