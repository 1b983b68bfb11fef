import { isRecord } from "../../core/options.js";
import type { ClientPolicy } from "../../pipeline/client.js";
import type { ServerPolicy } from "../../pipeline/server.js";
import type { AdmissionOptions } from "../../policies/admission/options.js";
import { createWeir, type Weir } from "../../weir.js";
import { weirCosts } from "../costs.js";
import { type LabProcess, LabProcessReader } from "../process.js";
import type { BreakerReading, ServerReading } from "../timeline.js";
import type { Peer } from "./peer.js";

/** Policies of the toolkit, as data. */
export interface WeirPolicies {
  /** The options of `weir.client()`. @defaultValue none: its defaults */
  readonly client?: ClientPolicy;
  /** The options of `weir.server()`. @defaultValue `{ admission: {} }`: a limit that is learnt */
  readonly server?: ServerPolicy;
}

/** The toolkit with these policies. */
export function weirPeer(name: string, policies: WeirPolicies = {}): Peer {
  const { client = {}, server = { admission: {} } } = policies;
  return {
    name,
    client: (process) => {
      const weir = weirIn(process);
      return {
        costs: weirCosts.client,
        options: weir.client(client),
        breakers: () => breakersOf(weir),
      };
    },
    server: (process) => {
      const weir = weirIn(process);
      const { interceptors = [] } = weir.server(readBy(new LabProcessReader(process), server));
      return {
        costs: weirCosts.server,
        interceptors,
        reading: () => readingOf(weir),
        drain: (drained, exit) => void weir.drain(drained).then(exit),
      };
    },
  };
}

/** A weir with a clock of its own reads nothing from the process of Node: it is told whom to read. */
function readBy(reader: LabProcessReader, policy: ServerPolicy): ServerPolicy {
  // What is no object is left to the check of the toolkit.
  const { admission = false }: ServerPolicy = isRecord(policy) ? policy : {};
  if (admission === false || !isRecord(admission)) return policy;
  const { pressure }: AdmissionOptions = admission;
  if (!isRecord(pressure)) return policy;
  return { ...policy, admission: { ...admission, pressure: { ...pressure, reader } } };
}

/** The toolkit as it comes: `weir.client()` and `weir.server({ admission: {} })`. */
export const weirDefaults = weirPeer("weir");

/** The same for methods of which is known that they may run twice, as the retries of grpc-js take all to be. */
export const weirIdempotent = weirPeer("weir, idempotent", {
  client: { retry: { idempotent: true } },
});

const weirs = new WeakMap<LabProcess, Weir>();

/** The weir of a process. What nobody looks at in the lab is off, for speed: it decides nothing. */
function weirIn(process: LabProcess): Weir {
  const known = weirs.get(process);
  if (known !== undefined) return known;
  const weir = createWeir({
    clock: process,
    random: process.random,
    history: false,
    telemetry: { tracing: false, metrics: false },
  });
  weirs.set(process, weir);
  return weir;
}

function breakersOf(weir: Weir): BreakerReading {
  const counts = { closed: 0, halfOpen: 0, open: 0 };
  for (const { breakers } of weir.policy("breaker").snapshot()) {
    for (const { state } of Object.values(breakers)) {
      if (state === "half-open") counts.halfOpen += 1;
      else if (state === "open" || state === "forced-open") counts.open += 1;
      else counts.closed += 1;
    }
  }
  return counts;
}

function readingOf(weir: Weir): ServerReading | undefined {
  const [admission] = weir.policy("admission").snapshot();
  if (admission === undefined) return undefined;
  const { running, queued, limit } = admission;
  return { running, queued, limit: Number.isFinite(limit) ? limit : undefined };
}
