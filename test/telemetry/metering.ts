import { type Attributes, metrics } from "@opentelemetry/api";
import {
  AggregationTemporality,
  DataPointType,
  InMemoryMetricExporter,
  MeterProvider,
  type MetricData,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";

/** One series of a metric: of a histogram, how many values it has and their sum. */
export interface Point {
  readonly attributes: Attributes;
  readonly value: number;
  readonly count: number;
}

/** An SDK that collects when it is asked. The one place that knows its version. */
export interface MeteringUnderTest {
  readonly provider: MeterProvider;
  /** Everything that is exported now, by name. */
  collect(): Promise<ReadonlyMap<string, MetricData>>;
  /** The series of a metric. None if it is not exported. */
  points(name: string): Promise<readonly Point[]>;
  /** The values of a metric, by the values of these attributes, such as `client OK`. */
  values(name: string, ...by: string[]): Promise<Readonly<Record<string, number>>>;
  register(): void;
  stop(): Promise<void>;
}

export function metering(temporality = AggregationTemporality.CUMULATIVE): MeteringUnderTest {
  const exporter = new InMemoryMetricExporter(temporality);
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 1e6 });
  const provider = new MeterProvider({ readers: [reader] });
  const collect = async () => {
    exporter.reset();
    await reader.forceFlush();
    const [batch] = exporter.getMetrics();
    const ours = batch?.scopeMetrics.filter(({ scope }) => scope.name === "grpc-weir") ?? [];
    return new Map(
      ours.flatMap(({ metrics: all }) => all.map((one) => [one.descriptor.name, one] as const)),
    );
  };
  const points = async (name: string) => pointsOf((await collect()).get(name));
  return {
    provider,
    collect,
    points,
    async values(name, ...by) {
      const all = await points(name);
      return Object.fromEntries(
        all.map(({ attributes, value }) => [
          by.map((attribute) => String(attributes[attribute] ?? "")).join(" "),
          value,
        ]),
      );
    },
    register: () => void metrics.setGlobalMeterProvider(provider),
    async stop() {
      metrics.disable();
      await provider.shutdown();
    },
  };
}

export function pointsOf(data: MetricData | undefined): readonly Point[] {
  if (data === undefined) return [];
  if (data.dataPointType === DataPointType.HISTOGRAM) {
    return data.dataPoints.map(({ attributes, value }) => ({
      attributes,
      value: value.sum ?? Number.NaN,
      count: value.count,
    }));
  }
  if (data.dataPointType !== DataPointType.SUM && data.dataPointType !== DataPointType.GAUGE) {
    throw new Error(`nothing of ours is exported as ${data.dataPointType}`);
  }
  return data.dataPoints.map(({ attributes, value }) => ({ attributes, value, count: 1 }));
}
