// #region before
import CircuitBreaker from "opossum";

/** `fetchPrice` is a request to a service that does not speak gRPC. */
export function pricesBefore(fetchPrice: (sku: string) => Promise<number>) {
  const breaker = new CircuitBreaker(fetchPrice, {
    timeout: 200,
    errorThresholdPercentage: 50,
    volumeThreshold: 20,
    rollingCountTimeout: 10_000,
    resetTimeout: 250,
    capacity: 10,
  });
  breaker.fallback(() => 0);
  return (sku: string) => breaker.fire(sku);
}

// #endregion

// #region after
import { createWeir } from "grpc-weir";

const weir = createWeir();

export function pricesAfter(fetchPrice: (sku: string, signal: AbortSignal) => Promise<number>) {
  const prices = weir.guard("prices", {
    timeouts: { totalMs: 200 }, // aborts the signal, too
    breaker: { failureRate: 0.5, minCalls: 20, windowMs: 10_000, openMs: 250 },
    bulkhead: { maxConcurrent: 10 },
    fallback: { value: 0 },
  });
  return (sku: string) => prices.run((signal) => fetchPrice(sku, signal));
}
// #endregion
