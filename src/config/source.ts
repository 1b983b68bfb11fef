import { readFileSync } from "node:fs";
import { InvalidOptionError, isRecord, nameText } from "../core/options.js";
import type { PolicySource } from "../pipeline/policy-set.js";
import { policySetOf } from "./check.js";
import { documentOf } from "./text.js";

/**
 * Policies of a file, for `createWeir({ policies: … })`: JSON or YAML. The fields are those of
 * `weir.v1.Policies` (`proto/weir/v1/policy.proto`). It is read when the weir is created.
 *
 * @param path Relative to the working directory of the process.
 */
export function fileSource(path: string): PolicySource {
  nameText("fileSource.path", path);
  return { name: path, read: () => policySetOf(documentOf(textOf(path), path)) };
}

/** Policies of an object with the fields of `weir.v1.Policies`, such as one that was parsed from JSON. */
export function objectSource(
  value: Readonly<Record<string, unknown>>,
  name = "policies",
): PolicySource {
  if (!isRecord(value))
    throw new InvalidOptionError("objectSource", "an object of policies", value);
  return {
    name: nameText("objectSource.name", name),
    read: () => policySetOf({ name, value, positionOf: () => undefined }),
  };
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new InvalidOptionError(
      "policies",
      "a file that can be read",
      path,
      `cannot be read: ${why}`,
    );
  }
}
