import { inject } from "vitest";
import { inMemoryTransport } from "../src/testing/in-memory/in-memory.js";
import { loopbackTransport } from "../src/testing/loopback/loopback.js";
import type { Transport } from "../src/testing/transport.js";

declare module "vitest" {
  interface ProvidedContext {
    /** Whether tests of this project may open sockets. */
    readonly sockets: boolean;
  }
}

/** Over what calls are made in tests that hold over every transport: in memory, and in the deep suite over sockets. */
export const transports: readonly (readonly [string, () => Transport])[] = inject("sockets")
  ? [["over loopback", loopbackTransport]]
  : [["in memory", inMemoryTransport]];
