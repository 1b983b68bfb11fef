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
  Metadata,
  status as Status,
} from "@grpc/grpc-js";
import { systemClock } from "../core/clock.js";
import { durationMs, nameText, readOptions } from "../core/options.js";
import {
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  ServerReflectionService,
} from "../gen/grpc/reflection/v1/reflection.js";

/**
 * How a server is asked for its schemas.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export interface ReflectedSchemaOptions {
  /** Sent along, such as an authorization. @defaultValue none */
  readonly metadata?: Metadata;
  /** How long the server may take for all answers, in milliseconds, from 1 to 24 days. @defaultValue 10_000 */
  readonly timeoutMs?: number;
}

/** The versions of the service, which have the same messages. */
const versions = ["v1", "v1alpha"] as const;

/**
 * The schemas of a running server, for `schemaSource`: by gRPC server reflection v1, or v1alpha where a server has no other
 * (https://github.com/grpc/grpc/blob/master/doc/server-reflection.md).
 *
 * @param target `host:port`, or any target of grpc-js.
 * @returns A serialized `FileDescriptorSet` with the files of all services but that of reflection itself. Rejects where the server
 *   cannot be asked, with its status as `code`: UNIMPLEMENTED where it has no reflection.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export async function reflectedSchema(
  target: string,
  credentials: ChannelCredentials,
  given: ReflectedSchemaOptions = {},
): Promise<Uint8Array> {
  nameText("reflectedSchema.target", target);
  const options = readOptions("reflectedSchema", given, ["metadata", "timeoutMs"]);
  const { metadata = new Metadata(), timeoutMs = 10_000 } = options;
  durationMs("reflectedSchema.timeoutMs", timeoutMs, 1);
  const client = new Client(target, credentials);
  const deadline = systemClock.wallNow() + timeoutMs;
  let unknown: unknown;
  try {
    for (const version of versions) {
      const asking = new Reflection(client, version, metadata, deadline);
      try {
        return await readAll(asking);
      } catch (error) {
        if (codeOf(error) !== Status.UNIMPLEMENTED) throw error;
        unknown = error;
      } finally {
        asking.end();
      }
    }
  } finally {
    client.close();
  }
  throw unknown;
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
