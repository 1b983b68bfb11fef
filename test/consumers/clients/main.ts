// Clients of other libraries with the toolkit, against servers of grpc-js. Prints what they got as JSON.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import {
  type ClientUnaryCall,
  credentials,
  loadPackageDefinition,
  Metadata,
  makeGenericClientConstructor,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type ServiceError,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { Etcd3 } from "etcd3";
import { createWeir, currentCall } from "grpc-weir";

const require = createRequire(import.meta.url);
const weir = createWeir();
const { Word, ...grpcTools } = generated();

// ---- grpc-tools: a service as grpc_tools_node_protoc writes it, with messages of google-protobuf.

let echoes = 0;
const echo = await serve(grpcTools.EchoService, {
  say(
    call: { request: InstanceType<typeof Word> },
    callback: (error: object | null, response?: InstanceType<typeof Word>) => void,
  ) {
    echoes += 1;
    if (echoes === 1) callback({ code: status.UNAVAILABLE, details: "not yet" });
    else callback(null, new Word(`${call.request.text}, ${currentCall()?.priority}`));
  },
});
const EchoClient = makeGenericClientConstructor(grpcTools.EchoService, "EchoService");
// #region grpc-tools
const client = new EchoClient(echo.target, credentials.createInsecure(), weir.client());
// #endregion
type Say = (
  request: InstanceType<typeof Word>,
  metadata: Metadata,
  done: (error: ServiceError | null, response: InstanceType<typeof Word>) => void,
) => ClientUnaryCall;
const metadata = new Metadata();
metadata.set("x-request-priority", "high");
const said = await new Promise<string>((resolve, reject) => {
  (client.say as Say).call(client, new Word("hello"), metadata, (error, response) =>
    error === null ? resolve(response.text) : reject(error),
  );
});
client.close();

// ---- etcd3, which makes its clients itself.

const protos = join(dirname(require.resolve("etcd3/package.json")), "proto");
const loaded = loadPackageDefinition(loadSync(join(protos, "rpc.proto")));
const { KV } = loaded.etcdserverpb as unknown as { KV: { service: ServiceDefinition } };
let ranges = 0;
const kv = await serve(KV.service, {
  range(
    call: { request: { key: Buffer } },
    callback: (error: object | null, response?: object) => void,
  ) {
    ranges += 1;
    if (ranges === 1) callback({ code: status.UNAVAILABLE, details: "no leader" });
    else callback(null, { kvs: [{ key: call.request.key, value: Buffer.from("bar") }], count: 1 });
  },
});
// #region etcd3
const etcd = new Etcd3({
  hosts: kv.target,
  grpcOptions: weir.client({
    methods: { "etcdserverpb.KV/Range": { retry: { idempotent: true } } },
  }),
});
// #endregion
const value = await etcd.get("foo").string();
etcd.close();

const attempts = weir
  .history()
  .last.filter(({ side }) => side === "client")
  .map((call) => `${call.method}: ${call.attempts.length}`)
  .sort();
echo.server.forceShutdown();
kv.server.forceShutdown();
weir.close();
console.log(JSON.stringify({ said, value, attempts }));

async function serve(service: ServiceDefinition, implementation: UntypedServiceImplementation) {
  const server = new Server(weir.server());
  server.addService(service, implementation);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return { server, target: `127.0.0.1:${port}` };
}

/** What grpc-tools generates of `message Word { string text = 1; }` and a service, as far as it is used here. */
function generated() {
  const { BinaryReader, BinaryWriter } = require("google-protobuf") as {
    readonly BinaryWriter: new () => {
      writeString(field: number, value: string): void;
      getResultBuffer(): Uint8Array;
    };
    readonly BinaryReader: new (
      bytes: Uint8Array,
    ) => {
      nextField(): boolean;
      readString(): string;
    };
  };
  class GeneratedWord {
    readonly text: string;
    constructor(text: string) {
      this.text = text;
    }
    serializeBinary(): Uint8Array {
      const writer = new BinaryWriter();
      writer.writeString(1, this.text);
      return writer.getResultBuffer();
    }
    static deserializeBinary(bytes: Uint8Array): GeneratedWord {
      const reader = new BinaryReader(bytes);
      return new GeneratedWord(reader.nextField() ? reader.readString() : "");
    }
  }
  const serialize = (word: GeneratedWord) => Buffer.from(word.serializeBinary());
  const deserialize = (bytes: Buffer) => GeneratedWord.deserializeBinary(new Uint8Array(bytes));
  const EchoService = {
    say: {
      path: "/consumers.Echo/Say",
      requestStream: false,
      responseStream: false,
      requestType: GeneratedWord,
      responseType: GeneratedWord,
      requestSerialize: serialize,
      requestDeserialize: deserialize,
      responseSerialize: serialize,
      responseDeserialize: deserialize,
    },
  };
  return { Word: GeneratedWord, EchoService };
}
