import { isIP } from "node:net";
import { status as Status } from "@grpc/grpc-js";
import type { Attributes } from "@opentelemetry/api";

/**
 * The attributes of the OpenTelemetry semantic conventions that the toolkit sets. Copied, so that the
 * package need not be installed; a test compares them with it.
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

/** The attributes of gRFC A72 on the span of an attempt. */
export const grfc = {
  /** How many attempts of the same call came before. On server spans only where there were some. */
  previousAttempts: "previous-rpc-attempts",
  /** Always false: the retries inside grpc-js cannot be seen from an interceptor. */
  transparentRetry: "transparent-retry",
} as const;

/** The toolkit's own attributes. There are no conventions for what they say. */
export const own = {
  /** Attempt: 1 for the first of its call. */
  attemptNumber: "weir.attempt.number",
  /** Attempt: why it was started: `first`, `retry` or `hedge`. */
  attemptCause: "weir.attempt.cause",
  /** Attempt, after the first: how long the call waited before it, in milliseconds. */
  attemptDelayMs: "weir.attempt.delay_ms",
  /** Attempt, after a failed one: the name of the code which that one ended with. */
  attemptAfter: "weir.attempt.after",
  /** Attempt: where its status came from, such as `remote`, `transport`, `never-sent`, `deadline`. */
  attemptOrigin: "weir.attempt.origin",
  /** Attempt: true when another attempt decided the call and this one was called off. It is no error then. */
  attemptSuperseded: "weir.attempt.superseded",
  /** Attempt: what was put in on purpose, such as `latency` and `status`; absent where nothing was. */
  attemptFaults: "weir.attempt.faults",
  /** Call: how many attempts were started, refused ones included. */
  callAttempts: "weir.call.attempts",
  /** Call, both sides: `critical`, `high`, `normal` or `low`, where it is known. */
  callPriority: "weir.call.priority",
  /** Call, both sides: the time it was given, in milliseconds from its start; absent without a deadline. */
  callDeadlineMs: "weir.call.deadline_ms",
  /** Call, both sides: why a policy refused it; `docs/reasons.md` explains each. */
  rejectionReason: "weir.rejection.reason",
  /** Client call that was refused: true when this process refused it, false when a server did. */
  rejectionLocal: "weir.rejection.local",
  /** Decision event: the policy that decided. */
  decisionPolicy: "weir.decision.policy",
  /** Decision event: what it did, such as `queue`, `reject`, `retry`. */
  decisionVerdict: "weir.decision.verdict",
  /** Decision event: why, where the verdict does not say it all. */
  decisionReason: "weir.decision.reason",
  /** Decision event: false when the policy only observes. */
  decisionEnforced: "weir.decision.enforced",
  /** Decision event, `queue` and `retry`: how long the call waits or waited, in milliseconds. */
  decisionWaitMs: "weir.decision.wait_ms",
  /** Decision event: the numbers behind it, for a person. */
  decisionDetail: "weir.decision.detail",
} as const;

/** Name of the event that a decision of a policy becomes on the span of its call. */
export const decisionEvent = "weir.decision";

/** Value of `rpc.system.name`. */
export const grpcSystem = "grpc";

/** The name of a status code; a number that is none stands for itself. */
export function statusName(code: number): string {
  return Status[code] ?? String(code);
}

/** `/pkg.Service/Method` → `pkg.Service/Method`. */
export function rpcMethod(path: string): string {
  return path.startsWith("/") ? path.slice(1) : path;
}

/** Schemes that may stand before a name without slashes; in `orders:8443`, `orders` is none. */
const schemes = new Set(["dns", "ipv4", "ipv6", "xds", "passthrough"]);

/**
 * `server.address` and `server.port` of a channel's target. They name what the client was told to reach, not
 * the socket: a target with several addresses, or one that cannot be read, is given whole.
 */
export function serverAttributes(target: string): Attributes {
  if (target === "") return {};
  const [, scheme, authority, path = ""] =
    /^(?:([\w+.-]+):)?(?:\/\/([^/]*)\/)?(.*)$/.exec(target) ?? [];
  if (scheme === "unix") {
    return { [conventional.serverAddress]: authority === undefined ? path : `/${path}` };
  }
  const name =
    scheme === undefined || authority !== undefined || schemes.has(scheme) ? path : target;
  return hostAttributes(name, target);
}

/** The same of an `:authority`. */
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

/** `network.peer.*` of what `getPeer()` says; nothing where that is not the address of a connection. */
export function peerAttributes(peer: string): Attributes {
  if (peer.startsWith("/")) return { [conventional.peerAddress]: peer };
  const [, bracketed, plain, port] = /^(?:\[(.+)\]|(.+)):(\d{1,5})$/.exec(peer) ?? [];
  const address = bracketed ?? plain;
  // Until there is a connection, it is the target.
  if (address === undefined || isIP(address) === 0) return {};
  return { [conventional.peerAddress]: address, [conventional.peerPort]: Number(port) };
}
