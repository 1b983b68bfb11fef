export type { Clock, Random } from "./core/clock.js";
export { seededRandom } from "./testing/clock/seeded-random.js";
export { VirtualClock } from "./testing/clock/virtual-clock.js";
export type {
  CallKind,
  ConformanceCase,
  ConformanceEnv,
  ConformanceSubject,
} from "./testing/conformance/conformance.js";
export { conformance } from "./testing/conformance/conformance.js";
export { inMemoryTransport } from "./testing/in-memory/in-memory.js";
export { loopbackTransport } from "./testing/loopback/loopback.js";
export type { ClientConstructor, Link, LinkSetup, Transport } from "./testing/transport.js";
