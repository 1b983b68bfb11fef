import { describe } from "vitest";
import { passThrough } from "../../conformance/pass-through.js";
import { casesOverLoopback } from "../../conformance/register.js";

describe("interceptors that change nothing, over loopback", () => {
  casesOverLoopback(passThrough);
});
