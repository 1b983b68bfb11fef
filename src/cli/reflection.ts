import { readFileSync } from "node:fs";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";
import {
  type ChannelCredentials,
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  status as Status,
} from "@grpc/grpc-js";
import { systemClock } from "../core/clock.js";
import {
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  ServerReflectionService,
} from "../gen/grpc/reflection/v1/reflection.js";
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

/** How long a server may take for all answers, in milliseconds. */
const patienceMs = 10_000;

/** The versions of the service, which have the same messages. */
const versions = ["v1", "v1alpha"] as const;

/**
 * The schemas of a running server, by gRPC server reflection v1, or v1alpha where a server has no other:
 * https://github.com/grpc/grpc/blob/master/doc/server-reflection.md.
 *
 * @returns a serialized `FileDescriptorSet` with the files of all services but that of reflection itself.
 * @throws CommandError where the server cannot be asked.
 */
export async function reflectedDescriptors(options: ReflectionOptions): Promise<Uint8Array> {
  const client = new Client(options.target, credentialsOf(options));
  const metadata = metadataOf(options.headers);
  const deadline = systemClock.wallNow() + patienceMs;
  try {
    for (const version of versions) {
      const asking = new Reflection(client, version, metadata, deadline);
      try {
        return await readAll(asking);
      } catch (error) {
        if (codeOf(error) !== Status.UNIMPLEMENTED) throw error;
      } finally {
        asking.end();
      }
    }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CommandError(2, `${options.target} cannot be asked for its schemas: ${why}`);
  } finally {
    client.close();
  }
  throw new CommandError(2, `${options.target} has no server reflection (v1 or v1alpha)`);
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

async function readAll(asking: Reflection): Promise<Uint8Array> {
  const { listServicesResponse } = await asking.ask({ listServices: "*" });
  const files = new Map<string, FileDescriptorProto>();
  const read = (response: ServerReflectionResponse) => {
    for (const bytes of response.fileDescriptorResponse?.fileDescriptorProto ?? []) {
      const file = fromBinary(FileDescriptorProtoSchema, bytes);
      files.set(file.name, file);
    }
  };
  for (const { name } of listServicesResponse?.service ?? []) {
    if (name.startsWith("grpc.reflection.")) continue;
    read(await asking.ask({ fileContainingSymbol: name }));
  }
  // Servers may send a file alone, without those that it imports. What a server does not have, nothing here needs.
  const asked = new Set<string>();
  for (;;) {
    const missing = [...files.values()]
      .flatMap(({ dependency }) => dependency)
      .find((name) => !files.has(name) && !asked.has(name));
    if (missing === undefined) break;
    asked.add(missing);
    read(await asking.ask({ fileByFilename: missing }, { mayMiss: true }));
  }
  const set = create(FileDescriptorSetSchema, { file: [...files.values()] });
  return toBinary(FileDescriptorSetSchema, set);
}

/** One stream of questions to a server. Each is answered before the next one is asked. */
class Reflection {
  readonly #stream: ClientDuplexStream<ServerReflectionRequest, ServerReflectionResponse>;
  #answered: ((response: ServerReflectionResponse) => void) | undefined;
  #failed: ((error: Error) => void) | undefined;
  #error: Error | undefined;

  constructor(
    client: Client,
    version: (typeof versions)[number],
    metadata: Metadata,
    deadline: number,
  ) {
    const { path, requestSerialize, responseDeserialize } =
      ServerReflectionService.serverReflectionInfo;
    this.#stream = client.makeBidiStreamRequest(
      path.replace(".v1.", `.${version}.`),
      requestSerialize,
      responseDeserialize,
      metadata,
      { deadline },
    );
    this.#stream.on("data", (response: ServerReflectionResponse) => this.#answered?.(response));
    const failed = (error: Error) => {
      this.#error ??= error;
      this.#failed?.(error);
    };
    this.#stream.on("error", failed);
    this.#stream.on("end", () => failed(new Error("the server has ended the answers")));
  }

  /**
   * @param mayMiss Whether the server may not have it.
   * @throws Error where the server answers with an error.
   */
  async ask(
    question: Partial<ServerReflectionRequest>,
    { mayMiss = false } = {},
  ): Promise<ServerReflectionResponse> {
    const response = await new Promise<ServerReflectionResponse>((resolve, reject) => {
      if (this.#error !== undefined) {
        reject(this.#error);
        return;
      }
      this.#answered = resolve;
      this.#failed = reject;
      this.#stream.write({ host: "", ...question });
    });
    const { errorResponse } = response;
    if (errorResponse === undefined || mayMiss) return response;
    const { errorCode, errorMessage } = errorResponse;
    throw new Error(`${Status[errorCode] ?? errorCode}: ${errorMessage}`);
  }

  end(): void {
    this.#stream.cancel();
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
