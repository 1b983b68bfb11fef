import type { Metadata } from "@grpc/grpc-js";

/**
 * Marks kept metadata: nobody writes to them, because another attempt needs them as they are. A property, because a
 * WeakSet takes ten times as long.
 */
const kept: unique symbol = Symbol("grpc-weir.kept");

type MaybeKept = Metadata & { [kept]?: true };

/**
 * A copy that shares nothing with the original. `Metadata.clone` shares the options, and drops what was attached with
 * `setOpaque`.
 */
export function copyMetadata(metadata: Metadata): Metadata {
  const copy = metadata.clone();
  copy.setOptions({ ...metadata.getOptions() });
  // A private field, because grpc-js has no method that lists all of them. Under another name, they are not copied.
  const opaque: unknown = Reflect.get(metadata, "opaqueData");
  if (opaque instanceof Map) for (const [key, value] of opaque) copy.setOpaque(String(key), value);
  return copy;
}

/**
 * A copy of the metadata for later, because the caller may use the object again, and interceptors below may add to it.
 * Metadata that are kept already are not copied.
 */
export function keepMetadata(metadata: MaybeKept): Metadata {
  return metadata[kept] === true ? metadata : asKept(copyMetadata(metadata));
}

/** Marks metadata that nobody else has as kept. */
export function asKept(own: MaybeKept): Metadata {
  own[kept] = true;
  return own;
}

/** The metadata for a foreign interceptor, which may write to them: a copy of kept ones. */
export function lendMetadata(metadata: MaybeKept): Metadata {
  return metadata[kept] === true ? copyMetadata(metadata) : metadata;
}
