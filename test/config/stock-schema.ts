import { SchemaFiles } from "./schema-files.js";

/** The schema of a service whose owner uses each kind of field in its options. */
export const stock = "shop/v1/stock.proto";
export const stockFiles = () =>
  new SchemaFiles({
    [stock]: `syntax = "proto3";
package shop.v1;
import "weir/v1/options.proto";
service Stock {
  option (weir.v1.service) = {
    priority: "high"
    client: { timeouts: { attempt: { seconds: 1 } } }
  };
  rpc Get(Query) returns (Answer) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (weir.v1.method) = {
      priority: "critical"
      client: {
        deadline: { default: { nanos: 300000000 } }
        retry: { max_attempts: 2 codes: UNAVAILABLE codes: ABORTED budget_off: true }
        bulkhead: {
          partitions { key: "reads" value { share: 0.5 } }
          partitions { key: "rest" value { share: 0.25 } }
          streams: { max_concurrent: 3 }
        }
        fallback: { stale_cache: { vary: "authorization" memory: { max_bytes: 4096 } } }
        breaker_off: true
      }
    };
  }
  rpc Reserve(Query) returns (Answer) {
    option (weir.v1.method).client.retry_off = true;
    option (weir.v1.method).idempotency = { ttl: { seconds: 60 } };
  }
  rpc List(Query) returns (Answer);
}
message Query { string sku = 1; }
message Answer { string sku = 1; }
`,
  });

/** What it says, as options. */
const get = {
  priority: "critical",
  deadline: { defaultMs: 300 },
  retry: { maxAttempts: 2, codes: [14, 10], budget: false },
  bulkhead: {
    partitions: { reads: { share: 0.5 }, rest: { share: 0.25 } },
    streams: { maxConcurrent: 3 },
  },
  fallback: { staleCache: { vary: ["authorization"], memory: { maxBytes: 4096 } } },
  breaker: false,
};
const reserve = { retry: false };
export const service = { priority: "high", timeouts: { attemptMs: 1_000 } };
export const ofMethods = { "shop.v1.Stock/Get": get, "shop.v1.Stock/Reserve": reserve };
