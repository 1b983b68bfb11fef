import type { Buffer } from "node:buffer";
import { Metadata, type MetadataValue } from "@grpc/grpc-js";
import { pushbackKey } from "./metadata-keys.js";
import { statusDetailsKey } from "./status-details.js";

/** Details of a status, as they are kept and as they stand on the wire. */
export interface EncodedDetails {
  /** Shared by all who are told the same: nobody writes into them. */
  readonly bytes: Buffer;
  readonly base64: string;
}

/**
 * The metadata of a call that a server policy refused. grpc-js copies the metadata of each status, bytes too, and then
 * turns these into text; on a server that refuses most of its calls that is a good part of what a refusal costs. Here both
 * were done before.
 */
export class RefusalMetadata extends Metadata {
  readonly #details: EncodedDetails;
  #original = true;

  constructor(details: EncodedDetails, pushback: string | undefined) {
    super();
    this.#details = details;
    this.internalRepr.set(statusDetailsKey, [details.bytes]);
    if (pushback !== undefined) this.internalRepr.set(pushbackKey, [pushback]);
  }

  /** Made by a policy of this server for this call. A copy may have come from anywhere, as what a client was told does. */
  static isOriginal(metadata: Metadata): boolean {
    return metadata instanceof RefusalMetadata && metadata.#original;
  }

  override clone(): RefusalMetadata {
    const copy = new RefusalMetadata(this.#details, undefined);
    copy.#original = false;
    copy.setOptions(this.getOptions());
    copy.internalRepr.clear();
    for (const [key, values] of this.internalRepr) copy.internalRepr.set(key, [...values]);
    return copy;
  }

  override toHttp2Headers(): ReturnType<Metadata["toHttp2Headers"]> {
    const headers: ReturnType<Metadata["toHttp2Headers"]> = {};
    for (const [key, values] of this.internalRepr) {
      const [value] = values;
      headers[key] =
        values.length === 1 && value !== undefined
          ? this.#text(value)
          : values.map((each) => this.#text(each));
    }
    return headers;
  }

  #text(value: MetadataValue): string {
    if (typeof value === "string") return value;
    return value === this.#details.bytes ? this.#details.base64 : value.toString("base64");
  }
}
