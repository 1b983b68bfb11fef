import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../src/core/options.js";
import { codeNumber } from "../../src/core/status.js";
import { resolveFaultOptions } from "../../src/policies/faults/options.js";
import { resolveServerIdempotencyOptions } from "../../src/policies/idempotency/server-options.js";
import { resolveHedgeOptions, resolveRetryOptions } from "../../src/policies/retry/options.js";

const named = Object.entries(Status).filter((entry) => typeof entry[1] === "number");

describe("a status code in an option", () => {
  it.each(named)("may be the name %s, as in grpc-js", (name, code) => {
    expect(codeNumber("codes", name, 0)).toBe(code);
    expect(codeNumber("codes", code, 0)).toBe(code);
  });

  it.each(["OK", "unavailable", "", 0, 17, 1.5, undefined, null])("is refused: %j", (given) => {
    expect(() => codeNumber("codes", given, 1)).toThrow(InvalidOptionError);
  });

  it("is taken by name in every policy", () => {
    expect(resolveRetryOptions({ codes: ["ABORTED", 14] }).codes).toEqual(new Set([10, 14]));
    expect(resolveHedgeOptions({ delayMs: 5, nonFatalCodes: ["ABORTED"] }).nonFatalCodes).toEqual(
      new Set([10]),
    );
    expect(resolveFaultOptions({ status: { code: "ABORTED" } }, "client").ends).toMatchObject([
      { end: { code: 10 } },
    ]);
    const methods = { "shop.v1.Stock/Buy": {} };
    const idempotency = { scope: "shared", methods, stores: ["OK", "ABORTED"] } as const;
    const rules = resolveServerIdempotencyOptions(idempotency, "idempotency").methods;
    expect(rules.get("/shop.v1.Stock/Buy")?.stores).toEqual(new Set([0, 10]));
  });
});
