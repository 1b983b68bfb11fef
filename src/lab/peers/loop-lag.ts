import { ServerInterceptingCall, status as Status } from "@grpc/grpc-js";
import { bareCosts } from "../costs.js";
import { bare } from "./bare.js";
import type { Peer } from "./peer.js";

/** The defaults of `toobusy-js`. */
const everyMs = 500;
const highWaterMs = 70;
const smoothing = 1 / 3;

/** Refuses calls by how late a timer is, in the manner of `toobusy-js`: a growing share of them above 70 ms. */
export const loopLag: Peer = {
  name: "loop lag",
  client: bare.client,
  server: (process) => {
    let lagMs = 0;
    const measure = () => {
      const dueMs = process.now() + everyMs;
      process.schedule(everyMs, () => {
        const lateMs = Math.max(0, process.now() - dueMs);
        lagMs = smoothing * lateMs + (1 - smoothing) * lagMs;
        measure();
      });
    };
    measure();
    return {
      costs: bareCosts.server,
      interceptors: [
        (_method, call) =>
          new ServerInterceptingCall(call, {
            start: (next) =>
              next({
                onReceiveMetadata: (metadata, pass) => {
                  const refused = process.random() < (lagMs - highWaterMs) / highWaterMs;
                  if (!refused) pass(metadata);
                  else call.sendStatus({ code: Status.RESOURCE_EXHAUSTED, details: "too busy" });
                },
              }),
          }),
      ],
    };
  },
};
