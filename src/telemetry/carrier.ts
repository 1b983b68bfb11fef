import type { Metadata } from "@grpc/grpc-js";
import type { TextMapGetter, TextMapSetter } from "@opentelemetry/api";
import { copyMetadata } from "../grpc/kept-metadata.js";

/** Metadata that is copied when something is written: it is the caller's, and often nothing is. */
export class OutgoingCarrier {
  metadata: Metadata;
  #copied = false;

  constructor(metadata: Metadata) {
    this.metadata = metadata;
  }

  /** Replaces: an instrumentation outside may have put its own, older context there. */
  set(key: string, value: string): void {
    if (!this.#copied) {
      this.#copied = true;
      this.metadata = copyMetadata(this.metadata);
    }
    this.metadata.set(key, value);
  }
}

export const outgoingSetter: TextMapSetter<OutgoingCarrier> = {
  set: (carrier, key, value) => carrier.set(key, value),
};

/** Writes into metadata that belongs to us. */
export const metadataSetter: TextMapSetter<Metadata> = {
  set: (metadata, key, value) => metadata.set(key, value),
};

/** All values of a key: `tracestate` and `baggage` may come in several pieces. */
export const metadataGetter: TextMapGetter<Metadata> = {
  get(metadata, key) {
    const values = metadata.get(key).filter((value) => typeof value === "string");
    return values.length > 1 ? values : values[0];
  },
  keys: (metadata) => Object.keys(metadata.getMap()),
};
