import { status as Status } from "@grpc/grpc-js";
import * as conventions from "@opentelemetry/semantic-conventions";
import { expect, it } from "vitest";
import packageJson from "../../package.json" with { type: "json" };
import {
  conventional,
  grpcSystem,
  own,
  rpcMethod,
  statusName,
} from "../../src/telemetry/attributes.js";
import { tracerVersion } from "../../src/telemetry/tracing.js";

it("uses the names of the semantic conventions", () => {
  expect(conventional).toEqual({
    systemName: conventions.ATTR_RPC_SYSTEM_NAME,
    method: conventions.ATTR_RPC_METHOD,
    statusCode: conventions.ATTR_RPC_STATUS_CODE,
    errorType: conventions.ATTR_ERROR_TYPE,
    serverAddress: conventions.ATTR_SERVER_ADDRESS,
    serverPort: conventions.ATTR_SERVER_PORT,
    peerAddress: conventions.ATTR_NETWORK_PEER_ADDRESS,
    peerPort: conventions.ATTR_NETWORK_PEER_PORT,
  });
  expect(grpcSystem).toBe(conventions.RPC_SYSTEM_NAME_VALUE_GRPC);
});

it("keeps its own names in a namespace of its own, each used once", () => {
  const names = Object.values(own);
  expect(names.filter((name) => !/^weir(\.[a-z_]+)+$/.test(name))).toEqual([]);
  expect(new Set(names).size).toBe(names.length);
});

it.each([
  [Status.OK, "OK"],
  [Status.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"],
  [Status.UNAUTHENTICATED, "UNAUTHENTICATED"],
  [99, "99"],
])("names the code %i %s", (code, name) => {
  expect(statusName(code)).toBe(name);
});

it("names a method without its leading slash", () => {
  expect(rpcMethod("/shop.v1.Orders/List")).toBe("shop.v1.Orders/List");
});

it("names the version of the package as that of its spans", () => {
  expect(tracerVersion).toBe(packageJson.version);
});
