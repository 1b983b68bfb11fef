import type { AnyValue, KeyValue } from "../../gen/opentelemetry/proto/common/v1/common.js";
import type { Resource } from "../../gen/opentelemetry/proto/resource/v1/resource.js";
import type { Attributes } from "../api.js";
import { keptAttributes, keptText } from "../attributes.js";
import { keptTime } from "../span.js";

/** Attributes of OTLP. */
export function attributesOf(pairs: readonly KeyValue[]): Attributes {
  return keptAttributes(pairs.map(({ key, value }) => [key, plainValue(value)] as const));
}

function plainValue(value: AnyValue | undefined): unknown {
  if (value === undefined) return undefined;
  if (value.arrayValue !== undefined) return value.arrayValue.values.map(plainValue);
  if (value.kvlistValue !== undefined) {
    return Object.fromEntries(
      value.kvlistValue.values.map(({ key, value: nested }) => [key, plainValue(nested)]),
    );
  }
  return (
    value.stringValue ??
    value.intValue ??
    value.doubleValue ??
    value.boolValue ??
    value.bytesValue?.toString("base64")
  );
}

/** `service.name` of a resource; `unknown` where it has none. */
export function serviceOf(resource: Resource | undefined): string {
  const pair = resource?.attributes.find(({ key }) => key === "service.name");
  return keptText(pair?.value?.stringValue || unknownService);
}

/** The service of a span that names none. */
export const unknownService = "unknown";

/** Nanoseconds since the epoch in milliseconds, to the microsecond. */
export function epochMs(nanoseconds: bigint): number {
  return keptTime(Number(nanoseconds / 1000n) / 1000);
}
