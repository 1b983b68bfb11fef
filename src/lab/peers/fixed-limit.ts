import { ServerInterceptingCall, status as Status } from "@grpc/grpc-js";
import { bareCosts } from "../costs.js";
import { bare } from "./bare.js";
import type { Peer } from "./peer.js";

/** Ten lines that many servers have: calls above a fixed number of running ones are refused. It is told the right number. */
export const fixedLimit: Peer = {
  name: "fixed limit",
  client: bare.client,
  server: (_process, limit) => {
    let running = 0;
    return {
      costs: bareCosts.server,
      interceptors: [
        (_method, call) =>
          new ServerInterceptingCall(call, {
            start: (next) => {
              let counted = false;
              next({
                onReceiveMetadata: (metadata, pass) => {
                  if (running >= limit) {
                    call.sendStatus({ code: Status.RESOURCE_EXHAUSTED, details: "limit reached" });
                    return;
                  }
                  counted = true;
                  running += 1;
                  pass(metadata);
                },
                onCancel: () => {
                  if (counted) running -= 1;
                },
              });
            },
          }),
      ],
    };
  },
};
