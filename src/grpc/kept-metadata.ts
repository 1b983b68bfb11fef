import type { Metadata } from "@grpc/grpc-js";

/** Metadata that is needed again as it is. Nobody of ours writes to it. */
const kept = new WeakSet<Metadata>();

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
export function keepMetadata(metadata: Metadata): Metadata {
  return kept.has(metadata) ? metadata : asKept(copyMetadata(metadata));
}

/** Notes that metadata which nobody else has is kept. */
export function asKept(own: Metadata): Metadata {
  kept.add(own);
  return own;
}

/** The metadata for a call that is not ours and may write to it. */
export function lendMetadata(metadata: Metadata): Metadata {
  return kept.has(metadata) ? copyMetadata(metadata) : metadata;
}
