import { Metadata, type ServiceError, status as Status } from "@grpc/grpc-js";

/**
 * Whether something that was caught is the error of a gRPC call: an `Error` with a status code from 1 to 16, a text and
 * metadata. TypeScript knows `error.code`, `error.details` and `error.metadata` after it. Errors of calls through another
 * copy of grpc-js are recognised, too.
 *
 * ```ts
 * if (isServiceError(error) && error.code === status.RESOURCE_EXHAUSTED) …
 * ```
 *
 * @param error Whatever was thrown or handed to a callback. Nothing of it is changed.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/clients-and-servers.md
 */
export function isServiceError(error: unknown): error is ServiceError {
  if (!(error instanceof Error)) return false;
  const { code, details, metadata } = error as Partial<ServiceError>;
  return (
    typeof code === "number" &&
    code !== Status.OK &&
    Status[code] !== undefined &&
    typeof details === "string" &&
    isMetadata(metadata)
  );
}

function isMetadata(value: unknown): boolean {
  if (value instanceof Metadata) return true;
  // That of another copy of grpc-js.
  const methods: Partial<Metadata> = Object(value);
  return typeof methods.get === "function" && typeof methods.getMap === "function";
}
