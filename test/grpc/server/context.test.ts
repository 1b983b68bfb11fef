import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { currentCall } from "../../../src/grpc/context/inbound-call.js";
import { echo, handlers, kinds, scene } from "../../scene.js";

describe.each(kinds)("the current call in a handler of %s", (method) => {
  it("tells method, kind, priority and the time that is left", async () => {
    const seen: unknown[] = [];
    const { call, clock } = await scene({
      server: {},
      handlers: handlers((_call, answer) => {
        const current = currentCall();
        seen.push(current?.method, current?.kind, current?.priority, current?.remainingMs());
        answer();
      }),
    });
    const metadata = new Metadata();
    metadata.set("x-request-priority", "high");
    expect((await call(method, { deadline: clock.wallNow() + 500 }, metadata)).code).toBe(0);
    expect(seen.slice(1)).toEqual([
      {
        unary: "unary",
        clientStream: "client-stream",
        serverStream: "server-stream",
        bidiStream: "bidi",
      }[method],
      "high",
      // The wire carries the caller's deadline with its net.
      500,
    ]);
    expect(currentCall()).toBeUndefined();
  });

  it("aborts its signal when the caller cancels", async () => {
    let signal: AbortSignal | undefined;
    const { start, link } = await scene({
      server: {},
      handlers: handlers(() => {
        signal = currentCall()?.signal;
      }),
    });
    const running = start(method);
    await link.pass(10);
    expect(signal?.aborted).toBe(false);
    running.cancel();
    await link.until(running.ended);
    await link.pass(10);
    expect(signal?.aborted).toBe(true);
  });

  it("does not abort its signal when the call ends well", async () => {
    let signal: AbortSignal | undefined;
    const { call, link } = await scene({
      server: {},
      handlers: handlers((_call, answer) => {
        signal = currentCall()?.signal;
        answer();
      }),
    });
    await call(method);
    await link.pass(10);
    expect(signal?.aborted).toBe(false);
  });

  it.each([
    ["nothing", []],
    ["another word", ["urgent"]],
    ["capitals", ["CRITICAL"]],
    ["two values", ["critical", "low"]],
    ["spaces", [" critical "]],
    ["a word of the language", ["__proto__"]],
    ["something huge", ["critical".repeat(500)]],
  ])("has the default priority when the metadata says %s", async (_what, values) => {
    const seen: unknown[] = [];
    const { call } = await scene({
      server: { admission: { priority: { default: "low" } } },
      handlers: handlers((_call, answer) => {
        seen.push(currentCall()?.priority);
        answer();
      }),
    });
    const metadata = new Metadata();
    for (const value of values) metadata.add("x-request-priority", value);
    expect((await call(method, {}, metadata)).code).toBe(Status.OK);
    expect(seen).toEqual(["low"]);
  });
});

describe("a call made by a handler", () => {
  it("carries the priority of the inbound call, where the caller set one", async () => {
    for (const [sent, expected] of [
      ["high", ["high"]],
      [undefined, []],
    ] as const) {
      const seen: unknown[] = [];
      const back = await scene({
        handlers: handlers(({ metadata }, answer) => {
          seen.push(...metadata.get("x-request-priority"));
          answer();
        }),
      });
      const front = await scene({
        clock: back.clock,
        server: {},
        handlers: {
          ...echo,
          unary: (call, callback) => {
            void back.start("unary").ended.then(() => callback(null, call.request));
          },
        },
      });
      const metadata = new Metadata();
      if (sent !== undefined) metadata.set("x-request-priority", sent);
      expect((await front.call("unary", {}, metadata)).code).toBe(0);
      expect(seen).toEqual(expected);
    }
  });
});
