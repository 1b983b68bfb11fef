export type { Clock } from "./core/clock.js";
export type { Random } from "./core/random.js";
export type {
  CallKind,
  ConformanceCase,
  ConformanceEnv,
  ConformanceSubject,
} from "./testing/conformance.js";
export { conformance } from "./testing/conformance.js";
export { inMemoryTransport } from "./testing/in-memory.js";
export { loopbackTransport } from "./testing/loopback.js";
export { seededRandom } from "./testing/seeded-random.js";
export type { ClientConstructor, Link, LinkSetup, Transport } from "./testing/transport.js";
export { VirtualClock } from "./testing/virtual-clock.js";
