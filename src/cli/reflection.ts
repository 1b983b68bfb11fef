import { readFileSync } from "node:fs";
import { type ChannelCredentials, credentials, Metadata, status as Status } from "@grpc/grpc-js";
import { reflectedSchema } from "../grpc/reflected-schema.js";
import { CommandError, UsageError } from "./terminal.js";

/** How a server is asked for its schemas. */
export interface ReflectionOptions {
  /** `host:port`, or any target of grpc-js. */
  readonly target: string;
  readonly tls: boolean;
  /** A file with the certificates of the authorities, in PEM, which means TLS; `undefined` for those of Node. */
  readonly ca: string | undefined;
  /** Metadata that is sent along, each `name: value`. */
  readonly headers: readonly string[];
}

/**
 * The schemas of a running server, by server reflection.
 *
 * @returns a serialized `FileDescriptorSet`.
 * @throws CommandError where the server cannot be asked.
 */
export async function reflectedDescriptors(options: ReflectionOptions): Promise<Uint8Array> {
  const { target } = options;
  const metadata = metadataOf(options.headers);
  const credentials = credentialsOf(options);
  try {
    return await reflectedSchema(target, credentials, { metadata });
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === Status.UNIMPLEMENTED) {
      throw new CommandError(2, `${target} has no server reflection (v1 or v1alpha)`);
    }
    const why = error instanceof Error ? error.message : String(error);
    throw new CommandError(2, `${target} cannot be asked for its schemas: ${why}`);
  }
}

function credentialsOf({ tls, ca }: ReflectionOptions): ChannelCredentials {
  if (ca === undefined) return tls ? credentials.createSsl() : credentials.createInsecure();
  try {
    return credentials.createSsl(readFileSync(ca));
  } catch (error) {
    throw new CommandError(2, `${ca}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function metadataOf(headers: readonly string[]): Metadata {
  const metadata = new Metadata();
  for (const header of headers) {
    const [, name = "", value = ""] = /^\s*([^:\s]+)\s*:\s*(.*?)\s*$/s.exec(header) ?? [];
    try {
      if (name === "") throw new Error("it has no name");
      metadata.add(name, name.endsWith("-bin") ? Buffer.from(value, "base64") : value);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new UsageError(`--header is "name: value", and not ${JSON.stringify(header)}: ${why}`);
    }
  }
  return metadata;
}
