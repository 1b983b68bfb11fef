import { describe } from "vitest";
import { standardPipelines } from "./pipelines.js";
import { casesOverLoopback, overLoopback } from "./register.js";

// What grpc-js alone does not hold to, the suite must not ask of anybody.
describe("grpc-js alone over loopback", () => casesOverLoopback({}));

// The other subjects run over sockets in `test/deep/conformance`.
overLoopback(standardPipelines);
