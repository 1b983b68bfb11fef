import { Metadata, status } from "@grpc/grpc-js";
import type { open, Scene } from "../../testing/in-memory/scene.js";

/** A thing to do, and what of it must be the same over sockets and in memory. */
export interface Scenario {
  readonly handlers?: Parameters<typeof open>[1];
  readonly more?: Parameters<typeof open>[2];
  readonly act: (scene: Scene) => Promise<unknown>;
}

export function trailers(): Metadata {
  const metadata = new Metadata();
  metadata.add("x", "1");
  metadata.add("x", "2");
  metadata.add("y-bin", Buffer.from("one"));
  metadata.add("y-bin", Buffer.from("two"));
  return metadata;
}

export function failure() {
  return { code: status.NOT_FOUND, details: "gone, 100 % für ever", metadata: trailers() };
}
