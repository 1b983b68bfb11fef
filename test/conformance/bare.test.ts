import { describe, it } from "vitest";
import { conformance } from "../../src/testing/conformance.js";
import { loopbackTransport } from "../../src/testing/loopback.js";

// What grpc-js alone does not hold to, the suite must not ask of anybody.
describe("grpc-js alone over loopback", () => {
  for (const each of conformance({}, loopbackTransport)) it(each.name, () => each.run());
});
