import { isIP } from "node:net";
import type { Attributes } from "@opentelemetry/api";
import { conventional } from "./semconv.js";

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
