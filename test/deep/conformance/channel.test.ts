import { createWeir } from "../../../src/weir.js";
import { overLoopback } from "../../conformance/register.js";

// A client of grpc-js without interceptors, as libraries make them that take a channel.
overLoopback({
  "a channel of a weir": {
    client: (env) => ({
      channelFactoryOverride: (target, credentials, options) =>
        createWeir(env).channel(target, credentials, { bulkhead: {} }, options),
    }),
  },
});
