// A client of connect-es with a guard, against a server of connect-es. Prints what became of its calls as JSON.
import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { create, createFileRegistry, type DescService } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport } from "@connectrpc/connect-node";
import { createWeir, GuardRejectedError } from "grpc-weir";

const Stock = service();
let failures = 1;
let calls = 0;
const seen: string[] = [];
const get = (
  request: { text: string },
  context: { requestHeader: Headers; timeoutMs(): number | undefined },
) => {
  calls += 1;
  if (calls <= failures) throw new ConnectError("not now", Code.Unavailable);
  const leftMs = context.timeoutMs() ?? 0;
  seen.push(`${context.requestHeader.get("x-request-priority")} ${leftMs > 0 && leftMs <= 2_000}`);
  return { text: `heard ${request.text}` };
};
const server = createServer(
  connectNodeAdapter({
    routes: (router) =>
      router.service(Stock, {
        get,
        async *watch(request: { text: string }, context: never) {
          yield get(request, context);
          yield { text: "more" };
        },
      } as never),
  }),
);
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
const { port } = server.address() as AddressInfo;

const weir = createWeir();
// #region guard
const stock = weir.guard("stock", {
  timeouts: { totalMs: 2_000 },
  retry: {
    maxAttempts: 3,
    retryError: (error) => ConnectError.from(error).code === Code.Unavailable,
  },
  breaker: { consecutiveFailures: 5 },
  bulkhead: { maxConcurrent: 20 },
});
/** Each call runs in the guard. Of a stream of responses, the guard sees the time until its headers arrive. */
const guarded: Interceptor = (next) => async (request) => {
  try {
    return await stock.run((signal) =>
      next({ ...request, signal: AbortSignal.any([request.signal, signal]) }),
    );
  } catch (error) {
    if (!(error instanceof GuardRejectedError)) throw error;
    // The codes of Connect are those of gRPC.
    throw new ConnectError(error.message, error.code as number, undefined, undefined, error);
  }
};
// #endregion
const transport = createGrpcTransport({
  baseUrl: `http://127.0.0.1:${port}`,
  interceptors: [guarded],
});
const client = createClient(Stock, transport) as unknown as {
  get(request: object, options: object): Promise<{ text: string }>;
  watch(request: object, options: object): AsyncIterable<{ text: string }>;
};
// #region call
const options = { timeoutMs: 2_000, headers: { "x-request-priority": "high" } };
const { text } = await client.get({ text: "hello" }, options);
// #endregion
const retried = { text, calls };
const streamed: string[] = [];
for await (const message of client.watch({ text: "stream" }, options)) streamed.push(message.text);

calls = 0;
failures = 100;
const failed = await client
  .get({ text: "x" }, options)
  .catch((error) => ConnectError.from(error).code);
const failedCalls = calls;
await client.get({ text: "x" }, options).catch(() => {});
calls = 0;
const refused = await client.get({ text: "x" }, options).catch((error) => {
  const { code, cause } = ConnectError.from(error);
  return [code === Code.Unavailable, cause instanceof GuardRejectedError && cause.reason];
});
server.close();
weir.close();
console.log(
  JSON.stringify({
    retried,
    streamed,
    seen,
    failed: [failed === Code.Unavailable, failedCalls],
    refused,
    calls,
  }),
);
process.exit();

/** What protobuf-es generates of a service, made of its descriptor. */
function service(): DescService {
  const set = create(FileDescriptorSetSchema, {
    file: [
      {
        name: "stock.proto",
        package: "shop",
        syntax: "proto3",
        messageType: [{ name: "Word", field: [{ name: "text", number: 1, type: 9, label: 1 }] }],
        service: [
          {
            name: "Stock",
            method: [
              { name: "Get", inputType: ".shop.Word", outputType: ".shop.Word" },
              {
                name: "Watch",
                inputType: ".shop.Word",
                outputType: ".shop.Word",
                serverStreaming: true,
              },
            ],
          },
        ],
      },
    ],
  });
  const made = createFileRegistry(set).getService("shop.Stock");
  if (made === undefined) throw new Error("the descriptor has no service");
  return made;
}
