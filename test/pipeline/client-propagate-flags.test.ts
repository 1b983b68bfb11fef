import { propagate, type ServerUnaryCall, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { UnaryRequest, UnaryResponse } from "../../src/gen/weir/v1/conformance.js";
import { echo, handlers, kinds, type Method, type Running, type Scene, scene } from "../scene.js";

const { CANCELLATION, DEADLINE, DEFAULTS } = propagate;
const neither = DEFAULTS & ~CANCELLATION & ~DEADLINE;
type Named = "parent" | "ambient" | "both";

/** How a call that a handler makes ends when the handler's own call is cancelled after 300 ms. */
async function endOf(kind: Method, flags: number | undefined, by: string, named: Named) {
  const back = await scene({
    handlers: handlers((_call, answer) => void back.clock.schedule(1_000, answer)),
  });
  let inner: Running | undefined;
  const front: Scene = await scene({
    clock: back.clock,
    // Without the toolkit on the server, `parent` is all there is.
    server: named === "parent" ? undefined : {},
    handlers: {
      ...echo,
      unary(call: ServerUnaryCall<UnaryRequest, UnaryResponse>) {
        inner = back.start(kind, {
          ...(named === "ambient" ? {} : { parent: call }),
          ...(flags === undefined ? {} : { propagate_flags: flags }),
        });
      },
    },
  });
  const { clock } = front;
  const beganMs = clock.now();
  const outer = front.start("unary", by === "deadline" ? { deadline: clock.wallNow() + 300 } : {});
  await front.link.pass(by === "deadline" ? 301 : 300);
  if (by === "cancel") outer.cancel();
  const ended = await front.link.until(inner?.ended ?? Promise.reject(new Error("no call")));
  const soon = clock.now() - beganMs < 400;
  return `${Status[ended.code]}${soon ? "" : " later"}`;
}

describe.each(kinds)("a %s of a handler", (kind) => {
  it.each([
    ["parent", undefined, "cancel", "CANCELLED"],
    ["parent", CANCELLATION, "cancel", "CANCELLED"],
    ["parent", DEADLINE, "cancel", "OK later"],
    ["parent", neither, "cancel", "OK later"],
    ["parent", DEADLINE, "deadline", "DEADLINE_EXCEEDED"],
    ["parent", CANCELLATION, "deadline", "CANCELLED"],
    ["parent", neither, "deadline", "OK later"],
    ["ambient", undefined, "cancel", "CANCELLED"],
    ["ambient", CANCELLATION, "cancel", "CANCELLED"],
    ["ambient", DEADLINE, "cancel", "OK later"],
    ["ambient", undefined, "deadline", "DEADLINE_EXCEEDED"],
    ["ambient", DEADLINE, "deadline", "DEADLINE_EXCEEDED"],
    ["ambient", CANCELLATION, "deadline", "CANCELLED"],
    ["ambient", neither, "deadline", "OK later"],
    ["both", neither, "cancel", "OK later"],
    ["both", neither, "deadline", "OK later"],
    ["both", DEADLINE, "deadline", "DEADLINE_EXCEEDED"],
  ] as const)(
    "that knows its inbound call by %s, with flags %s, ends on its %s with %s",
    async (named, flags, by, expected) => {
      expect(await endOf(kind, flags, by, named)).toBe(expected);
    },
  );
});
