import { InterceptingCall, type Interceptor, Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { type OwnPart, type OwnPartOfCall, part } from "../../../src/grpc/client/own-part.js";
import { createWeir } from "../../../src/weir.js";
import { failing, handlers, kinds, path, payload, scene } from "../../scene.js";

/** A policy that notes what it is told. */
function noting(): { readonly policy: OwnPart; readonly notes: string[] } {
  const notes: string[] = [];
  const policy: OwnPart = {
    name: "notes",
    onCall(call) {
      notes.push(`call ${call.method} ${call.kind}`);
      return {
        beforeAttempt: ({ number, cause }) => void notes.push(`before ${number} ${cause}`),
        afterAttempt: ({ number, code, origin, details }) =>
          void notes.push(`after ${number} ${Status[code]} ${origin} ${details}`),
        onEnd: ({ code, attempts }) => void notes.push(`end ${Status[code]} ${attempts}`),
      };
    },
  };
  return { policy, notes };
}

const shape = {
  unary: "unary",
  clientStream: "client-stream",
  serverStream: "server-stream",
  bidiStream: "bidi",
} as const;

describe.each(kinds)("a policy of one's own around %s", (method) => {
  it("is told of the call, of each attempt, and of the end, in this order", async () => {
    const { policy, notes } = noting();
    const server = failing(1);
    const { call } = await scene({ handlers: server.handlers, client: { parts: [policy] } });
    expect((await call(method)).code).toBe(Status.OK);
    expect(notes).toEqual([
      `call ${path[method]} ${shape[method]}`,
      "before 1 first",
      "after 1 UNAVAILABLE remote not now",
      "before 2 retry",
      "after 2 OK remote OK",
      "end OK 2",
    ]);
  });

  it("adds metadata to all attempts, and to a single one", async () => {
    const adding: OwnPart = {
      name: "adding",
      onCall(call) {
        call.setMetadata("tenant", "blue");
        return { beforeAttempt: (attempt) => attempt.setMetadata("try", String(attempt.number)) };
      },
    };
    const server = failing(1);
    const given = new Metadata();
    const { call } = await scene({ handlers: server.handlers, client: { parts: [adding] } });
    await call(method, {}, given);
    expect(server.metadata.map((sent) => [sent.get("tenant"), sent.get("try")])).toEqual([
      [["blue"], ["1"]],
      [["blue"], ["2"]],
    ]);
    expect(given.getMap()).toEqual({});
  });

  it("ends a call before it is sent", async () => {
    const told: string[] = [];
    const refusing: OwnPart = {
      name: "refusing",
      onCall(call) {
        call.end({ code: Status.PERMISSION_DENIED, details: "not today" });
        return { onEnd: ({ details }) => void told.push(details) };
      },
    };
    const { policy, notes } = noting();
    const server = failing(0);
    const { call, link, clock } = await scene({
      handlers: server.handlers,
      client: { parts: [policy, refusing] },
    });
    const ended = await call(method);
    expect([ended.code, ended.details]).toEqual([Status.PERMISSION_DENIED, "not today"]);
    expect(server.calls()).toBe(0);
    expect(notes).toEqual([`call ${path[method]} ${shape[method]}`, "end PERMISSION_DENIED 0"]);
    expect(told).toEqual(["not today"]);
    expect([link.inFlight(), clock.pending.refs]).toEqual([0, 0]);
  });
});

describe("a policy of one's own", () => {
  it("harms no call by what its functions throw or return", async () => {
    const reported: string[] = [];
    const throwing = (): never => {
      throw new Error("broken");
    };
    const broken = (name: string, onCall: unknown) => ({ name, onCall }) as OwnPart;
    const parts = [
      broken("a", throwing),
      broken("b", () => "hooks"),
      broken("c", () => ({ onEnd: 3 })),
      broken("d", () => ({ beforeAttempt: throwing, afterAttempt: throwing, onEnd: throwing })),
      broken("e", () => Promise.reject(new Error("late"))),
      broken("f", ({ setMetadata }: Parameters<OwnPart["onCall"]>[0]) => setMetadata("a b", "")),
    ];
    const { call } = await scene({
      client: { parts },
      onError: (error) => void reported.push(String(error)),
    });
    expect((await call("unary")).code).toBe(Status.OK);
    expect(reported).toHaveLength(8);
    expect(reported.filter((text) => text === "Error: broken")).toHaveLength(4);
  });

  it("is told how long things took, and of refusals", async () => {
    const ends: unknown[] = [];
    const policy: OwnPart = {
      name: "ends",
      onCall: (call): OwnPartOfCall => ({
        onEnd: ({ code, durationMs, rejection }) => {
          ends.push([code, durationMs, rejection?.reason, call.remainingMs()]);
        },
      }),
    };
    const { call, clock } = await scene({
      handlers: handlers(() => {}),
      client: { parts: [policy], deadline: { defaultMs: 250 } },
    });
    const startedMs = clock.now();
    await call("unary");
    const tookMs = clock.now() - startedMs;
    expect(tookMs).toBeLessThan(260);
    expect(ends).toEqual([
      [Status.DEADLINE_EXCEEDED, expect.closeTo(250, 0), "DEADLINE_EXCEEDED", expect.closeTo(0, 0)],
    ]);
  });

  it("sets no metadata that have been sent, and ends a call at any time", async () => {
    const ends: unknown[] = [];
    const policy: OwnPart = {
      name: "late",
      onCall: (call): OwnPartOfCall => ({
        beforeAttempt() {
          expect(() => call.setMetadata("late", "yes")).toThrow("have been sent");
          setImmediate(() => call.end({ code: Status.ABORTED, details: "enough" }));
        },
        afterAttempt: ({ code, origin }) => ends.push([code, origin]),
      }),
    };
    const { call, link } = await scene({
      handlers: handlers(() => {}),
      client: { parts: [policy] },
    });
    expect((await call("unary")).code).toBe(Status.ABORTED);
    expect(ends).toEqual([[Status.ABORTED, "caller"]]);
    await link.pass(50);
    expect(link.inFlight()).toBe(0);
  });

  it.each(kinds)(
    "ends %s with INTERNAL, and reports it, where its status makes no sense",
    async (method) => {
      const reported: string[] = [];
      let status: unknown;
      const policy: OwnPart = {
        name: "odd",
        onCall(call) {
          call.end(status as Parameters<typeof call.end>[0]);
          return undefined;
        },
      };
      const { call } = await scene({
        client: { parts: [policy] },
        onError: (error) => void reported.push(String(error)),
      });
      const single = method === "unary" || method === "clientStream";
      for (status of [{ code: 99, details: "" }, { details: "none" }, undefined, "OK"]) {
        expect((await call(method)).code).toBe(Status.INTERNAL);
      }
      expect(reported).toHaveLength(4);
      expect(reported[0]).toBe("TypeError: the code of the status must be one of gRPC, and not 99");
      status = { code: Status.OK, details: "done" };
      expect((await call(method)).code).toBe(single ? Status.INTERNAL : Status.OK);
      expect(reported.slice(4)).toEqual(
        single
          ? ["TypeError: a call with a single response cannot end with OK: it has no response"]
          : [],
      );
    },
  );

  it("ends a call from each of its hooks, but not one that has ended", async () => {
    for (const hook of ["beforeAttempt", "afterAttempt", "onEnd"] as const) {
      const policy: OwnPart = {
        name: hook,
        onCall: (call): OwnPartOfCall => ({
          [hook]: () => call.end({ code: Status.ABORTED, details: hook }),
        }),
      };
      const server = failing(1);
      const { call } = await scene({ handlers: server.handlers, client: { parts: [policy] } });
      const { code } = await call("unary");
      expect([hook, Status[code], server.calls()]).toEqual(
        hook === "onEnd" ? [hook, "OK", 2] : [hook, "ABORTED", hook === "afterAttempt" ? 1 : 0],
      );
    }
  });

  it("ends a call behind an attempt that was answered, too", async () => {
    const policy: OwnPart = {
      name: "strict",
      onCall: (call): OwnPartOfCall => ({
        afterAttempt: () => call.end({ code: Status.ABORTED, details: "not good enough" }),
      }),
    };
    const { call } = await scene({ client: { parts: [policy] } });
    expect(Status[(await call("unary")).code]).toBe("ABORTED");
  });

  it("is reported where it returns a misspelt hook, and may have functions of its own", async () => {
    const reported: string[] = [];
    const hooks = { onEnd: () => void ends.push("misspelt"), afterAtempt: () => {} };
    class Own implements OwnPartOfCall {
      onEnd() {
        ends.push(this.counted());
      }
      counted() {
        return "own";
      }
    }
    const ends: string[] = [];
    const { call } = await scene({
      client: {
        parts: [
          { name: "misspelt", onCall: () => hooks },
          { name: "own", onCall: () => new Own() },
        ],
      },
      onError: (error) => void reported.push(String(error)),
    });
    expect((await call("unary")).code).toBe(Status.OK);
    expect(ends).toEqual(["own"]);
    expect(reported).toEqual([
      "TypeError: afterAtempt is not a hook; the hooks of a call are beforeAttempt, afterAttempt, onEnd",
    ]);
  });

  it("tells two calls apart that an interceptor makes with the same options", async () => {
    const told: string[] = [];
    let calls = 0;
    const policy: OwnPart = {
      name: "which",
      onCall() {
        calls += 1;
        const which = calls;
        return { afterAttempt: () => void told.push(`call ${which}`) };
      },
    };
    const twice: Interceptor = (options, nextCall) => {
      const other = nextCall(options);
      other.start(new Metadata(), { onReceiveStatus() {} });
      other.sendMessageWithContext({}, { payload, sequence: 3 });
      other.halfClose();
      return new InterceptingCall(nextCall(options));
    };
    const { call } = await scene({
      handlers: failing(99).handlers,
      client: { parts: [policy], retry: { maxAttempts: 5 } },
      ownClient: { interceptors: [twice] },
    });
    await call("serverStream");
    // Later attempts of the first call are not taken for those of the second.
    expect(told.filter((which) => which === "call 1").length).toBeGreaterThan(1);
  });

  it("stands alone in an array of interceptors", async () => {
    const { policy, notes } = noting();
    const { call } = await scene({
      client: { retry: false },
      ownClient: { interceptors: [part(policy)] },
    });
    expect((await call("unary")).code).toBe(Status.OK);
    expect(notes.at(0)).toMatch(/^call /);
    expect(notes.at(-1)).toBe("end OK 1");
  });

  it.each([
    ["parts", {}, "an array of parts"],
    ["parts[0]", [null], "an object with name and onCall"],
    ["parts[0].name", [{ onCall: (): undefined => undefined }], "a name"],
    ["parts[0].name", [{ name: "", onCall: (): undefined => undefined }], "a name"],
    ["parts[0].onCall", [{ name: "x" }], "a function"],
  ])("is refused by name where client.%s is %o", (option, given, rule) => {
    const parts = given as OwnPart[];
    expect(() => createWeir().client({ parts })).toThrow(`client.${option} must be ${rule}`);
  });

  it("is refused by name where a hook is misspelt beside onCall", () => {
    const misspelt = { name: "it", onCall: () => undefined, onClal: () => {} };
    expect(() => createWeir().client({ parts: [misspelt] })).toThrow(
      "client.parts[0].onClal is not a hook; a part has onCall, which returns beforeAttempt, afterAttempt, onEnd",
    );
  });

  it("may be the object of its hooks, too", async () => {
    const ends: number[] = [];
    class Both implements OwnPart, OwnPartOfCall {
      readonly name = "both";
      onCall() {
        return this;
      }
      onEnd({ code }: { readonly code: Status }) {
        ends.push(code);
      }
    }
    const { call } = await scene({ client: { parts: [new Both()] } });
    await call("unary");
    expect(ends).toEqual([Status.OK]);
  });

  it("is refused alone where it is none", () => {
    expect(() => part({} as OwnPart)).toThrow("part.name must be a name");
    const { policy } = noting();
    expect(() => part(policy, { unknown: 1 } as object)).toThrow(/unknown/);
  });
});
