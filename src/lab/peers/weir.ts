import { createWeir, type Weir } from "../../weir.js";
import { weirCosts } from "../costs.js";
import { type LabProcess, LabProcessReader } from "../process.js";
import type { Peer } from "./peer.js";

/** The toolkit as it comes: `weir.client()` and `weir.server({ admission: {} })`. */
export const weirDefaults: Peer = {
  name: "weir",
  client: (process) => ({ costs: weirCosts.client, options: weirIn(process).client() }),
  server: (process) => ({
    costs: weirCosts.server,
    interceptors:
      weirIn(process).server({
        // A weir with a clock of its own reads nothing from the process of Node: it is told whom to read.
        admission: { pressure: { reader: new LabProcessReader(process) } },
      }).interceptors ?? [],
  }),
};

/** The same for methods of which is known that they may run twice, as the retries of grpc-js take all to be. */
export const weirIdempotent: Peer = {
  name: "weir, idempotent",
  client: (process) => ({
    costs: weirCosts.client,
    options: weirIn(process).client({ retry: { idempotent: true } }),
  }),
  server: weirDefaults.server,
};

/** What nobody looks at in the lab is off, for speed: it decides nothing. */
function weirIn(process: LabProcess): Weir {
  return createWeir({
    clock: process,
    random: process.random,
    history: false,
    telemetry: { tracing: false, metrics: false },
  });
}
