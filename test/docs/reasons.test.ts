import { readFileSync } from "node:fs";
import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { reasons } from "../../src/core/decision.js";
import { refusal } from "../../src/core/permit.js";
import { localRejection } from "../../src/grpc/status/rejection.js";

const page = readFileSync(new URL("../../docs/reasons.md", import.meta.url), "utf8");
const rows = page
  .split("\n")
  .map((line) => line.split("|").map((cell) => cell.trim()))
  .map(([, code = "", meaning = "", status = ""]) => ({ code, meaning, status }))
  .filter(({ code }) => /^`[A-Z_]+`$/.test(code))
  .map((row) => ({ ...row, code: row.code.slice(1, -1) }));

describe("docs/reasons.md", () => {
  it("lists the codes that there are, in their order", () => {
    expect(rows.map(({ code }) => code)).toEqual(reasons);
  });

  it.each(reasons)("has the status of %s", (reason) => {
    const row = rows.find(({ code }) => code === reason);
    // What only explains is no status of its own.
    const own = /^(RETRY|RESET|FALLBACK|BROWNOUT|FAULT)_/.test(reason)
      ? "–"
      : Status[localRejection(refusal(reason, "")).code];
    expect(row?.status).toBe(own);
  });

  it.each(rows)("says what $code means", ({ meaning }) => {
    expect(meaning).not.toBe("");
  });
});
