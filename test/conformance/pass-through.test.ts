import { describe } from "vitest";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { passThrough } from "./pass-through.js";
import { casesOf } from "./register.js";

describe("interceptors that change nothing, in memory", () => {
  casesOf(passThrough, inMemoryTransport);
});
