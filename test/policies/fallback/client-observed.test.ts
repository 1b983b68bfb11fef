import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { degradationOf } from "../../../src/grpc/status/degraded.js";
import {
  alternative,
  empty,
  staticValue,
  value,
} from "../../../src/policies/fallback/client-providers.js";
import { staleCache } from "../../../src/policies/fallback/stale-cache/client-cache.js";
import { echo, failing, handlers } from "../../scene.js";
import { fallbackScene, message, replaceable, within } from "./client-scene.js";

describe.each(replaceable)("a fallback that observes calls of %s", (method) => {
  it("records what it would have answered, and lets the call fail", async () => {
    const made = await fallbackScene({
      mode: "observe",
      providers: [staticValue(message(1), { when: () => false, name: "other" }), empty()],
    });
    const { code, trailers } = await made.call(method);
    expect([code, degradationOf(trailers)]).toEqual([Status.UNAVAILABLE, []]);
    expect(made.decisions).toMatchObject([
      {
        policy: "fallback",
        verdict: "fallback",
        enforced: false,
        detail: "empty, instead of UNAVAILABLE",
      },
    ]);
    expect(made.provider("empty")).toMatchObject({ observed: 1, answered: 0, running: 0 });
    expect(made.numbers().unanswered).toBe(0);
  });

  it("would replace headers alone for a single response only: a stream has begun with them", async () => {
    const fails = { code: Status.UNAVAILABLE, details: "after headers" };
    const made = await fallbackScene(
      { mode: "observe", providers: [empty()] },
      {
        handlers: {
          ...echo,
          unary: (call, callback) => {
            call.sendMetadata(new Metadata());
            made.clock.schedule(10, () => callback(fails));
          },
          serverStream: (call) => {
            call.sendMetadata(new Metadata());
            made.clock.schedule(10, () => call.emit("error", fails));
          },
        },
      },
    );
    expect((await made.call(method)).code).toBe(Status.UNAVAILABLE);
    expect(made.provider("empty")?.observed).toBe(method === "unary" ? 1 : 0);
  });

  it("records nothing while it is off", async () => {
    const made = await fallbackScene({ mode: "off", providers: [empty()] });
    expect((await made.call(method)).code).toBe(Status.UNAVAILABLE);
    expect(made.decisions).toEqual([]);
    expect(made.provider("empty")).toMatchObject({ observed: 0 });
  });

  it("says nothing of a failure that none of its providers is for", async () => {
    const made = await fallbackScene({
      mode: "observe",
      providers: [empty({ when: () => false })],
    });
    expect((await made.call(method)).code).toBe(Status.UNAVAILABLE);
    expect(made.decisions).toEqual([]);
  });

  it("hands on the headers of the response, before its messages", async () => {
    const headers = new Metadata();
    headers.set("x-served-by", "replica-7");
    const made = await fallbackScene(
      { mode: "observe", providers: [empty()] },
      {
        handlers: {
          ...echo,
          unary: (call, callback) => {
            call.sendMetadata(headers);
            callback(null, call.request);
          },
          serverStream: (call) => {
            call.sendMetadata(headers);
            echo.serverStream(call);
          },
        },
      },
    );
    const heard: unknown[] = [];
    const ended = new Promise((resolve) => {
      const call =
        method === "unary"
          ? made.client.unary(message(1), () => heard.push("message"))
          : made.client.serverStream(message(1)).on("data", () => heard.push("message"));
      call.on("metadata", (metadata: Metadata) => heard.push(metadata.get("x-served-by")[0]));
      call.on("status", resolve);
    });
    await made.link.until(ended, 1e6);
    expect(heard).toEqual(["replica-7", "message"]);
  });

  it("calls no function of the user's", async () => {
    let asked = 0;
    const made = await fallbackScene({
      mode: "observe",
      providers: [
        alternative(() => {
          asked += 1;
          return message(1);
        }),
        value(() => message(2)),
      ],
    });
    expect((await made.call(method)).code).toBe(Status.UNAVAILABLE);
    expect(asked).toBe(0);
    expect(made.provider("alternative")).toMatchObject({ observed: 1 });
    expect(made.provider("value")).toMatchObject({ observed: 0 });
  });

  it("stores answers and looks them up, shares no call and gives none that is fresh", async () => {
    const server = failing(2);
    const made = await fallbackScene(
      { mode: "observe", providers: [staleCache({ shared: true, freshMs: 10_000 })] },
      { handlers: server.handlers },
    );
    await made.call(method);
    expect(made.decisions).toMatchObject([
      { verdict: "stop", reason: "FALLBACK_UNANSWERED", enforced: false },
    ]);
    await made.call(method);
    await made.call(method);
    const both = [made.start(method), made.start(method)];
    await made.link.until(Promise.all(both.map(({ ended }) => ended)), 1e6);
    expect(server.calls()).toBe(5);
    expect(made.numbers().cache).toMatchObject({ stored: 3, fresh: 0, shared: 0, missed: 2 });
  });

  it("takes none of the call's time", async () => {
    const made = await fallbackScene(
      { mode: "observe", reserveMs: 500, providers: [empty()] },
      { handlers: handlers(() => {}) },
    );
    const startMs = made.clock.now();
    const { code } = await made.call(method, within(made, 1_000));
    expect([code, made.clock.now() - startMs]).toEqual([Status.DEADLINE_EXCEEDED, 1_000]);
    expect(made.decisions.filter(({ policy }) => policy === "fallback")).toEqual([]);
  });

  it("keeps its cache when it is switched on", async () => {
    const server = { down: false };
    const made = await fallbackScene(
      { mode: "observe", providers: [staleCache({ shared: true })] },
      {
        handlers: handlers((call, answer) => {
          if (server.down) call.fail({ code: Status.UNAVAILABLE, details: "down" });
          else answer();
        }),
      },
    );
    const { received } = await made.call(method);
    server.down = true;
    made.weir.policy("fallback").mode = "enforce";
    expect((await made.call(method)).received).toEqual(received);
  });
});
