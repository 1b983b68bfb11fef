import { expect, it } from "vitest";
import {
  authorityAttributes,
  peerAttributes,
  serverAttributes,
} from "../../src/telemetry/attributes.js";

/** `address` or `address port`. */
function read(attributes: ReturnType<typeof serverAttributes>): string {
  return Object.entries(attributes)
    .map(([key, value]) => {
      expect(typeof value).toBe(key.endsWith(".port") ? "number" : "string");
      return String(value);
    })
    .join(" ");
}

it.each([
  ["dns:orders:8443", "orders 8443"],
  ["dns:///orders.example:8443", "orders.example 8443"],
  ["dns://1.2.3.4/grpc.io:50051", "grpc.io 50051"],
  ["dns:///orders", "orders"],
  ["orders:8443", "orders 8443"],
  ["dns:[::1]:50051", "::1 50051"],
  ["ipv4:10.0.0.1:50051", "10.0.0.1 50051"],
  ["ipv6:[2001:db8::1]:50051", "2001:db8::1 50051"],
  ["ipv6:2001:db8::1", "2001:db8::1"],
  ["ipv4:10.0.0.1:1,10.0.0.2:2", "ipv4:10.0.0.1:1,10.0.0.2:2"],
  ["unix:///run/orders.sock", "/run/orders.sock"],
  ["unix:/run/orders.sock", "/run/orders.sock"],
  ["unix:orders.sock", "orders.sock"],
  ["unix-abstract:orders", "unix-abstract:orders"],
  ["xds:///orders.example", "orders.example"],
  ["dns:", "dns:"],
  ["", ""],
])("reads the server from the target %j: %s", (target, expected) => {
  expect(read(serverAttributes(target))).toBe(expected);
});

it.each([
  ["orders.example:8443", "orders.example 8443"],
  ["[::1]:8443", "::1 8443"],
  ["orders.example", "orders.example"],
  ["", ""],
])("reads the server from the authority %j: %s", (authority, expected) => {
  expect(read(authorityAttributes(authority))).toBe(expected);
});

it.each([
  ["127.0.0.1:50051", "127.0.0.1 50051"],
  ["[::1]:50051", "::1 50051"],
  ["::ffff:127.0.0.1:50051", "::ffff:127.0.0.1 50051"],
  ["/run/orders.sock", "/run/orders.sock"],
  ["dns:127.0.0.1:50051", ""],
  ["dns:///orders:8443", ""],
  ["orders:8443", ""],
  ["unknown", ""],
])("reads the other end of the connection from the peer %j: %j", (peer, expected) => {
  expect(read(peerAttributes(peer))).toBe(expected);
});
