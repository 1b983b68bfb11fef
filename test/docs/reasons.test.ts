import { readFileSync } from "node:fs";
import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { decisionReasons, refusalReasons } from "../../src/core/decision.js";
import { refusal } from "../../src/core/permit.js";
import { localRejection } from "../../src/grpc/status/rejection.js";

const page = readFileSync(new URL("../../docs/reasons.md", import.meta.url), "utf8");
/** The rows of the table below a heading. */
const rowsBelow = (heading: string) =>
  (page.split(`\n## ${heading}\n`)[1] ?? "")
    .replace(/\n## .*/s, "")
    .split("\n")
    .map((line) => line.split("|").map((cell) => cell.trim()))
    .map(([, code = "", meaning = "", status = ""]) => ({ code, meaning, status }))
    .filter(({ code }) => /^`[A-Z_]+`$/.test(code))
    .map((row) => ({ ...row, code: row.code.slice(1, -1) }));

const refusals = rowsBelow("Refusals");
const decisions = rowsBelow("Decisions");

describe("docs/reasons.md", () => {
  it("lists the codes that there are, in their order", () => {
    expect(refusals.map(({ code }) => code)).toEqual(refusalReasons);
    expect(decisions.map(({ code }) => code)).toEqual(decisionReasons);
  });

  it.each(refusalReasons)("has the status of %s", (reason) => {
    const row = refusals.find(({ code }) => code === reason);
    expect(row?.status).toBe(Status[localRejection(refusal(reason, "")).code]);
  });

  it.each([...refusals, ...decisions])("says what $code means", ({ meaning }) => {
    expect(meaning).not.toBe("");
  });
});
