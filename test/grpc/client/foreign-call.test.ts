import { Metadata, type NextCall, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { CallKind, ClientCall, ClientListener } from "../../../src/grpc/types.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import {
  callOf,
  ended,
  FakeCall,
  failing,
  fakeBelow,
  Hearer,
  kinds,
  optionsOf,
  settled,
  Writes,
} from "./fake-call.js";
import { PlainCall } from "./put-off-call.js";
import { relaunching } from "./relaunching-call.js";

// What stands below may be anybody's. A call of the toolkit has to bear it, with further attempts and without.
const above = {
  "plain call": (kind, nextCall) => new PlainCall(optionsOf(kind), nextCall),
  "replayable call": (kind, nextCall) => {
    const { interceptor, calls } = relaunching(new VirtualClock(), { attempts: 1 });
    interceptor(optionsOf(kind), nextCall);
    const [call] = calls;
    if (call === undefined) throw new Error("no call was made");
    return call;
  },
} as const satisfies Record<string, (kind: CallKind, nextCall: NextCall) => ClientCall>;

const methods = ["start", "sendMessageWithContext", "halfClose", "startRead"] as const;

/** Does all that a caller does, as far as the call bears it; returns what is heard. */
async function run(call: ClientCall, hearer: Hearer, writes = new Writes()): Promise<string[]> {
  call.start(new Metadata(), hearer);
  call.sendMessageWithContext(writes.context(), "a");
  call.halfClose();
  call.startRead();
  expect(hearer.heard, "while the caller is in a call of its own").toEqual([]);
  await settled();
  return hearer.heard;
}

function cases(): [keyof typeof above, CallKind][] {
  const names: (keyof typeof above)[] = ["plain call", "replayable call"];
  return names.flatMap((name) => kinds.map((kind): [keyof typeof above, CallKind] => [name, kind]));
}

describe.each(cases())("a %s of kind %s over a call of somebody else's", (name, kind) => {
  const make = (nextCall: NextCall) => above[name](kind, nextCall);

  // A replayable call reads for each attempt itself, and grpc-js reads a single response.
  const single = kind === "unary" || kind === "client-stream";
  const told = methods.filter(
    (method) => method !== "startRead" || name === "plain call" || !single,
  );

  it.each(told)("ends once when %s throws", async (method) => {
    const below = new FakeCall(optionsOf(kind));
    below.eager = true;
    below[method] = () => {
      throw new Error("broken");
    };
    const hearer = new Hearer();
    const writes = new Writes();
    const heard = await run(
      make(() => below),
      hearer,
      writes,
    );
    expect(heard).toEqual(failing(kind, status.INTERNAL));
    expect(hearer.statuses[0]?.details).toBe("Call could not be started: broken");
    expect(writes.counts).toEqual([1]);
    expect(below.log.at(-1)).toMatch(/^cancel /);
  });

  it.each(told)("is told later of an end that comes inside %s", async (method) => {
    const below = new FakeCall(optionsOf(kind));
    below.eager = true;
    const original = below[method].bind(below) as (...given: unknown[]) => void;
    below[method] = (...given: unknown[]) => {
      original(...given);
      below.end(ended(status.ABORTED, "at once"));
    };
    const writes = new Writes();
    const heard = await run(
      make(() => below),
      new Hearer(),
      writes,
    );
    expect(heard).toEqual(failing(kind, status.ABORTED));
    expect(writes.counts).toEqual([1]);
  });

  it.each([
    ["nothing", undefined],
    ["null", null],
    ["a promise", Promise.resolve()],
  ])("ends with a clear status when an interceptor returns %s for a call", async (_what, given) => {
    const hearer = new Hearer();
    const heard = await run(
      make(() => given as never),
      hearer,
    );
    expect(heard).toEqual(failing(kind, status.INTERNAL));
    expect(hearer.statuses[0]?.details).toBe(
      "Call could not be started: an interceptor returned no call",
    );
  });

  it.each([
    ["a status that is undefined", undefined, status.UNKNOWN],
    ["a status without metadata", { code: status.ABORTED, details: "" }, status.ABORTED],
    ["a status with an object for metadata", { code: 5, details: "", metadata: {} }, 5],
    ["a status without a code", { details: "mine" }, status.UNKNOWN],
  ])("ends with %s", async (_what, given, code) => {
    const { calls, nextCall } = fakeBelow(true);
    const hearer = new Hearer();
    await run(make(nextCall), hearer);
    callOf(calls).end(given as never);
    await settled();
    expect(hearer.heard).toEqual(failing(kind, code));
    expect(hearer.statuses[0]?.metadata).toBeInstanceOf(Metadata);
  });

  it("is cancelled, though the call below has no answer to it, or throws", async () => {
    for (const answer of [
      () => {},
      () => {
        throw new Error("broken");
      },
    ]) {
      const { calls, nextCall } = fakeBelow(true);
      const call = make(nextCall);
      const hearer = new Hearer();
      await run(call, hearer);
      callOf(calls).cancelWithStatus = answer;
      call.cancelWithStatus(status.CANCELLED, "enough");
      expect(hearer.heard).toEqual([]);
      await settled();
      expect(hearer.heard).toEqual(failing(kind, status.CANCELLED));
    }
  });

  it("ends when nobody tells its peer, and has none then", async () => {
    const { calls, nextCall } = fakeBelow(true);
    const call = make(nextCall);
    const hearer = new Hearer();
    await run(call, hearer);
    const broken = () => {
      throw new Error("broken");
    };
    Object.assign(callOf(calls), { getPeer: broken, getAuthContext: broken });
    // It is still known where the call goes: what was told when its attempt was made.
    expect(call.getPeer()).toBe("10.0.0.1:443");
    expect(call.getAuthContext()).toBeNull();
    callOf(calls).end(ended(status.ABORTED));
    expect(hearer.heard).toEqual(failing(kind, status.ABORTED));
  });

  it("tells no null behind a message, and one null where the call below tells one itself", async () => {
    const { calls, nextCall } = fakeBelow(true);
    const hearer = new Hearer();
    await run(make(nextCall), hearer);
    callOf(calls).headers();
    callOf(calls).message("x");
    callOf(calls).end(ended(status.ABORTED));
    expect(hearer.heard).toEqual(["headers", "message x", "status ABORTED"]);

    if (!single) return;
    const second = fakeBelow(true);
    const other = new Hearer();
    await run(make(second.nextCall), other);
    callOf(second.calls).message(null);
    callOf(second.calls).end(ended(status.ABORTED));
    expect(other.heard).toEqual(failing(kind, status.ABORTED));
  });

  it("tells the end whatever a listener above throws before it", async () => {
    const { calls, nextCall } = fakeBelow(true);
    const hearer = new Hearer();
    const broken = () => {
      throw new Error("broken");
    };
    await run(make(nextCall), hearer);
    Object.assign(hearer.on, { headers: broken, message: broken });
    for (const event of [
      () => callOf(calls).headers(),
      () => callOf(calls).message("x"),
      () => callOf(calls).end(ended(status.OK)),
    ]) {
      // As from grpc-js, what a listener throws goes to whoever told it.
      try {
        event();
      } catch (error) {
        expect(error).toEqual(new Error("broken"));
      }
    }
    expect(hearer.heard).toEqual(["headers", "message x", "status OK"]);
  });

  it("hears nothing after the end, and no second one", async () => {
    const { calls, nextCall } = fakeBelow(true);
    let listener: ClientListener | undefined;
    const keeping: NextCall = (options) => {
      const call = nextCall(options);
      const start = call.start.bind(call);
      call.start = (metadata, given) => {
        listener = given as ClientListener;
        start(metadata, given);
      };
      return call;
    };
    const hearer = new Hearer();
    const call = make(keeping);
    await run(call, hearer);
    callOf(calls).end(ended(status.ABORTED));
    listener?.onReceiveMetadata(new Metadata());
    listener?.onReceiveMessage("x");
    listener?.onReceiveStatus(ended(status.OK));
    call.start(new Metadata(), hearer);
    await settled();
    expect(hearer.heard).toEqual(failing(kind, status.ABORTED));
    expect(calls).toHaveLength(1);
  });
});

describe.each(["plain call", "replayable call"] as const)("a unary %s", (name) => {
  it("is served by a call that has the three methods alone that grpc-js asks for", async () => {
    const log: string[] = [];
    const call = above[name]("unary", () => {
      let listener: Partial<ClientListener> | undefined;
      return {
        start(_metadata: Metadata, given: Partial<ClientListener>) {
          listener = given;
        },
        sendMessage: (message: unknown) => log.push(`message ${String(message)}`),
        halfClose() {
          process.nextTick(() => {
            listener?.onReceiveMessage?.("x");
            listener?.onReceiveStatus?.(ended(status.OK));
          });
        },
      } as never;
    });
    const hearer = new Hearer();
    const writes = new Writes();
    call.start(new Metadata(), hearer);
    call.sendMessageWithContext(writes.context(), "a");
    call.halfClose();
    await settled();
    expect(log).toEqual(["message a"]);
    expect(hearer.heard).toEqual(["message x", "status OK"]);
    expect(writes.counts).toEqual([1]);
  });
});
