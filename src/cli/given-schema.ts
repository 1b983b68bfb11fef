import { readFileSync } from "node:fs";
import { reflectedDescriptors } from "./reflection.js";
import { refusing, UsageError } from "./terminal.js";

const text = { type: "string" } as const;

/** The options of commands that read schemas. */
export const schemaFlags = {
  descriptors: text,
  reflect: text,
  tls: { type: "boolean" },
  ca: text,
  header: { ...text, multiple: true },
} as const;

/** A serialized `FileDescriptorSet`. */
export interface GivenSchema {
  /** Where it comes from. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

interface SchemaValues {
  readonly descriptors?: string | undefined;
  readonly reflect?: string | undefined;
  readonly tls?: boolean | undefined;
  readonly ca?: string | undefined;
  readonly header?: string[] | undefined;
}

/**
 * The schemas that the arguments name; `undefined` where they name none.
 *
 * @throws CommandError where they cannot be read.
 */
export async function givenSchema({
  descriptors,
  reflect,
  tls = false,
  ca,
  header = [],
}: SchemaValues): Promise<GivenSchema | undefined> {
  if (reflect === undefined) {
    if (tls || ca !== undefined || header.length > 0) {
      throw new UsageError("--tls, --ca and --header are for --reflect");
    }
    if (descriptors === undefined) return undefined;
    const bytes = refusing(descriptors, () => readFileSync(descriptors));
    return { name: descriptors, bytes };
  }
  if (descriptors !== undefined) throw new UsageError("give --descriptors or --reflect, not both");
  return {
    name: reflect,
    bytes: await reflectedDescriptors({ target: reflect, tls, ca, headers: header }),
  };
}
