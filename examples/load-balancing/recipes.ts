// Service configs for `grpc.service_config`. Balancing is grpc-js's own; these say what it shall do.

// #region round-robin
/** Each call, and each attempt of the toolkit, goes to the next server. */
export const roundRobin = { loadBalancingConfig: [{ round_robin: {} }] };
// #endregion

// #region outlier-detection
/** A server that fails more than half of its calls gets none for a while. */
export const outlierDetection = {
  loadBalancingConfig: [
    {
      outlier_detection: {
        // Objects, not "10s": a string here makes grpc-js fall back to pick_first.
        interval: { seconds: 10, nanos: 0 },
        base_ejection_time: { seconds: 30, nanos: 0 },
        max_ejection_time: { seconds: 300, nanos: 0 },
        max_ejection_percent: 34,
        failure_percentage_ejection: {
          threshold: 50,
          minimum_hosts: 3,
          request_volume: 20,
        },
        child_policy: [{ round_robin: {} }],
      },
    },
  ],
};
// #endregion

// #region weighted-round-robin
/** A server gets calls in proportion to what it says it can bear. */
export const weightedRoundRobin = {
  loadBalancingConfig: [
    {
      weighted_round_robin: {
        // Reports on a stream of their own. Those in the trailers of calls cost milliseconds each.
        enable_oob_load_report: true,
        oob_load_reporting_period: "1s",
        // With grpc-js, a server gets next to nothing while it is blacked out.
        blackout_period: "0s",
        weight_expiration_period: "180s",
        weight_update_period: "1s",
        error_utilization_penalty: 1,
      },
    },
    // For a grpc-js that does not know it.
    { round_robin: {} },
  ],
};
// #endregion

// #region both
/** By weight, and without those that fail. */
export const weightedWithoutOutliers = {
  loadBalancingConfig: [
    {
      outlier_detection: {
        ...outlierDetection.loadBalancingConfig[0]?.outlier_detection,
        child_policy: weightedRoundRobin.loadBalancingConfig,
      },
    },
  ],
};
// #endregion

/** The same recipe in a hurry, for a demonstration: forty times as fast, and three calls are enough. */
export function hurried<Recipe>(recipe: Recipe): Recipe {
  return JSON.parse(JSON.stringify(recipe), (key, value: unknown) => {
    if (key === "request_volume") return 3;
    if (typeof value === "string" && /^\d+s$/.test(value)) {
      return `${(Number(value.slice(0, -1)) / 40).toFixed(3)}s`;
    }
    if (typeof value === "object" && value !== null && "nanos" in value && "seconds" in value) {
      const ms = Number(value.seconds) * 25;
      return { seconds: Math.floor(ms / 1_000), nanos: (ms % 1_000) * 1_000_000 };
    }
    return value;
  }) as Recipe;
}
