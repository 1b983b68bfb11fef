import { expect } from "vitest";
import { policySetOf } from "../../src/config/check.js";
import { type PolicyDocumentError, problemText } from "../../src/config/document.js";
import { documentOf } from "../../src/config/text.js";
import type { PolicySet } from "../../src/pipeline/policy-set.js";

/** The policies of a text; the name says what it is. */
export function read(text: string, name = "policies.yaml"): PolicySet {
  return policySetOf(documentOf(text, name));
}

/** What is wrong with a text, as people see it. */
export function problemsOf(text: string, name = "policies.yaml"): string[] {
  let caught: unknown;
  try {
    read(text, name);
  } catch (error) {
    caught = error;
  }
  expect(caught, "the error about the document").toHaveProperty("problems");
  return (caught as PolicyDocumentError).problems.map(problemText);
}
