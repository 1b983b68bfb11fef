import { isIP } from "node:net";
import type { Attributes } from "@opentelemetry/api";

/**
 * The attributes of the OpenTelemetry semantic conventions that the toolkit sets. They are copied, so that the package of
 * the conventions need not be installed; a test compares them with it.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/rpc/
 */
export const conventional = {
  systemName: "rpc.system.name",
  /** `pkg.Service/Method`. */
  method: "rpc.method",
  /** The name of the code: `OK`, `DEADLINE_EXCEEDED`. */
  statusCode: "rpc.status_code",
  errorType: "error.type",
  serverAddress: "server.address",
  serverPort: "server.port",
  peerAddress: "network.peer.address",
  peerPort: "network.peer.port",
} as const;

/**
 * The attributes of gRFC A72 on the span of an attempt.
 *
 * @see https://github.com/grpc/proposal/blob/master/A72-open-telemetry-tracing.md
 */
export const grfc = {
  /** How many attempts of the same call came before. On server spans only if there were some. */
  previousAttempts: "previous-rpc-attempts",
  /** Always false: an interceptor cannot see the retries inside grpc-js. */
  transparentRetry: "transparent-retry",
} as const;

/** The toolkit's own attributes, for which there are no conventions. */
export const own = {
  /** Attempt: 1 for the first of its call. */
  attemptNumber: "weir.attempt.number",
  /** Attempt: why it was started: `first`, `retry` or `hedge`. */
  attemptCause: "weir.attempt.cause",
  /** Attempt, after the first: how long the call waited before it, in milliseconds. */
  attemptDelayMs: "weir.attempt.delay_ms",
  /** Attempt, after a failed one: the name of the code with which that one ended. */
  attemptAfter: "weir.attempt.after",
  /** Attempt: where its status came from, such as `remote`, `transport`, `never-sent`, `deadline`. */
  attemptOrigin: "weir.attempt.origin",
  /** Attempt: true when another attempt decided the call and this one was cancelled. It is no error then. */
  attemptSuperseded: "weir.attempt.superseded",
  /** Attempt: the injected faults, such as `latency` and `status`; absent if there were none. */
  attemptFaults: "weir.attempt.faults",
  /** Call: how many attempts were started, refused attempts included. */
  callAttempts: "weir.call.attempts",
  /** Call, both sides: `critical`, `high`, `normal` or `low`, if it is known. */
  callPriority: "weir.call.priority",
  /** Call, both sides: the time from its start to its deadline, in milliseconds; absent without a deadline. */
  callDeadlineMs: "weir.call.deadline_ms",
  /** Inbound call: true when it was answered as an earlier call with its idempotency key, and did not run. */
  callReplayed: "weir.call.replayed",
  /** Call, both sides: the reason code of the refusal; see `docs/reasons.md`. */
  rejectionReason: "weir.rejection.reason",
  /** Client call that was refused: whether this process refused it, and not a server. */
  rejectionLocal: "weir.rejection.local",
  /** Wait: `queue`, `backoff`, `connection` or `event_loop`. */
  waitKind: "weir.wait.kind",
  /** Wait: the policy that made the call wait; absent where none did. */
  waitPolicy: "weir.wait.policy",
  /** Decision event: the policy that took the decision. */
  decisionPolicy: "weir.decision.policy",
  /** Decision event: what the policy did, such as `queue`, `reject`, `retry`. */
  decisionVerdict: "weir.decision.verdict",
  /** Decision event: the reason code, if the verdict alone does not say why. */
  decisionReason: "weir.decision.reason",
  /** Decision event: false when the policy only observes. */
  decisionEnforced: "weir.decision.enforced",
  /** Decision event, `queue` and `retry`: how long the call waits or waited, in milliseconds. */
  decisionWaitMs: "weir.decision.wait_ms",
  /** Decision event: the numbers behind the decision, for a person. */
  decisionDetail: "weir.decision.detail",
} as const;

/** The name of the events for decisions, on the span of the call. */
export const decisionEvent = "weir.decision";

/** The value of `rpc.system.name`. */
export const grpcSystem = "grpc";

export { statusName } from "../grpc/context/finished-call.js";

/** `/pkg.Service/Method` → `pkg.Service/Method`. */
export function rpcMethod(path: string): string {
  return path.startsWith("/") ? path.slice(1) : path;
}

/** The schemes that may stand before a name without slashes. In `orders:8443`, `orders` is the host and no scheme. */
const schemes = new Set(["dns", "ipv4", "ipv6", "xds", "passthrough"]);

/**
 * `server.address` and `server.port` of the target of a channel. They name what the client was configured to reach, and
 * not the socket. A target with several addresses, or one that cannot be parsed, becomes the address as a whole.
 */
export const serverAttributes = remembered((target: string): Attributes => {
  if (target === "") return {};
  const [, scheme, authority, path = ""] =
    /^(?:([\w+.-]+):)?(?:\/\/([^/]*)\/)?(.*)$/.exec(target) ?? [];
  if (scheme === "unix") {
    return { [conventional.serverAddress]: authority === undefined ? path : `/${path}` };
  }
  const name =
    scheme === undefined || authority !== undefined || schemes.has(scheme) ? path : target;
  return hostAttributes(name, target);
});

/** The target as a URI with its scheme, as gRFC A66 writes it: `dns:orders:443` → `dns:///orders:443`. */
export function canonicalTarget(target: string): string {
  if (/^[\w+.-]+:\/\//.test(target)) return target;
  const [, scheme = "", rest = ""] = /^([\w+.-]+):(.*)$/.exec(target) ?? [];
  const known = schemes.has(scheme) || scheme.startsWith("unix");
  return known ? `${scheme}:///${rest.replace(/^\//, "")}` : `dns:///${target}`;
}

/** `server.address` and `server.port` of an `:authority`. */
export function authorityAttributes(authority: string): Attributes {
  return authority === "" ? {} : hostAttributes(authority, authority);
}

function hostAttributes(name: string, whole: string): Attributes {
  const [, bracketed, plain, port] =
    /^(?:\[([^\]]+)\]|([^:,[\]]+))(?::(\d{1,5}))?$/.exec(name) ?? [];
  const host = bracketed ?? plain ?? (isIP(name) === 6 ? name : whole);
  if (port === undefined) return { [conventional.serverAddress]: host };
  return { [conventional.serverAddress]: host, [conventional.serverPort]: Number(port) };
}

/** `network.peer.*` of the result of `getPeer()`; empty if that is not the address of a connection. */
export const peerAttributes = remembered((peer: string): Attributes => {
  if (peer.startsWith("/")) return { [conventional.peerAddress]: peer };
  const [, bracketed, plain, port] = /^(?:\[(.+)\]|(.+)):(\d{1,5})$/.exec(peer) ?? [];
  const address = bracketed ?? plain;
  // Until there is a connection, `getPeer()` gives the target.
  if (address === undefined || isIP(address) === 0) return {};
  return { [conventional.peerAddress]: address, [conventional.peerPort]: Number(port) };
});

/** The same function, which remembers its last answer: most calls are to the target and peer of the call before. */
function remembered(read: (text: string) => Attributes): (text: string) => Attributes {
  let last: { readonly text: string; readonly attributes: Attributes } | undefined;
  return (text) => {
    if (last?.text !== text) last = { text, attributes: Object.freeze(read(text)) };
    return last.attributes;
  };
}
