import { credentials, Metadata, Server, status as Status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { createWeir } from "../../../src/weir.js";
import { handlers, kinds, startCall } from "../../scene.js";
import { listen } from "./listen.js";

const open: { close(): void }[] = [];

afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

describe.each(kinds)(
  "a %s that is cancelled in the tick that starts it, on a warm channel",
  (method) => {
    it("is cancelled at the server too", async () => {
      const ends: string[] = [];
      let warm = false;
      const server = new Server({
        interceptors: [
          (_method, call) => {
            const start = call.start.bind(call);
            call.start = (listener) => {
              ends.push("begun");
              start({
                onReceiveMetadata: (metadata) => listener.onReceiveMetadata(metadata),
                onReceiveMessage: (message) => listener.onReceiveMessage(message),
                onReceiveHalfClose: () => listener.onReceiveHalfClose(),
                onCancel: () => {
                  ends.push("ended");
                  listener.onCancel();
                },
              });
            };
            return call as never;
          },
        ],
      });
      server.addService(
        ConformanceServiceService,
        handlers((_call, answer) => {
          if (!warm) answer();
          // A handler that would otherwise run until the deadline of the call.
        }),
      );
      const port = await listen(server);
      open.push({ close: () => server.forceShutdown() });
      const client = new ConformanceServiceClient(
        `127.0.0.1:${port}`,
        credentials.createInsecure(),
        createWeir().client(),
      );
      open.push(client);
      const soon = () => ({ deadline: Date.now() + 60_000 });
      expect((await startCall(client, "unary", soon(), new Metadata()).ended).code).toBe(Status.OK);
      warm = true;
      ends.length = 0;
      const running = startCall(client, method, soon(), new Metadata());
      running.cancel();
      expect((await running.ended).code).toBe(Status.CANCELLED);
      // What reached the server, if anything did, has ended there.
      await expect
        .poll(
          () =>
            ends.filter((end) => end === "begun").length -
            ends.filter((end) => end === "ended").length,
          {
            timeout: 5_000,
          },
        )
        .toBe(0);
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect(ends.filter((end) => end === "begun")).toHaveLength(
        ends.filter((end) => end === "ended").length,
      );
    });
  },
);
