import type { Metadata } from "@grpc/grpc-js";

/** Marks metadata that is needed again as it is, and that nobody of ours writes to. A WeakSet takes ten times as long. */
const kept: unique symbol = Symbol("grpc-weir.kept");

type MaybeKept = Metadata & { [kept]?: true };

/**
 * A copy that shares nothing with the original. `Metadata.clone` drops what was attached with `setOpaque`, and
 * shares the options.
 */
export function copyMetadata(metadata: Metadata): Metadata {
  const copy = metadata.clone();
  copy.setOptions({ ...metadata.getOptions() });
  // grpc-js tells of single keys only; where it names its map otherwise, what is attached is not copied.
  const opaque: unknown = Reflect.get(metadata, "opaqueData");
  if (opaque instanceof Map) for (const [key, value] of opaque) copy.setOpaque(String(key), value);
  return copy;
}

/**
 * The metadata of a call for who needs it later than its owner may change it: the caller, who may use the object again, or
 * somebody below who adds to it. What is kept already is not copied again.
 */
export function keepMetadata(metadata: MaybeKept): Metadata {
  return metadata[kept] === true ? metadata : asKept(copyMetadata(metadata));
}

/** Notes that metadata which nobody else has is kept. */
export function asKept(own: MaybeKept): Metadata {
  own[kept] = true;
  return own;
}

/** The metadata for a call that is not ours and may write to it. */
export function lendMetadata(metadata: MaybeKept): Metadata {
  return metadata[kept] === true ? copyMetadata(metadata) : metadata;
}
