import { credentials, Metadata, Server, status as Status } from "@grpc/grpc-js";
import { afterEach, expect, it, vi } from "vitest";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { createWeir } from "../../../src/weir.js";
import { handlers, startCall } from "../../scene.js";
import { listen } from "./listen.js";

const open: { close(): void }[] = [];

afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

/** How long the first call takes: so long a slot is kept for a handler that says nothing. */
const usualMs = 1_000;

it.each(["ok", "error"] as const)(
  "over a network, a slot is kept for a handler that nobody waits for, until its late answer is %s",
  async (how) => {
    const weir = createWeir();
    const late: (() => void)[] = [];
    const server = new Server(weir.server({ admission: { limit: 1, maxQueued: 0 } }));
    server.addService(
      ConformanceServiceService,
      handlers((call, answer) => {
        const fail = () => call.fail({ code: Status.INTERNAL, details: "late" });
        late.push(how === "ok" ? answer : fail);
        if (late.length === 1) setTimeout(answer, usualMs);
      }),
    );
    const port = await listen(server);
    const client = new ConformanceServiceClient(`127.0.0.1:${port}`, credentials.createInsecure());
    open.push(client, { close: () => server.forceShutdown() }, weir);
    const unary = () => startCall(client, "unary", {}, new Metadata());
    const slots = () => weir.policy("admission").snapshot()[0];

    expect((await unary().ended).code).toBe(Status.OK);
    const left = unary();
    await vi.waitFor(() => expect(late).toHaveLength(2));
    left.cancel();
    await vi.waitFor(() => expect(slots()).toMatchObject({ running: 1, abandoned: 1 }), 800);
    expect((await unary().ended).code).toBe(Status.RESOURCE_EXHAUSTED);
    late[1]?.();
    // At once, and not when the time of a handler that says nothing is over.
    expect(slots()).toMatchObject({ running: 0, abandoned: 0 });
  },
);
